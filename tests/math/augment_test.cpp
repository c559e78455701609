#include "deeplab/math/augment.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace deeplab::math {
namespace {

TEST(Draws, EveryPurposeHasItsOwnWord) {
    const AugmentationDraws d = augmentation_draws(5, {6, 7});
    const Philox4 a = sample_random(5, {6, 7}, 0, 0), b = sample_random(5, {6, 7}, 0, 1);
    EXPECT_EQ(d.flip, a.v[0]);
    EXPECT_EQ(d.size, a.v[1]);
    EXPECT_EQ(d.top, a.v[2]);
    EXPECT_EQ(d.left, a.v[3]);
    EXPECT_EQ(d.blur, b.v[0]);
    EXPECT_EQ(d.radius, b.v[1]);
}

TEST(Draws, EdgesIncludeBothEnds) {
    EXPECT_EQ(draw_edge(0, 256, 1026), 256);
    EXPECT_EQ(draw_edge(0xffffffffu, 256, 1026), 1026);
    EXPECT_EQ(draw_edge(0x12345678u, 300, 300), 300);
    std::set<std::int64_t> seen;
    for (std::uint32_t i = 0; i < 200; ++i) seen.insert(draw_edge(i * 21474836u, 10, 14));
    EXPECT_EQ(seen, (std::set<std::int64_t>{10, 11, 12, 13, 14}));
}

TEST(Draws, FactorsAreTheStepsOfTheRange) {
    std::set<double> seen;
    for (std::uint32_t i = 0; i < 1000; ++i) seen.insert(draw_factor(i * 4294967u, 0.5, 2.0, 0.25));
    EXPECT_EQ(seen, (std::set<double>{0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0}));
    EXPECT_EQ(draw_factor(0xffffffffu, 0.5, 2.0, 0.25), 2.0);
    EXPECT_EQ(draw_factor(0x80000000u, 0.5, 2.0, 0.0), 1.25);
}

TEST(Geometry, TheLongEdgeFollowsRoundedDown) {
    const Size landscape = short_edge_size(500, 375, 513),
               portrait = short_edge_size(333, 500, 256);
    EXPECT_EQ(landscape.height, 513);
    EXPECT_EQ(landscape.width, 684);
    EXPECT_EQ(portrait.width, 256);
    EXPECT_EQ(portrait.height, 384);  // 384.38
    const Size factor = factor_size(500, 375, 0.75), tiny = factor_size(1, 1, 0.5);
    EXPECT_EQ(factor.width, 375);
    EXPECT_EQ(factor.height, 281);  // 281.25
    EXPECT_EQ(tiny.width, 1);
    EXPECT_EQ(tiny.height, 1);
}

TEST(Geometry, CropsStayInside) {
    EXPECT_EQ(draw_crop(0xffffffffu, 500, 513), 0);
    EXPECT_EQ(draw_crop(0xffffffffu, 513, 513), 0);
    EXPECT_EQ(draw_crop(0xffffffffu, 684, 513), 171);
    EXPECT_EQ(draw_crop(0, 684, 513), 0);
    // Python: round((w - crop) / 2).
    EXPECT_EQ(centre_crop(514, 513), 0);
    EXPECT_EQ(centre_crop(515, 513), 1);
    EXPECT_EQ(centre_crop(516, 513), 2);
    EXPECT_EQ(centre_crop(684, 513), 86);
    EXPECT_EQ(centre_crop(100, 513), 0);
}

// Three passes of the box have the variance of the Gaussian, in each pass (length^2 - 1) / 12 with
// a correction for the fractional part that the paper derives: compare the variance of the discrete
// kernel itself.
TEST(Blur, TheBoxHasTheVarianceAsked) {
    for (const float sigma : {0.1f, 0.5f, 0.99f, 1.0f, 2.5f, 7.0f}) {
        const ExtendedBox box = gaussian_box(sigma);
        const double one = 1 << blur_bits;
        double sum = box.inner / one, variance = 0;
        for (int k = 1; k <= box.radius + 1; ++k) {
            const double w = (k <= box.radius ? box.inner : box.outer) / one;
            sum += 2 * w;
            variance += 2 * w * k * k;
        }
        EXPECT_NEAR(sum, 1.0, 1e-6) << sigma;
        EXPECT_NEAR(variance * blur_passes, sigma * sigma, 1e-3 * sigma * sigma) << sigma;
    }
}

TEST(Blur, AFlatAreaStaysFlat) {
    for (const float sigma : {0.1f, 0.7f, 1.0f, 3.0f}) {
        const ExtendedBox box = gaussian_box(sigma);
        for (const std::uint32_t v : {0u, 1u, 127u, 255u}) {
            EXPECT_EQ(extended_box(box, v * static_cast<std::uint32_t>(2 * box.radius + 1), 2 * v),
                      v);
        }
    }
}

TEST(Normalisation, IsToTensorThenNormalize) {
    EXPECT_FLOAT_EQ(normalised(0, 0.485f, 0.229f), -2.1179039f);
    EXPECT_FLOAT_EQ(normalised(255, 0.406f, 0.225f), 2.64f);
}

}  // namespace
}  // namespace deeplab::math
