#include "deeplab/math/philox.h"

#include <gtest/gtest.h>

#include <set>

namespace deeplab::math {
namespace {

void expect_block(const Philox4& got, std::uint32_t a, std::uint32_t b, std::uint32_t c,
                  std::uint32_t d) {
    EXPECT_EQ(got.v[0], a);
    EXPECT_EQ(got.v[1], b);
    EXPECT_EQ(got.v[2], c);
    EXPECT_EQ(got.v[3], d);
}

// The known-answer vectors that Random123 publishes for philox4x32-10.
TEST(Philox, KnownAnswers) {
    expect_block(philox(0, {{0, 0, 0, 0}}), 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8);
    constexpr std::uint32_t ones = 0xffffffff;
    expect_block(philox(0xffffffffffffffffull, {{ones, ones, ones, ones}}), 0x408f276d, 0x41c83b0e,
                 0xa20bc7c6, 0x6d5451fd);
    // Digits of pi: the only one that tells the words of counter and key apart.
    expect_block(philox(0x299f31d0a4093822ull, {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}),
                 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1);
}

TEST(Philox, UniformCoversItsRangeAndNoMore) {
    EXPECT_EQ(uniform(0), 0.0f);
    EXPECT_EQ(uniform(0x80000000u), 0.5f);
    EXPECT_LT(uniform(0xffffffffu), 1.0f);
    EXPECT_EQ(uniform(0xffffffffu), 1.0f - 1.0f / 16777216.0f);
}

TEST(Philox, EveryCoordinateOfASampleMatters) {
    std::set<std::uint32_t> seen;
    seen.insert(sample_random(1, {2, 3}, 4, 5).v[0]);
    seen.insert(sample_random(9, {2, 3}, 4, 5).v[0]);
    seen.insert(sample_random(1, {9, 3}, 4, 5).v[0]);
    seen.insert(sample_random(1, {2, 9}, 4, 5).v[0]);
    seen.insert(sample_random(1, {2, 3}, 9, 5).v[0]);
    seen.insert(sample_random(1, {2, 3}, 4, 9).v[0]);
    EXPECT_EQ(seen.size(), 6u);
}

TEST(Philox, DropoutKeepsTheRightShare) {
    constexpr std::uint32_t n = 100000;
    for (const float p : {0.1f, 0.5f}) {
        std::uint32_t kept = 0;
        for (std::uint32_t i = 0; i < n; ++i) kept += dropout_keeps(7, {1, 2}, 3, i, p);
        EXPECT_NEAR(kept / static_cast<double>(n), 1.0 - p,
                    5 * 0.5 / 316.0);  // five standard deviations
    }
    for (std::uint32_t i = 0; i < 1000; ++i) EXPECT_TRUE(dropout_keeps(7, {1, 2}, 3, i, 0.0f));
}

}  // namespace
}  // namespace deeplab::math
