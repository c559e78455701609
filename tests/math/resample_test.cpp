#include "deeplab/math/resample.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

namespace deeplab::math {
namespace {

constexpr std::int64_t sizes[] = {1, 2, 3, 7, 30, 31, 64, 97, 375, 500, 513, 1026};

TEST(TriangleFilter, SpansLieInTheInputAndWeightsAddToOne) {
    for (const std::int64_t in : sizes) {
        for (const std::int64_t out : sizes) {
            std::vector<std::int32_t> weights(static_cast<std::size_t>(triangle_taps(in, out)));
            std::int64_t before = 0;
            for (std::int64_t o = 0; o < out; ++o) {
                const TriangleSpan span = triangle_span(o, in, out);
                ASSERT_GE(span.first, before) << in << " -> " << out << " at " << o;
                ASSERT_LE(span.first + span.count, in);
                ASSERT_GT(span.count, 0);
                ASSERT_LE(span.count, triangle_taps(in, out));
                before = span.first;
                triangle_weights(span, weights.data());
                const std::int64_t sum = std::accumulate(
                    weights.begin(), weights.begin() + span.count, std::int64_t{0});
                ASSERT_LE(std::abs(sum - (1 << resample_bits)), span.count);
            }
        }
    }
}

TEST(TriangleFilter, TheSameSizeIsTheIdentity) {
    for (std::int64_t o = 0; o < 500; ++o) {
        const TriangleSpan span = triangle_span(o, 500, 500);
        std::int32_t weights[2];
        triangle_weights(span, weights);
        for (std::int64_t k = 0; k < span.count; ++k) {
            EXPECT_EQ(weights[k], span.first + k == o ? 1 << resample_bits : 0);
        }
    }
}

// Halving: centre 2o + 1, half width 2: weights 1/8, 3/8, 3/8, 1/8 of pixels 2o - 1 … 2o + 2.
TEST(TriangleFilter, ShrinkingAntialiases) {
    const TriangleSpan span = triangle_span(3, 16, 8);
    ASSERT_EQ(span.first, 5);
    ASSERT_EQ(span.count, 4);
    std::int32_t weights[4];
    triangle_weights(span, weights);
    constexpr std::int32_t eighth = 1 << (resample_bits - 3);
    EXPECT_EQ(weights[0], eighth);
    EXPECT_EQ(weights[1], 3 * eighth);
    EXPECT_EQ(weights[2], 3 * eighth);
    EXPECT_EQ(weights[3], eighth);
}

TEST(TriangleFilter, RoundsToTheNearestAndStopsAtWhite) {
    constexpr std::int32_t one = 1 << resample_bits, half = one / 2;
    EXPECT_EQ(resample_round(half), 0);
    EXPECT_EQ(resample_round(half + half - 1), 0);
    EXPECT_EQ(resample_round(half + half), 1);
    EXPECT_EQ(resample_round(255 * one + half), 255);
    EXPECT_EQ(resample_round(256 * one), 255);
}

TEST(NearestWalk, FollowsItsDefinitionAndStaysInside) {
    for (const std::int64_t in : sizes) {
        for (const std::int64_t out : sizes) {
            NearestWalk walk(in, out);
            for (std::int64_t o = 0; o < out; ++o) {
                const double at = (static_cast<double>(o) + 0.5) * static_cast<double>(in) /
                                  static_cast<double>(out);
                const std::int64_t i = walk.next();
                ASSERT_GE(i, 0);
                ASSERT_LT(i, in);
                // At a tie the walk's rounding decides.
                if (std::abs(at - std::round(at)) > 1e-6) {
                    ASSERT_EQ(i, static_cast<std::int64_t>(at));
                }
            }
        }
    }
}

}  // namespace
}  // namespace deeplab::math
