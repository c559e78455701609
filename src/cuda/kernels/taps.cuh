#pragma once
// Bilinear taps read the other way round.

#include <cuda_runtime.h>

#include "deeplab/math/bilinear.h"
#include "deeplab/math/macros.h"

namespace deeplab::cuda {

struct Span {
    int first, last;  // [first, last)
};

// Holds every output that input i contributes to, and few others: those have weight zero. Outputs
// lie (in - 1) / (out - 1) apart, and the ones sought less than 1 from i.
DEEPLAB_HD inline Span contributions(int i, int in, int out) {
    if (in == 1 || out == 1) return {0, out};
    const float apart = static_cast<float>(out - 1) / static_cast<float>(in - 1);
    const int first = static_cast<int>(static_cast<float>(i - 1) * apart) - 1,
              last = static_cast<int>(static_cast<float>(i + 1) * apart) + 2;
    return {first > 0 ? first : 0, last < out ? last : out};
}

// What output o takes of input i.
__device__ __forceinline__ float weight(int o, int i, int in, int out) {
    const math::Tap tap = math::bilinear_tap(o, in, out, true);
    return (tap.i0 == i ? 1.0f - tap.t : 0.0f) + (tap.i1 == i ? tap.t : 0.0f);
}

}  // namespace deeplab::cuda
