#pragma once
// Pooling ops of graph/plan.h.

#include "buffer.h"
#include "deeplab/graph/plan.h"
#include "threads.h"

namespace deeplab::cpu {

std::int64_t pooling_scratch_bytes(const Threads& threads, std::int64_t channels);

// arg: none in a plan without gradients.
void max_pool(const Threads& threads, const graph::MaxPool& op, const View& x, const View& y,
              const View& arg, const Buffer& scratch);
void max_pool_grad(const Threads& threads, const graph::MaxPoolGrad& op, const View& dy,
                   const View& arg, const View& dx);
void global_average_pool(const Threads& threads, const View& x, const View& y,
                         const Buffer& scratch);
void global_average_pool_grad(const Threads& threads, const View& dy, const View& dx);

}  // namespace deeplab::cpu
