#include "deeplab/math/bilinear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <tuple>

namespace deeplab::math {
namespace {

class BilinearTap : public ::testing::TestWithParam<std::tuple<std::int64_t, std::int64_t, bool>> {
};

// Against the definition in double precision.
TEST_P(BilinearTap, FollowsTheDefinition) {
    const auto [in, out, align] = GetParam();
    for (std::int64_t o = 0; o < out; ++o) {
        double s = 0;
        if (align) {
            s = out > 1 ? static_cast<double>(o) * static_cast<double>(in - 1) /
                              static_cast<double>(out - 1)
                        : 0.0;
        } else {
            s = (static_cast<double>(o) + 0.5) * static_cast<double>(in) /
                    static_cast<double>(out) -
                0.5;
            s = std::clamp(s, 0.0, static_cast<double>(in - 1));
        }
        const Tap tap = bilinear_tap(o, in, out, align);
        ASSERT_GE(tap.i0, 0);
        ASSERT_LT(tap.i1, in);
        ASSERT_EQ(tap.i1, std::min(tap.i0 + 1, in - 1));
        // Beyond the last pixel both taps are that pixel, whatever t is.
        const double at = static_cast<double>(tap.i0) +
                          (tap.i1 == tap.i0 ? 0.0 : static_cast<double>(tap.t));
        ASSERT_NEAR(at, s, 1e-4) << "output " << o;
    }
}

INSTANTIATE_TEST_SUITE_P(Sizes, BilinearTap,
                         ::testing::Combine(::testing::Values<std::int64_t>(1, 2, 7, 33, 129, 513),
                                            ::testing::Values<std::int64_t>(1, 2, 5, 33, 129, 513,
                                                                            1026),
                                            ::testing::Bool()));

TEST(BilinearTapExact, CornersMapOntoCorners) {
    EXPECT_EQ(bilinear_tap(0, 33, 129, true).i0, 0);
    EXPECT_EQ(bilinear_tap(0, 33, 129, true).t, 0.0f);
    const Tap last = bilinear_tap(128, 33, 129, true);
    EXPECT_EQ(static_cast<float>(last.i0) + last.t, 32.0f);
    for (std::int64_t o = 0; o < 129; o += 4)
        EXPECT_EQ(bilinear_tap(o, 33, 129, true).t, 0.0f);  // 513 -> 129 -> 33
}

}  // namespace
}  // namespace deeplab::math
