#pragma once
// Bilinear source coordinates: the one definition for forward, backward, every backend and the
// tests.

#include <cstdint>

#include "deeplab/math/fused.h"
#include "deeplab/math/macros.h"

namespace deeplab::math {

// Output position o reads inputs i0 and i1 with weights 1 - t and t.
struct Tap {
    std::int64_t i0, i1;
    float t;
};

// torch.nn.functional.interpolate(mode="bilinear"). align_corners: corner pixels map onto each
// other (513 -> 129 -> 33). Otherwise half-pixel centres, clamped at the
// borders. An input of one pixel is repeated.
DEEPLAB_HD inline Tap bilinear_tap(std::int64_t o, std::int64_t in, std::int64_t out,
                                   bool align_corners) {
    float s;
    if (align_corners) {
        s = out > 1
                ? static_cast<float>(o) * (static_cast<float>(in - 1) / static_cast<float>(out - 1))
                : 0.0f;
    } else {
        s = subtract(
            (static_cast<float>(o) + 0.5f) * (static_cast<float>(in) / static_cast<float>(out)),
            0.5f);
        if (s < 0.0f) s = 0.0f;
    }
    std::int64_t i0 = static_cast<std::int64_t>(s);
    if (i0 > in - 1) i0 = in - 1;
    const std::int64_t i1 = i0 + 1 < in ? i0 + 1 : i0;
    return Tap{i0, i1, subtract(s, static_cast<float>(i0))};
}

}  // namespace deeplab::math
