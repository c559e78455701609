#include "batch_norm.h"

#include <gtest/gtest.h>

#include "deeplab/math/batch_norm.h"
#include "device.h"

namespace deeplab::testing {
namespace {

using graph::Activation;

struct Case {
    Shape x;
    Activation activation;
    bool residual, frozen;
    int gradients = 1;
    // Channels of neighbours around y and every dy.
    DeviceTensor::Margin margin = {};
};

void PrintTo(const Case& c, std::ostream* out) {
    *out << to_string(c.x) << " " << math::name(c.activation) << (c.residual ? " residual" : "")
         << (c.frozen ? " frozen" : "") << " gradients " << c.gradients << " margin "
         << c.margin.before << '+' << c.margin.after;
}

Values positive(Values v) {
    for (double& e : v) e = round_to(DType::f32, std::abs(e) + 0.5);
    return v;
}

class BatchNormKernels : public ::testing::TestWithParam<std::tuple<Case, DType>> {
protected:
    const Case c = std::get<0>(GetParam());
    const DType type = std::get<1>(GetParam());
    const graph::BatchNormAct op{
        .activation = c.activation, .residual = c.residual, .frozen = c.frozen};
    const Shape channel{1, c.x.c, 1, 1};
    const std::size_t channels = static_cast<std::size_t>(c.x.c);
    const reference::Tensor x = random_in(type, c.x, 1), residual = random_in(type, c.x, 2);
    const reference::BatchNormParameters p{reference::random_tensor(channel, 3).data,
                                           reference::random_tensor(channel, 4).data,
                                           reference::random_tensor(channel, 5).data,
                                           positive(reference::random_tensor(channel, 6).data)};
    const reference::BatchNorm forward = reference::batch_norm_act(
        x, p, c.residual ? &residual : nullptr, op);
    const double count = static_cast<double>(c.x.n * c.x.h * c.x.w);

    const DeviceTensor device_x{x, type}, device_residual{residual, type};
    const DeviceArray<float> gamma{p.gamma}, beta{p.beta}, mean{p.running_mean},
        variance{p.running_variance};
    const DeviceArray<double> sums{2 * channels + 1}, gsums{2 * channels};
    const DeviceScratch scratch{cuda::batch_norm_scratch_bytes(c.x, type)};

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

TEST_P(BatchNormKernels, Sums) {
    cuda::batch_norm_sums(no_stream, device_x.view(), sums.view(DType::f64), scratch.get());
    EXPECT_TRUE(near(sums.values(), exact_sums(), 1e-6));
    EXPECT_EQ(sums.values().back(), count);
}

TEST_P(BatchNormKernels, Forward) {
    const DeviceArray<double> exchanged(exact_sums());
    const DeviceArray<float> saved(2 * channels);
    const DeviceTensor y(c.x, type, c.margin);
    cuda::BatchNormTensors t;
    t.x = device_x.view(), t.y = y.view();
    t.gamma = gamma.view(DType::f32), t.beta = beta.view(DType::f32);
    t.mean = mean.view(DType::f32), t.variance = variance.view(DType::f32);
    t.saved = saved.view(DType::f32);
    if (!c.frozen) t.sums = exchanged.view(DType::f64);
    if (c.residual) t.residual = device_residual.view();
    cuda::batch_norm_act(no_stream, op, t);
    EXPECT_TRUE(near(y.values().data, rounded(type, forward.y).data, limit(type)));
    EXPECT_TRUE(y.margin_untouched());
    Values statistics = forward.mean;
    statistics.insert(statistics.end(), forward.invstd.begin(), forward.invstd.end());
    EXPECT_TRUE(near(saved.values(), statistics, 1e-5));
    EXPECT_TRUE(near(mean.values(), forward.running_mean, 1e-5));
    EXPECT_TRUE(near(variance.values(), forward.running_variance, 1e-5));
}

TEST_P(BatchNormKernels, Backward) {
    Values statistics = forward.mean;
    statistics.insert(statistics.end(), forward.invstd.begin(), forward.invstd.end());
    const DeviceArray<float> saved(statistics), dgamma(Values(channels, 3)),
        dbeta(Values(channels, -5));
    const DeviceTensor y(forward.y, type), dz(c.x, type, c.margin), dx(c.x, type);
    std::vector<reference::Tensor> gradients;
    std::vector<DeviceTensor> device_gradients;
    cuda::BatchNormGradTensors t;
    for (int g = 0; g < c.gradients; ++g) {
        gradients.push_back(random_in(type, c.x, 10 + static_cast<std::uint64_t>(g)));
        device_gradients.emplace_back(gradients.back(), type, c.margin);
        t.dy.push_back(device_gradients.back().view());
    }
    // With a residual, dz is stored, and the sums are of what is stored.
    reference::Tensor dy = reference::sum(gradients);
    if (c.residual) dy = rounded(type, dy);
    const auto expected = reference::batch_norm_act_grad(x, p, forward, dy, op);

    t.x = device_x.view(), t.saved = saved.view(DType::f32);
    t.gamma = gamma.view(DType::f32), t.beta = beta.view(DType::f32);
    t.gsums = gsums.view(DType::f64);
    t.dgamma = dgamma.view(DType::f32), t.dbeta = dbeta.view(DType::f32);
    if (c.residual) t.y = y.view(), t.dz = dz.view();
    cuda::batch_norm_grad_sums(no_stream, {c.activation, c.residual, c.gradients}, t, false,
                               scratch.get());
    EXPECT_TRUE(near(dbeta.values(), expected.dbeta, 1e-5));
    EXPECT_TRUE(near(dgamma.values(), expected.dgamma, 1e-5));
    Values both = expected.dbeta;
    both.insert(both.end(), expected.dgamma.begin(), expected.dgamma.end());
    EXPECT_TRUE(near(gsums.values(), both, 1e-5));
    if (c.residual) {
        EXPECT_TRUE(near(dz.values().data, expected.dz.data, limit(type)));
        EXPECT_TRUE(dz.margin_untouched());
    }

    const DeviceArray<double> exchanged(exact_sums());
    t.dx = dx.view();
    if (!c.frozen) t.sums = exchanged.view(DType::f64);
    graph::BatchNormActGrad grad{c.activation, c.residual, c.frozen, c.gradients};
    cuda::BatchNormGradTensors last = t;
    if (c.residual) last.dy = {dz.view()}, grad.gradients = 1;
    cuda::batch_norm_act_grad(no_stream, grad, last);
    EXPECT_TRUE(near(dx.values().data, rounded(type, expected.dx).data, limit(type)));

    // On another micro-batch the parameters' gradients add up.
    cuda::batch_norm_grad_sums(no_stream, {c.activation, c.residual, c.gradients}, t, true,
                               scratch.get());
    Values twice = expected.dgamma;
    for (double& v : twice) v *= 2;
    EXPECT_TRUE(near(dgamma.values(), twice, 1e-5));
}

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
    if (!c.frozen) t.sums = exchanged.view(DType::f64);
    cuda::batch_norm_act_grad(no_stream, {c.activation, c.residual, c.frozen, c.gradients}, t);

    const std::vector<float> g = gamma.values(), b = beta.values(), s = saved.values();
    std::vector<reference::Tensor> dy;
    for (const DeviceTensor& gradient : device_gradients) dy.push_back(gradient.values());
    const Values got = dx.values().data;
    const auto area = static_cast<std::size_t>(c.x.h * c.x.w);
    for (std::size_t i = 0; i < got.size(); ++i) {
        const std::size_t k = i / area % channels;
        const math::InputGradient factors = math::batch_norm_input_gradient(
            g[k], s[channels + k], sums_of_gradient[k], sums_of_gradient[channels + k],
            c.frozen ? 1.0 : count);
        float dz = 0;
        for (const reference::Tensor& gradient : dy) dz += static_cast<float>(gradient.data[i]);
        const auto value = static_cast<float>(x.data[i]);
        const float z = math::batch_norm(
            value, math::batch_norm_affine(g[k], b[k], s[k], s[channels + k]));
        if (!c.residual && !math::passes(c.activation, z)) dz = 0;
        const float expected = c.frozen ? dz * factors.dz_factor
                                        : math::batch_norm_dx(dz, value, s[k], factors);
        ASSERT_EQ(got[i], round_to(type, static_cast<double>(expected))) << i;
    }
    EXPECT_TRUE(dx.margin_untouched());
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, BatchNormKernels,
    ::testing::Combine(
        ::testing::Values(Case{{3, 64, 9, 31}, Activation::relu, false, false},
                          Case{{2, 64, 9, 7}, Activation::relu, true, false, 2},
                          Case{{1, 1, 1, 7}, Activation::relu, false, false},
                          Case{{4, 3, 13, 29}, Activation::none, false, false, 2},
                          Case{{2, 21, 11, 9}, Activation::relu, true, false, 3},
                          Case{{1, 48, 33, 17}, Activation::relu, false, false, 1, {256, 0}},
                          Case{{1, 304, 5, 5}, Activation::none, true, true, 2, {8, 16}},
                          Case{{2, 304, 3, 3}, Activation::relu, false, true, 8, {3, 2}},
                          Case{{1, 2048, 3, 3}, Activation::relu, true, false, 5},
                          Case{{4, 256, 1, 1}, Activation::relu, false, false},
                          Case{{2, 40, 21, 16}, Activation::relu, false, false, 2, {0, 4}}),
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
        {.activation = Activation::none, .eps = 0, .momentum = 1});
    Values variances, expected;
    const double n = 2 * 9 * 31;
    for (std::size_t c = 0; c < 64; ++c) {
        const double mean = sums.values()[c] / n;
        variances.push_back(sums.values()[64 + c] / n - mean * mean);
        expected.push_back(1 / (forward.invstd[c] * forward.invstd[c]));
    }
    EXPECT_TRUE(near(variances, expected, 1e-4));
}

// The ReLU's mask of the backward pass is the forward pass's decision, to the last bit of x around
// the kink.
TEST(BatchNormKernel, MaskIsTheForwardDecision) {
    const Shape shape{1, 64, 64, 4};
    reference::Tensor x(shape), ones(shape);
    const reference::Tensor noise = reference::random_tensor(shape, 1);
    const Values gamma = positive(reference::random_tensor({1, 64, 1, 1}, 3).data),
                 beta = reference::random_tensor({1, 64, 1, 1}, 4).data;
    for (std::int64_t channel = 0; channel < 64; ++channel) {  // z is within rounding of zero
        const auto k = static_cast<std::size_t>(channel);
        const double kink = 0.3 - beta[k] / gamma[k] * std::sqrt(1.7 + 1e-5);
        for (std::int64_t h = 0; h < 64; ++h) {
            for (std::int64_t w = 0; w < 4; ++w)
                x.at(0, channel, h, w) = kink * (1.0 + 3e-7 * noise.at(0, channel, h, w));
        }
    }
    std::fill(ones.data.begin(), ones.data.end(), 1.0);
    const DeviceTensor device_x(x, DType::f32), dy(ones, DType::f32), y(shape, DType::f32),
        dx(shape, DType::f32);
    const DeviceArray<float> g(gamma), b(beta), mean(Values(64, 0.3)), variance(Values(64, 1.7)),
        saved(128), dgamma(64), dbeta(64);
    const DeviceArray<double> gsums(128);
    const DeviceScratch scratch(cuda::batch_norm_scratch_bytes(shape, DType::f32));
    cuda::BatchNormTensors t;
    t.x = device_x.view(), t.y = y.view();
    t.gamma = g.view(DType::f32), t.beta = b.view(DType::f32), t.mean = mean.view(DType::f32);
    t.variance = variance.view(DType::f32), t.saved = saved.view(DType::f32);
    cuda::batch_norm_act(no_stream, {.frozen = true}, t);
    cuda::BatchNormGradTensors back;
    back.x = t.x, back.gamma = t.gamma, back.beta = t.beta, back.saved = t.saved;
    back.dy = {dy.view()}, back.gsums = gsums.view(DType::f64), back.dx = dx.view();
    back.dgamma = dgamma.view(DType::f32), back.dbeta = dbeta.view(DType::f32);
    cuda::batch_norm_grad_sums(no_stream, {}, back, false, scratch.get());
    cuda::batch_norm_act_grad(no_stream, {.frozen = true}, back);
    const Values outputs = y.values().data, gradients = dx.values().data;
    std::size_t passed = 0;
    double sum = 0;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        EXPECT_EQ(outputs[i] > 0, gradients[i] > 0) << i;
        passed += outputs[i] > 0 ? 1 : 0;
    }
    for (const float v : dbeta.values()) sum += static_cast<double>(v);
    EXPECT_GT(passed, outputs.size() / 10);
    EXPECT_LT(passed, outputs.size() * 9 / 10);
    EXPECT_EQ(sum, static_cast<double>(passed));
}

}  // namespace
}  // namespace deeplab::testing
