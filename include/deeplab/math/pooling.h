#pragma once
// Windows of a pooling, and which value of a window wins (torch.nn.MaxPool2d).

#include <cstdint>

#include "deeplab/math/macros.h"

namespace deeplab::math {

// Positions [first, last) of a window that lie in [0, size); position 0 of the window is at o *
// stride - pad.
struct Window {
    std::int64_t first, last;
};

DEEPLAB_HD inline Window pooling_window(std::int64_t o, std::int64_t kernel, std::int64_t stride,
                                        std::int64_t pad, std::int64_t size) {
    const std::int64_t begin = o * stride - pad, end = begin + kernel;
    return {begin > 0 ? begin : 0, end < size ? end : size};
}

// In row order the first of equals wins; NaN wins over everything before it, as in torch.
DEEPLAB_HD inline bool wins(float value, float best) { return value > best || value != value; }

}  // namespace deeplab::math
