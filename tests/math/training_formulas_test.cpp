// The formulas that training loops and kernels share, against double precision.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "deeplab/math/activation.h"
#include "deeplab/math/batch_norm.h"
#include "deeplab/math/cross_entropy.h"
#include "deeplab/math/pooling.h"
#include "deeplab/math/sgd.h"

namespace deeplab::math {
namespace {

TEST(ExpNonpositive, TwoUnitsInTheLastPlace) {
    for (int i = 0; i <= 870000; ++i) {
        const float x = -1e-4f * static_cast<float>(i);
        const double exact = std::exp(static_cast<double>(x));
        if (x < -87.0f) break;
        ASSERT_NEAR(static_cast<double>(exp_nonpositive(x)), exact, 2 * 1.2e-7 * exact) << x;
    }
    EXPECT_EQ(exp_nonpositive(0.0f), 1.0f);
    EXPECT_LT(exp_nonpositive(-1e30f), 2e-38f);
    EXPECT_LT(exp_nonpositive(-std::numeric_limits<float>::infinity()), 2e-38f);
    EXPECT_TRUE(std::isnan(exp_nonpositive(NAN)));
}

TEST(CrossEntropy, IsMinusLogOfSoftmax) {
    // Logits 1, 3, 2; label 2: -log(e^2 / (e + e^3 + e^2)).
    const float sum = exp_nonpositive(-2.0f) + 1.0f + exp_nonpositive(-1.0f);
    EXPECT_NEAR(cross_entropy(2.0f, 3.0f, sum), 1.4076059644443804, 1e-6);
}

TEST(BatchNorm, MomentsAndRunningStatistics) {
    const Moments m = moments(1 + 2 + 6, 1 + 4 + 36, 3);  // of 1, 2, 6
    EXPECT_DOUBLE_EQ(m.mean, 3);
    EXPECT_DOUBLE_EQ(m.variance, 14.0 / 3);
    EXPECT_DOUBLE_EQ(unbiased(m.variance, 3), 7);
    EXPECT_DOUBLE_EQ(unbiased(0, 1), 0);
    EXPECT_EQ(moments(0.3, 0.09 - 1e-18, 1).variance >= 0, true)
        << "rounding leaves no negative variance";
    EXPECT_FLOAT_EQ(running(2.0f, 7.0, 0.1f), 2.5f);
    EXPECT_FLOAT_EQ(inverse_deviation(4.0 - 1e-5, 1e-5f), 0.5f);
}

TEST(BatchNorm, AffineIsTheDefinition) {
    const Affine a = batch_norm_affine(1.5f, -0.25f, 3.0f, 0.5f);
    EXPECT_FLOAT_EQ(batch_norm(7.0f, a), 1.5f * (7.0f - 3.0f) * 0.5f - 0.25f);
}

TEST(Activation, PassesNumbersAboveItsKinkAndNaN) {
    EXPECT_EQ(activated(Activation::relu, -1.0f), 0.0f);
    EXPECT_EQ(activated(Activation::relu, 2.0f), 2.0f);
    EXPECT_TRUE(std::isnan(activated(Activation::relu, NAN)));
    EXPECT_EQ(activated(Activation::none, -1.0f), -1.0f);
    EXPECT_TRUE(passes(Activation::relu, 1e-30f));
    EXPECT_FALSE(passes(Activation::relu, 0.0f)) << "torch's choice at the kink";
    EXPECT_TRUE(passes(Activation::none, -1.0f));
}

TEST(Activation, Relu6EndsAtSixAndPassesStrictlyBetweenItsKinks) {
    EXPECT_EQ(activated(Activation::relu6, -1.0f), 0.0f);
    EXPECT_EQ(activated(Activation::relu6, 5.5f), 5.5f);
    EXPECT_EQ(activated(Activation::relu6, 7.0f), 6.0f);
    EXPECT_EQ(activated(Activation::relu6, INFINITY), 6.0f);
    EXPECT_TRUE(std::isnan(activated(Activation::relu6, NAN)));
    EXPECT_TRUE(passes(Activation::relu6, 1e-30f));
    EXPECT_TRUE(passes(Activation::relu6, 5.999f));
    EXPECT_FALSE(passes(Activation::relu6, 0.0f)) << "torch's choice at the kinks";
    EXPECT_FALSE(passes(Activation::relu6, 6.0f)) << "torch's choice at the kinks";
    EXPECT_FALSE(passes(Activation::relu6, 6.001f));
}

TEST(Sgd, TwoStepsByHand) {
    float value = 1.0f, buffer = 0.0f;
    const SgdRule rule{0.1f, 0.9f, 0.01f, 1};
    sgd(value, buffer, 0.5f, rule);  // d = 0.51, buffer = 0.51, value = 0.949
    EXPECT_FLOAT_EQ(buffer, 0.51f);
    EXPECT_FLOAT_EQ(value, 0.949f);
    sgd(value, buffer, 0.5f, rule);  // d = 0.50949, buffer = 0.96849, value = 0.852151
    EXPECT_FLOAT_EQ(buffer, 0.96849f);
    EXPECT_FLOAT_EQ(value, 0.852151f);
    float twice = 1.0f, other = 0.0f;
    sgd(twice, other, 0.5f, {0.1f, 0.9f, 0.01f, 2});
    EXPECT_EQ(twice, value);
    EXPECT_EQ(other, buffer);
    // Into the gradient: the second step's d = 0.5 + 0.01 + 0.00949, so one 0.01 more than above.
    sgd(twice = 1.0f, other = 0.0f, 0.5f, {0.1f, 0.9f, 0.01f, 2, true});
    EXPECT_FLOAT_EQ(other, 0.97849f);
    EXPECT_FLOAT_EQ(twice, 0.851151f);
}

TEST(Sgd, ClipFactor) {
    EXPECT_EQ(clip_factor(5, 0), 1.0);
    EXPECT_EQ(clip_factor(0.5, 1), 1.0);
    EXPECT_NEAR(clip_factor(4, 1), 0.25, 1e-6);
}

TEST(Pooling, WindowsAndWinners) {
    const Window first = pooling_window(0, 3, 2, 1, 5), last = pooling_window(2, 3, 2, 1, 5);
    EXPECT_EQ(first.first, 0);
    EXPECT_EQ(first.last, 2);
    EXPECT_EQ(last.first, 3);
    EXPECT_EQ(last.last, 5);
    EXPECT_FALSE(wins(1.0f, 1.0f));
    EXPECT_TRUE(wins(NAN, 1.0f));
    EXPECT_FALSE(wins(1.0f, NAN));
}

}  // namespace
}  // namespace deeplab::math
