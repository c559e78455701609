#include "deeplab/math/bf16.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "deeplab/math/philox.h"

namespace deeplab::math {
namespace {

TEST(Bf16, AllOfThemAreThemselves) {
    for (std::uint32_t i = 0; i < 1u << 16; ++i) {
        const auto bits = static_cast<std::uint16_t>(i);
        const float value = from_bf16(bits);
        ASSERT_EQ(std::bit_cast<std::uint32_t>(value), i << 16);
        if (std::isnan(value)) {
            ASSERT_TRUE(std::isnan(round_to_bf16(value))) << i;
            ASSERT_EQ(std::signbit(round_to_bf16(value)), std::signbit(value)) << i;
        } else {
            ASSERT_EQ(to_bf16(value), bits);
        }
    }
}

// The nearer of the two neighbours by their distances in double precision, the even one of equals.
// Beyond the largest number stands what the next one would be: that is where infinity begins.
std::uint16_t nearest(float value) {
    const auto below = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
    const auto above = static_cast<std::uint16_t>(below + 1);
    const auto number = [](std::uint16_t bits) {
        if ((bits & 0x7fff) == 0x7f80) return (bits & 0x8000) != 0 ? -0x1p128 : 0x1p128;
        return static_cast<double>(from_bf16(bits));
    };
    const double v = static_cast<double>(value), down = std::abs(v - number(below)),
                 up = std::abs(v - number(above));
    if (down != up) return down < up ? below : above;
    return below % 2 == 0 ? below : above;
}

TEST(Bf16, RoundsToNearestEven) {
    const auto check = [](std::uint32_t bits) {
        const auto value = std::bit_cast<float>(bits);
        if (!std::isfinite(value)) return;
        ASSERT_EQ(to_bf16(value), nearest(value)) << std::hexfloat << value;
    };
    // Around every tie, exponents and signs alike.
    for (std::uint32_t upper = 0; upper < 1u << 16; ++upper) {
        for (const std::uint32_t lower : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})
            check((upper << 16) | lower);
    }
    for (std::uint32_t i = 0; i < 200000; ++i) {
        for (const std::uint32_t bits : philox(1, {{i, 0, 0, 0}}).v) check(bits);
    }
}

TEST(Bf16, Limits) {
    const float infinity = std::numeric_limits<float>::infinity();
    EXPECT_EQ(round_to_bf16(infinity), infinity);
    EXPECT_EQ(round_to_bf16(-infinity), -infinity);
    EXPECT_EQ(round_to_bf16(std::numeric_limits<float>::max()), infinity);
    EXPECT_TRUE(std::signbit(round_to_bf16(-0.0f)));
    EXPECT_EQ(round_to_bf16(1.0f + 0x1p-8f), 1.0f);  // a tie: 1 is even
    EXPECT_EQ(round_to_bf16(1.0f + 0x3p-8f), 1.0f + 0x1p-6f);
    // A NaN whose payload stands in the lower half alone.
    EXPECT_TRUE(std::isnan(round_to_bf16(std::bit_cast<float>(0x7f800001u))));
    EXPECT_TRUE(std::isnan(round_to_bf16(std::bit_cast<float>(0xffffffffu))));
}

}  // namespace
}  // namespace deeplab::math
