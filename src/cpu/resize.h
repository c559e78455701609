#pragma once
// Bilinear resizing (math/bilinear.h), and its adjoint.

#include <cstdint>
#include <vector>

#include "buffer.h"
#include "deeplab/math/bilinear.h"
#include "threads.h"

namespace deeplab::cpu {

// One axis: what every output reads, and the same the other way round.
struct Axis {
    struct Share {
        std::int64_t output;
        float weight;
    };
    std::vector<math::Tap> taps;  // by output
    // What input i contributed to: shares[first[i]] .. shares[first[i + 1]].
    std::vector<Share> shares;
    std::vector<std::int64_t> first;

    Axis(std::int64_t in, std::int64_t out, bool align_corners);
};

void upsample(const Threads& threads, const Axis& rows, const Axis& columns, const View& x,
              const View& y);
// Every input pixel collects from the outputs it contributed to.
void upsample_grad(const Threads& threads, const Axis& rows, const Axis& columns, const View& dy,
                   const View& dx);

}  // namespace deeplab::cpu
