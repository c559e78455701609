#pragma once
// bfloat16: the upper half of a float, 8 significant bits, the float's range.

#include <cstdint>
#include <cstring>

#include "deeplab/math/macros.h"

namespace deeplab::math {

// Rounds to nearest, ties to even; what is too large becomes infinite. NaN stays NaN (quiet: its
// upper half alone could look infinite).
DEEPLAB_HD inline std::uint16_t to_bf16(float value) {
    std::uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    const std::uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u), quiet = bits | 0x400000u;
    return static_cast<std::uint16_t>((nan ? quiet : rounded) >> 16);
}

// Exact.
DEEPLAB_HD inline float from_bf16(std::uint16_t value) {
    const std::uint32_t bits = static_cast<std::uint32_t>(value) << 16;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

DEEPLAB_HD inline float round_to_bf16(float value) { return from_bf16(to_bf16(value)); }

}  // namespace deeplab::math
