#include "batch_norm.h"

#include <gtest/gtest.h>

#include "deeplab/math/batch_norm.h"
#include "device.h"
#include "ops/cases.h"

namespace deeplab::testing {
namespace {

Values positive(Values v) {
    for (double& e : v) e = round_to(DType::f32, std::abs(e) + 0.5);
    return v;
}

class BatchNormKernels : public ::testing::TestWithParam<std::tuple<NormCase, DType>> {
protected:
    const NormCase c = std::get<0>(GetParam());
    const DType type = std::get<1>(GetParam());
    const graph::BatchNormAct op = c.op;
    const Shape channel{1, c.x.c, 1, 1};
    const std::size_t channels = static_cast<std::size_t>(c.x.c);
    const reference::Tensor x = random_in(type, c.x, 1), residual = random_in(type, c.x, 2);
    const reference::BatchNormParameters p{reference::random_tensor(channel, 3).data,
                                           reference::random_tensor(channel, 4).data,
                                           reference::random_tensor(channel, 5).data,
                                           positive(reference::random_tensor(channel, 6).data)};
    const reference::BatchNorm forward = reference::batch_norm_act(
        x, p, op.residual ? &residual : nullptr, op);
    const double count = static_cast<double>(c.x.n * c.x.h * c.x.w);

    const DeviceTensor device_x{x, type};
    const DeviceArray<float> gamma{p.gamma}, beta{p.beta};

    // Of the whole batch, as an exchange leaves them.
    Values exact_sums() const {
        Values s(2 * channels + 1, 0.0);
        s.back() = count;
        const std::int64_t area = c.x.h * c.x.w;
        for (std::size_t i = 0; i < x.data.size(); ++i) {
            const std::size_t k = i / static_cast<std::size_t>(area) % channels;
            s[k] += x.data[i];
            s[channels + k] += x.data[i] * x.data[i];
        }
        return s;
    }
};

// Every element is what the formulas of math/batch_norm.h say, to the last bit: how the kernel
// keeps the channels' factors changes nothing.
TEST_P(BatchNormKernels, GradientHasTheFormulasBits) {
    Values statistics = forward.mean, sums_of_gradient = reference::random_tensor(channel, 7).data;
    statistics.insert(statistics.end(), forward.invstd.begin(), forward.invstd.end());
    const Values second = reference::random_tensor(channel, 8).data;
    sums_of_gradient.insert(sums_of_gradient.end(), second.begin(), second.end());
    for (double& v : sums_of_gradient) v *= count;
    const DeviceArray<float> saved(statistics);
    const DeviceArray<double> reduced(sums_of_gradient), exchanged(exact_sums());
    const DeviceTensor dx(c.x, type, c.margin);
    std::vector<DeviceTensor> device_gradients;
    cuda::BatchNormGradTensors t;
    for (int g = 0; g < c.gradients; ++g) {
        device_gradients.emplace_back(random_in(type, c.x, 10 + static_cast<std::uint64_t>(g)),
                                      type, c.margin);
        t.dy.push_back(device_gradients.back().view());
    }
    t.x = device_x.view(), t.saved = saved.view(DType::f32), t.dx = dx.view();
    t.gamma = gamma.view(DType::f32), t.beta = beta.view(DType::f32);
    t.gsums = reduced.view(DType::f64);
    if (!op.frozen) t.sums = exchanged.view(DType::f64);
    cuda::batch_norm_act_grad(no_stream, {op.activation, op.residual, op.frozen, c.gradients}, t);

    const std::vector<float> g = gamma.values(), b = beta.values(), s = saved.values();
    std::vector<reference::Tensor> dy;
    for (const DeviceTensor& gradient : device_gradients) dy.push_back(gradient.values());
    const Values got = dx.values().data;
    const auto area = static_cast<std::size_t>(c.x.h * c.x.w);
    for (std::size_t i = 0; i < got.size(); ++i) {
        const std::size_t k = i / area % channels;
        const math::InputGradient factors = math::batch_norm_input_gradient(
            g[k], s[channels + k], sums_of_gradient[k], sums_of_gradient[channels + k],
            op.frozen ? 1.0 : count);
        float dz = 0;
        for (const reference::Tensor& gradient : dy) dz += static_cast<float>(gradient.data[i]);
        const auto value = static_cast<float>(x.data[i]);
        const float z = math::batch_norm(
            value, math::batch_norm_affine(g[k], b[k], s[k], s[channels + k]));
        if (!op.residual && !math::passes(op.activation, z)) dz = 0;
        const float expected = op.frozen ? dz * factors.dz_factor
                                         : math::batch_norm_dx(dz, value, s[k], factors);
        ASSERT_EQ(got[i], round_to(type, static_cast<double>(expected))) << i;
    }
    EXPECT_TRUE(dx.margin_untouched());
}

INSTANTIATE_TEST_SUITE_P(Shapes, BatchNormKernels,
                         ::testing::Combine(::testing::ValuesIn(norm_cases()),
                                            ::testing::Values(DType::f32, DType::bf16)));

// Values of mean 1000 and deviation 0.01 lose no digits.
TEST(BatchNormKernel, SumsOfALargeMean) {
    const Shape shape{2, 64, 9, 31};
    reference::Tensor x = reference::random_tensor(shape, 1);
    for (double& v : x.data) v = round_to(DType::f32, 1000 + 0.01 * v);
    const DeviceTensor device_x(x, DType::f32);
    const DeviceArray<double> sums(129);
    const DeviceScratch scratch(cuda::batch_norm_scratch_bytes(shape, DType::f32));
    cuda::batch_norm_sums(no_stream, device_x.view(), sums.view(DType::f64), scratch.get());
    const auto forward = reference::batch_norm_act(
        x, {Values(64, 1), Values(64, 0), Values(64, 0), Values(64, 1)}, nullptr,
        {.activation = graph::Activation::none, .eps = 0, .momentum = 1});
    Values variances, expected;
    const double n = 2 * 9 * 31;
    for (std::size_t c = 0; c < 64; ++c) {
        const double mean = sums.values()[c] / n;
        variances.push_back(sums.values()[64 + c] / n - mean * mean);
        expected.push_back(1 / (forward.invstd[c] * forward.invstd[c]));
    }
    EXPECT_TRUE(near(variances, expected, 1e-4));
}

}  // namespace
}  // namespace deeplab::testing
