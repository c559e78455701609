#pragma once
// The optimizer over the flat buffers.

#include <cstdint>
#include <vector>

#include "buffer.h"
#include "deeplab/graph/plan.h"
#include "threads.h"

namespace deeplab::cpu {

struct UpdateResult {
    bool finite = true;
    double norm = 0;  // of the averaged gradient, before clipping
};

std::int64_t update_scratch_bytes(std::int64_t parameters);

// gradients: sums over ranks; times `scale` they are the averaged gradient. Not finite: nothing
// changes.
UpdateResult update(const Threads& threads, const graph::UpdateRule& rule, std::int64_t parameters,
                    double learning_rate, double scale, float* values, const float* gradients,
                    float* momenta, const Buffer& scratch);

}  // namespace deeplab::cpu
