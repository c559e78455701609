#include "layout.h"

#include <gtest/gtest.h>

#include "bias.h"
#include "device.h"

namespace deeplab::testing {
namespace {

class LayoutKernels : public ::testing::TestWithParam<std::tuple<Shape, Margin, DType>> {};

TEST_P(LayoutKernels, ThereAndBack) {
    const auto& [shape, margin, type] = GetParam();
    const reference::Tensor x = reference::random_tensor(shape, 1);
    const DeviceArray<float> host(x.data), back(x.data.size());
    const DeviceTensor device(shape, type, margin);
    cuda::from_nchw(no_stream, host.data(), device.view());
    EXPECT_EQ(device.values().data, rounded(type, x).data);
    EXPECT_TRUE(device.margin_untouched());
    cuda::to_nchw(no_stream, device.view(), back.data());
    const std::vector<float> returned = back.values();
    EXPECT_EQ(Values(returned.begin(), returned.end()), rounded(type, x).data);
}

TEST_P(LayoutKernels, Bias) {
    const auto& [shape, margin, type] = GetParam();
    const reference::Tensor y = random_in(type, shape, 1);
    const Values bias = reference::random_tensor({1, shape.c, 1, 1}, 2).data;
    const DeviceArray<float> device_bias(bias), dbias(bias);
    const DeviceTensor device(y, type, margin);
    const DeviceScratch scratch(cuda::bias_grad_scratch_bytes(shape, type));
    Values sums = reference::conv2d_grad_bias(y);
    cuda::bias_grad(no_stream, device.view(), dbias.view(DType::f32), false, scratch.get());
    EXPECT_TRUE(near(dbias.values(), sums, 1e-5));
    cuda::bias_grad(no_stream, device.view(), dbias.view(DType::f32), true, scratch.get());
    for (double& v : sums) v *= 2;
    EXPECT_TRUE(near(dbias.values(), sums, 1e-5));

    cuda::add_bias(no_stream, device_bias.view(DType::f32), device.view());
    reference::Tensor expected = y;
    const std::size_t area = static_cast<std::size_t>(shape.h * shape.w);
    for (std::size_t i = 0; i < expected.data.size(); ++i)
        expected.data[i] += bias[i / area % bias.size()];
    EXPECT_TRUE(near(device.values().data, rounded(type, expected).data, limit(type)));
    EXPECT_TRUE(device.margin_untouched());
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, LayoutKernels,
    ::testing::Combine(::testing::Values(Shape{2, 3, 17, 13}, Shape{1, 64, 9, 8},
                                         Shape{3, 21, 31, 33}, Shape{1, 304, 1, 3},
                                         Shape{4, 1, 5, 5}, Shape{2, 2048, 3, 3}),
                       ::testing::Values(Margin{}, Margin{2, 5}),
                       ::testing::Values(DType::f32, DType::bf16)));

TEST(LayoutKernel, ConversionOfFlatBuffers) {
    const Values v = reference::random_tensor({1, 1000, 1, 1}, 1).data;
    const DeviceArray<float> values(v), sums(v);
    const DeviceArray<__nv_bfloat16> copy(1000);
    cuda::to_bf16(no_stream, values.data(), copy.data(), 1000);
    for (std::size_t i = 0; i < 1000; ++i)
        EXPECT_EQ(copy.values()[i].bits, math::to_bf16(values.values()[i]));
    cuda::accumulate(no_stream, DType::bf16, copy.data(), sums.data(), 1000, true);
    for (std::size_t i = 0; i < 1000; ++i) {
        EXPECT_FLOAT_EQ(sums.values()[i],
                        values.values()[i] + math::round_to_bf16(values.values()[i]));
    }
    cuda::accumulate(no_stream, DType::f32, values.data(), sums.data(), 999, false);
    EXPECT_EQ(sums.values()[998], values.values()[998]);
    EXPECT_NE(sums.values()[999], values.values()[999]);
}

}  // namespace
}  // namespace deeplab::testing
