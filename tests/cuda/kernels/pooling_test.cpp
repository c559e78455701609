#include "pooling.h"

#include <gtest/gtest.h>

#include "device.h"

namespace deeplab::testing {
namespace {

struct Case {
    Shape x;
    graph::MaxPool op = {};
    DeviceTensor::Margin margin = {};  // around x and its gradient
};

void PrintTo(const Case& c, std::ostream* out) {
    *out << to_string(c.x) << " kernel " << c.op.kernel << " stride " << c.op.stride;
}

class PoolingKernels : public ::testing::TestWithParam<std::tuple<Case, DType>> {
protected:
    const Case c = std::get<0>(GetParam());
    const DType type = std::get<1>(GetParam());
    reference::Tensor x = random_in(type, c.x, 1);
};

TEST_P(PoolingKernels, Max) {
    for (std::size_t i = 0; i < x.data.size(); i += 3) x.data[i] = 0.25;  // many equals
    const reference::MaxPool expected = reference::max_pool(x, c.op);
    const DeviceTensor device_x(x, type, c.margin), y(expected.y.shape, type),
        arg(expected.y.shape, DType::u8);
    cuda::max_pool(no_stream, c.op, device_x.view(), y.view(), arg.view());
    EXPECT_EQ(y.values().data, expected.y.data);
    EXPECT_EQ(arg.values().data, expected.arg.data);
    // Without winners, as in a plan without gradients.
    const DeviceTensor again(expected.y.shape, type);
    cuda::max_pool(no_stream, c.op, device_x.view(), again.view(), {});
    EXPECT_EQ(again.values().data, expected.y.data);

    const reference::Tensor dy = random_in(type, y.view().shape, 2);
    const DeviceTensor device_dy(dy, type), dx(c.x, type, c.margin);
    cuda::max_pool_grad(no_stream, {c.op.kernel, c.op.stride, c.op.pad}, device_dy.view(),
                        arg.view(), dx.view());
    EXPECT_TRUE(near(dx.values().data,
                     rounded(type, reference::max_pool_grad(dy, expected.arg, c.x, c.op)).data,
                     limit(type)));
    EXPECT_TRUE(dx.margin_untouched());
}

TEST_P(PoolingKernels, GlobalAverage) {
    const Shape one{c.x.n, c.x.c, 1, 1};
    const DeviceTensor device_x(x, type, c.margin), y(one, type), dx(c.x, type, c.margin);
    cuda::global_average_pool(no_stream, device_x.view(), y.view());
    EXPECT_TRUE(
        near(y.values().data, rounded(type, reference::global_average_pool(x)).data, limit(type)));
    const reference::Tensor dy = random_in(type, one, 2);
    const DeviceTensor device_dy(dy, type);
    cuda::global_average_pool_grad(no_stream, device_dy.view(), dx.view());
    EXPECT_TRUE(near(dx.values().data,
                     rounded(type, reference::global_average_pool_grad(dy, c.x)).data,
                     limit(type)));
    EXPECT_TRUE(dx.margin_untouched());
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, PoolingKernels,
    ::testing::Combine(::testing::Values(Case{{2, 64, 17, 11}}, Case{{1, 3, 8, 9}},
                                         Case{{3, 21, 7, 5}, {}, {1, 2}},
                                         Case{{1, 304, 5, 6}, {}, {16, 8}}, Case{{1, 2048, 3, 2}},
                                         Case{{4, 48, 33, 2}, {2, 2, 0}}, Case{{1, 16, 1, 1}},
                                         Case{{2, 8, 6, 6}, {5, 1, 2}}),
                       ::testing::Values(DType::f32, DType::bf16)));

TEST(PoolingKernel, NanWins) {
    reference::Tensor x({1, 8, 5, 5});
    x.at(0, 2, 0, 0) = NAN;
    x.at(0, 2, 0, 1) = 9;
    x.at(0, 2, 4, 4) = 7;
    const DeviceTensor device_x(x, DType::bf16), y({1, 8, 3, 3}, DType::bf16);
    cuda::max_pool(no_stream, {}, device_x.view(), y.view(), {});
    EXPECT_TRUE(std::isnan(y.values().at(0, 2, 0, 0)));
    EXPECT_EQ(y.values().at(0, 2, 2, 2), 7);
    EXPECT_EQ(y.values().at(0, 1, 0, 0), 0);
}

}  // namespace
}  // namespace deeplab::testing
