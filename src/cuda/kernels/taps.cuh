#pragma once
// Bilinear taps read the other way round.

#include <cuda_runtime.h>

#include "deeplab/math/bilinear.h"
#include "deeplab/math/macros.h"

namespace deeplab::cuda {

struct Span {
    int first, last;  // [first, last)
};

// Holds every output that input i contributes to, and few others: those have weight zero. Counted
// in inputs, the outputs sought lie less than 1 from i, and neighbours among them 1 / apart from
// each other. Output 0 stands at 0, without aligned corners at 0.5 / apart - 0.5; what would stand
// outside of the input then stands on its border.
DEEPLAB_HD inline Span contributions(int i, int in, int out, bool align_corners) {
    if (in == 1 || out == 1) return {0, out};
    const float apart = align_corners ? static_cast<float>(out - 1) / static_cast<float>(in - 1)
                                      : static_cast<float>(out) / static_cast<float>(in),
                shift = align_corners ? 0.0f : 0.5f;
    const int first = static_cast<int>((static_cast<float>(i - 1) + shift) * apart - shift) - 1,
              last = static_cast<int>((static_cast<float>(i + 1) + shift) * apart - shift) + 2;
    return {first > 0 ? first : 0, last < out ? last : out};
}

// What output o takes of input i.
__device__ __forceinline__ float weight(int o, int i, int in, int out, bool align_corners) {
    const math::Tap tap = math::bilinear_tap(o, in, out, align_corners);
    return (tap.i0 == i ? 1.0f - tap.t : 0.0f) + (tap.i1 == i ? tap.t : 0.0f);
}

}  // namespace deeplab::cuda
