#include "elementwise.h"

#include <gtest/gtest.h>

#include "device.h"

namespace deeplab::testing {
namespace {

class ElementwiseKernels
    : public ::testing::TestWithParam<std::tuple<Shape, DeviceTensor::Margin, DType>> {};

TEST_P(ElementwiseKernels, DropoutDrawsTheReferencesMask) {
    const auto& [shape, margin, type] = GetParam();
    const reference::Tensor x = random_in(type, shape, 1);
    std::vector<math::SampleKey> keys;
    for (std::uint32_t n = 0; n < static_cast<std::uint32_t>(shape.n); ++n)
        keys.push_back({7 + n, 1000 * n});
    const DeviceArray<math::SampleKey> samples(keys);
    const DeviceTensor device_x(x, type, margin), y(shape, type, margin);
    for (const float probability : {0.1f, 0.5f}) {
        cuda::dropout(no_stream, {99, probability, 2}, samples.data(), device_x.view(), y.view());
        const reference::Tensor expected = rounded(type,
                                                   reference::dropout(x, probability, 2, 99, keys));
        EXPECT_TRUE(near(y.values().data, expected.data, limit(type)));
        const Values got = y.values().data;
        for (std::size_t i = 0; i < got.size(); ++i)
            EXPECT_EQ(got[i] == 0, expected.data[i] == 0) << i;
        EXPECT_TRUE(y.margin_untouched());
    }
}

TEST_P(ElementwiseKernels, Sum) {
    const auto& [shape, margin, type] = GetParam();
    for (const std::size_t count : {1, 2, 8}) {
        std::vector<reference::Tensor> in;
        std::vector<DeviceTensor> device_in;
        std::vector<View> views;
        for (std::size_t i = 0; i < count; ++i) {
            in.push_back(random_in(type, shape, 20 + i));
            device_in.emplace_back(in.back(), type, i == 1 ? margin : DeviceTensor::Margin{});
            views.push_back(device_in.back().view());
        }
        const DeviceTensor out(shape, type, margin);
        cuda::sum(no_stream, views, out.view());
        EXPECT_TRUE(near(out.values().data, rounded(type, reference::sum(in)).data, limit(type)));
        EXPECT_TRUE(out.margin_untouched());
    }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, ElementwiseKernels,
    ::testing::Combine(::testing::Values(Shape{2, 64, 9, 7}, Shape{1, 304, 3, 5},
                                         Shape{3, 21, 5, 5}, Shape{1, 3, 1, 1},
                                         Shape{4, 48, 13, 11}, Shape{1, 2048, 3, 1}),
                       ::testing::Values(DeviceTensor::Margin{}, DeviceTensor::Margin{8, 16},
                                         DeviceTensor::Margin{1, 2}),
                       ::testing::Values(DType::f32, DType::bf16)));

}  // namespace
}  // namespace deeplab::testing
