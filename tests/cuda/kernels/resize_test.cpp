#include "resize.h"

#include <gtest/gtest.h>

#include "device.h"

namespace deeplab::testing {
namespace {

struct Case {
    Shape x;
    std::int64_t height, width;
    DeviceTensor::Margin margin = {};  // around the larger tensor and its gradient
};

void PrintTo(const Case& c, std::ostream* out) {
    *out << to_string(c.x) << " to " << c.height << 'x' << c.width;
}

class ResizeKernels : public ::testing::TestWithParam<std::tuple<Case, DType>> {};

TEST_P(ResizeKernels, UpsampleAndItsAdjoint) {
    const auto& [c, type] = GetParam();
    const reference::Tensor x = random_in(type, c.x, 1);
    const DeviceTensor device_x(x, type), y({c.x.n, c.x.c, c.height, c.width}, type, c.margin);
    cuda::upsample(no_stream, device_x.view(), y.view());
    EXPECT_TRUE(near(y.values().data, rounded(type, reference::upsample(x, c.height, c.width)).data,
                     limit(type)));
    EXPECT_TRUE(y.margin_untouched());

    const reference::Tensor dy = random_in(type, y.view().shape, 2);
    const DeviceTensor device_dy(dy, type, c.margin), dx(c.x, type);
    cuda::upsample_grad(no_stream, device_dy.view(), dx.view());
    EXPECT_TRUE(
        near(dx.values().data, rounded(type, reference::upsample_grad(dy, c.x)).data, limit(type)));
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, ResizeKernels,
    ::testing::Combine(::testing::Values(Case{{2, 64, 9, 7}, 33, 25}, Case{{1, 256, 5, 5}, 17, 17},
                                         Case{{3, 48, 1, 1}, 13, 9, {8, 0}},
                                         Case{{2, 3, 6, 4}, 11, 15},
                                         Case{{1, 21, 3, 3}, 9, 10, {5, 2}},
                                         Case{{1, 304, 3, 2}, 5, 4, {16, 32}},
                                         Case{{1, 8, 2, 5}, 150, 5}, Case{{1, 8, 1, 4}, 3, 7},
                                         Case{{2, 24, 9, 9}, 5, 4}, Case{{1, 2048, 2, 2}, 3, 3},
                                         Case{{1, 16, 4, 4}, 1, 1}),
                       ::testing::Values(DType::f32, DType::bf16)));

}  // namespace
}  // namespace deeplab::testing
