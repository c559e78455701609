// Plans with bf16 activations: the CPU's emulation against the rounded reference, and a network.
#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>

#include "deeplab/base/text.h"
#include "deeplab/math/bf16.h"
#include "narrow_network.h"
#include "ops/tiny_plan.h"
#include "reference/tolerances.h"

namespace deeplab::testing {
namespace {

using reference::bf16;
using reference::random_tensor;

// Runs ops on bf16 activations and keeps the largest error of each output.
class Bf16Ops : public ::testing::Test {
protected:
    std::map<std::string, double> observed_;

    static Ran run(TinyPlan& t) {
        graph::set_activation_type(t.plan, DType::bf16);
        return Ran(t, {.seed = 5, .poison = true});
    }
    static double limit(const std::string& output) {
        for (const reference::Tolerance& t : reference::bf16_tolerances) {
            if (output == t.output) return t.limit;
        }
        ADD_FAILURE() << "no tolerance for " << output;
        return 0;
    }
    void compare(const std::string& output, const std::vector<float>& got, const Values& expected) {
        const double error = relative_error(got, expected);
        EXPECT_LE(error, limit(output)) << output;
        observed_[output] = std::max(observed_[output], error);
        if (limit(output) != reference::bf16_store) return;
        double squares = 0;
        for (const double e : expected) squares += e * e;
        const double rms = std::sqrt(squares / static_cast<double>(expected.size()));
        for (std::size_t i = 0; i < got.size(); ++i) {
            ASSERT_EQ(got[i], math::round_to_bf16(got[i])) << output << " stores bf16 values";
            ASSERT_LE(std::abs(static_cast<double>(got[i]) - expected[i]),
                      reference::bf16_element * std::abs(expected[i]) + reference::fp32_op * rms)
                << output << ", element " << i;
        }
    }

    void convolution(const Shape& shape, std::int64_t outputs, std::int64_t kernel,
                     const graph::ConvGeometry& g) {
        const reference::Tensor x = bf16(random_tensor(shape, 1)),
                                b = random_tensor({1, outputs, 1, 1}, 3);
        const reference::Tensor w = random_tensor({outputs, shape.c / g.groups, kernel, kernel}, 2);
        const reference::Tensor y = reference::conv2d(x, bf16(w), b.data, g);
        const reference::Tensor dy = bf16(random_tensor(y.shape, 4));
        TinyPlan t;
        const std::size_t pw = t.parameter(w), pb = t.parameter(b, graph::ParameterKind::bias);
        const TensorId in = t.input(x), gradient = t.input(dy), out = t.arena(y.shape),
                       dx = t.arena(shape);
        t.node(graph::Conv2d{g}, {in, t.value(pw), t.value(pb)}, {out});
        t.node(graph::Conv2dGradData{g}, {gradient, t.value(pw)}, {dx});
        t.node(graph::Conv2dGradWeights{g}, {in, gradient}, {t.gradient(pw), t.gradient(pb)});
        const Ran ran = run(t);
        compare("Conv2d y", ran[out], y.data);
        compare("Conv2dGradData dx", ran[dx],
                reference::conv2d_grad_data(dy, bf16(w), shape, g).data);
        compare("Conv2dGradWeights dw", ran[t.gradient(pw)],
                reference::conv2d_grad_weights(x, dy, w.shape, g).data);
        compare("Conv2dGradWeights dbias", ran[t.gradient(pb)], reference::conv2d_grad_bias(dy));
    }

    void batch_norm(const Shape& shape, bool residual) {
        const graph::BatchNormAct op{.residual = residual};
        const Shape channel{1, shape.c, 1, 1};
        const reference::Tensor x = bf16(random_tensor(shape, 1)),
                                r = bf16(random_tensor(shape, 2));
        const reference::BatchNormParameters p{
            random_tensor(channel, 3).data, random_tensor(channel, 4).data,
            random_tensor(channel, 5).data, Values(static_cast<std::size_t>(shape.c), 1.0)};
        const std::vector<reference::Tensor> dy = {bf16(random_tensor(shape, 6)),
                                                   bf16(random_tensor(shape, 7))};
        TinyPlan t;
        t.plan.messages = 1;
        const TensorId in = t.input(x), sums = t.exchange(2 * shape.c + 1), y = t.arena(shape),
                       saved = t.arena({1, 2 * shape.c, 1, 1}), gsums = t.exchange(2 * shape.c),
                       dx = t.arena(shape), mean = t.state(p.running_mean),
                       variance = t.state(p.running_variance);
        const std::size_t gamma = t.channel_parameter(p.gamma), beta = t.channel_parameter(p.beta);
        const std::vector<TensorId> gradients = {t.input(dy[0]), t.input(dy[1])};
        t.node(graph::BatchNormSums{}, {in}, {sums});
        t.node(graph::ExchangeStart{0}, {sums}, {sums});
        t.node(graph::ExchangeFinish{0}, {sums}, {sums});
        std::vector<TensorId> from = {in, t.value(gamma), t.value(beta), mean, variance, sums};
        if (residual) from.push_back(t.input(r));
        t.node(op, from, {y, saved});
        from = {in, t.value(gamma), t.value(beta), saved};
        if (residual) from.push_back(y);
        from.insert(from.end(), gradients.begin(), gradients.end());
        std::vector<TensorId> to = {gsums, t.gradient(gamma), t.gradient(beta)};
        if (residual) to.push_back(t.arena(shape));
        t.node(graph::BatchNormGradSums{op.activation, residual, 2}, from, to);
        from = {in, t.value(gamma), t.value(beta), saved, gsums, sums};
        if (residual)
            from.push_back(to.back());
        else
            from.insert(from.end(), gradients.begin(), gradients.end());
        t.node(graph::BatchNormActGrad{op.activation, residual, false, residual ? 1 : 2}, from,
               {dx});
        const Ran ran = run(t);
        const auto forward = reference::batch_norm_act(x, p, residual ? &r : nullptr, op);
        const auto backward = reference::batch_norm_act_grad(x, p, forward, reference::sum(dy), op);
        compare("BatchNormAct y", ran[y], forward.y.data);
        Values statistics = forward.mean;
        statistics.insert(statistics.end(), forward.invstd.begin(), forward.invstd.end());
        compare("BatchNormAct saved", ran[saved], statistics);
        compare("BatchNormAct running statistics", ran[mean], forward.running_mean);
        compare("BatchNormAct running statistics", ran[variance], forward.running_variance);
        compare("BatchNormGradSums dgamma", ran[t.gradient(gamma)], backward.dgamma);
        compare("BatchNormGradSums dbeta", ran[t.gradient(beta)], backward.dbeta);
        if (residual) compare("BatchNormGradSums dz", ran[to.back()], backward.dz.data);
        compare(residual ? "BatchNormActGrad dx from dz" : "BatchNormActGrad dx", ran[dx],
                backward.dx.data);
    }

    void pooling(const Shape& shape) {
        const graph::MaxPool op;
        const reference::Tensor x = bf16(random_tensor(shape, 1));
        const reference::MaxPool pooled = reference::max_pool(x, op);
        const Shape one{shape.n, shape.c, 1, 1};
        const reference::Tensor dy = bf16(random_tensor(pooled.y.shape, 2)),
                                dmean = bf16(random_tensor(one, 3));
        TinyPlan t;
        const TensorId in = t.input(x), y = t.arena(pooled.y.shape),
                       arg = t.arena(pooled.y.shape, DType::u8), dx = t.arena(shape),
                       mean = t.arena(one), dx_of_mean = t.arena(shape);
        t.node(op, {in}, {y, arg});
        t.node(graph::MaxPoolGrad{}, {t.input(dy), arg}, {dx});
        t.node(graph::GlobalAveragePool{}, {in}, {mean});
        t.node(graph::GlobalAveragePoolGrad{}, {t.input(dmean)}, {dx_of_mean});
        const Ran ran = run(t);
        compare("MaxPool y", ran[y], pooled.y.data);
        compare("MaxPoolGrad dx", ran[dx],
                reference::max_pool_grad(dy, pooled.arg, shape, op).data);
        compare("GlobalAveragePool y", ran[mean], reference::global_average_pool(x).data);
        compare("GlobalAveragePoolGrad dx", ran[dx_of_mean],
                reference::global_average_pool_grad(dmean, shape).data);
    }

    void resize(const Shape& small, const Shape& large) {
        const reference::Tensor x = bf16(random_tensor(small, 1)),
                                dy = bf16(random_tensor(large, 2));
        TinyPlan t;
        // Into a slice: the store must not touch its neighbours.
        const TensorId whole = t.arena({large.n, large.c + 11, large.h, large.w}),
                       y = t.slice(whole, 7, large.c), dx = t.arena(small);
        t.node(graph::Upsample{}, {t.input(x)}, {y});
        t.node(graph::UpsampleGrad{}, {t.input(dy)}, {dx});
        const Ran ran = run(t);
        compare("Upsample y", ran[y], reference::upsample(x, large.h, large.w).data);
        compare("UpsampleGrad dx", ran[dx], reference::upsample_grad(dy, small).data);
    }

    void elementwise(const Shape& shape) {
        const std::vector<reference::Tensor> x = {bf16(random_tensor(shape, 1)),
                                                  bf16(random_tensor(shape, 2)),
                                                  bf16(random_tensor(shape, 3))};
        TinyPlan t;
        t.samples.assign(static_cast<std::size_t>(shape.n), {1, 2});
        const std::vector<math::SampleKey> keys(t.samples.size(), {1, 2});
        const std::vector<TensorId> in = {t.input(x[0]), t.input(x[1]), t.input(x[2])};
        const TensorId sum = t.arena(shape), dropped = t.arena(shape);
        t.node(graph::Sum{}, in, {sum});
        t.node(graph::Dropout{0.3f, 2}, {in[0]}, {dropped});
        const Ran ran = run(t);
        compare("Sum y", ran[sum], reference::sum(x).data);
        compare("Dropout y", ran[dropped], reference::dropout(x[0], 0.3f, 2, 5, keys).data);
    }

    void loss(const Shape& logits, std::int64_t height, std::int64_t width) {
        const graph::SegmentationLoss op{.gradient_scale = 0.25f};
        reference::Tensor x = random_tensor(logits, 1);
        for (double& v : x.data) v *= 8;
        x = bf16(x);
        std::vector<std::uint8_t> labels;
        for (std::int64_t i = 0; i < logits.n * height * width; ++i)
            labels.push_back(static_cast<std::uint8_t>(i % 7 == 0 ? 255 : i % logits.c));
        TinyPlan t;
        const TensorId in = t.input(x), truth = t.label_input({logits.n, 1, height, width}, labels);
        const TensorId result = t.result(), dlogits = t.arena(logits);
        t.node(op, {in, truth}, {result, dlogits});
        const Ran ran = run(t);
        const reference::Loss expected = reference::segmentation_loss(x, labels, height, width, op);
        compare("SegmentationLoss loss", {static_cast<float>(ran.result.loss_sum)},
                {expected.loss});
        compare("SegmentationLoss dlogits", ran[dlogits], expected.dlogits.data);
    }
};

TEST_F(Bf16Ops, StayWithinTheirTolerancesWhichAreNotLoose) {
    convolution({2, 3, 33, 33}, 16, 7, {2, 3, 1, 1});
    convolution({2, 37, 9, 11}, 53, 1, {});
    convolution({1, 304, 7, 7}, 64, 3, {1, 1, 1, 1});
    convolution({2, 64, 5, 5}, 32, 3, {1, 6, 6, 1});
    convolution({2, 32, 9, 9}, 64, 3, {1, 1, 1, 4});
    for (const bool residual : {false, true}) {
        batch_norm({2, 64, 9, 7}, residual);
        batch_norm({3, 19, 5, 3}, residual);
    }
    pooling({2, 64, 17, 13});
    pooling({1, 19, 8, 9});
    resize({2, 64, 5, 5}, {2, 64, 17, 17});
    resize({1, 19, 3, 4}, {1, 19, 10, 9});
    elementwise({3, 19, 5, 7});
    loss({2, 21, 9, 9}, 33, 33);
    loss({1, 5, 7, 7}, 7, 7);
    for (const reference::Tolerance& t : reference::bf16_tolerances) {
        ASSERT_TRUE(observed_.contains(t.output)) << t.output;
        RecordProperty(t.output, cat(observed_[t.output]));
        if (t.limit > reference::fp32_op) {
            EXPECT_GE(2 * observed_[t.output], t.limit) << t.output;
        }
    }
}

// Every activation holds bf16 values, batch-norm statistics and parameters do not; the loss is
// near that of fp32, the memory plan holds (dead memory is NaN), and it learns.
TEST(Bf16Network, RoundsWhatADeviceStoresAndLearns) {
    const Batch batch(4, 65);
    const model::ModelConfig config = narrow("resnet18", 8);
    const exec::CompileOptions poison{.seed = 9, .poison = true};
    Trainer reference(config, options(4, 65), poison);
    Trainer a(config, options(4, 65), poison, 2, DType::bf16);
    for (graph::Tensor& t : a.plan.tensors) t.keep = t.space == graph::Space::arena;
    a.executable = a.backend->compile(a.plan, a.communicators(), {.seed = 9});
    const double exact = reference.executable->run(batch.step()).loss_sum,
                 first = a.executable->run(batch.step()).loss_sum;
    EXPECT_NE(first, exact);
    EXPECT_NEAR(first, exact, 0.02 * exact);

    std::size_t rounded = 0, exact_tensors = 0;
    for (std::size_t i = 0; i < a.plan.tensors.size(); ++i) {
        const graph::Tensor& t = a.plan.tensors[i];
        if (t.space != graph::Space::arena || t.dtype == DType::u8) continue;
        const std::vector<float> values = a.executable->download(static_cast<TensorId>(i));
        const bool fits = std::all_of(values.begin(), values.end(),
                                      [](float v) { return v == math::round_to_bf16(v); });
        EXPECT_EQ(fits, t.dtype == DType::bf16) << t.name;
        (fits ? rounded : exact_tensors) += 1;
    }
    EXPECT_GT(rounded, 100u);
    EXPECT_GT(exact_tensors, 20u);

    a.executable = a.backend->compile(a.plan, a.communicators(), poison);
    double last = 0;
    for (int i = 0; i < 15; ++i) last = a.executable->run(batch.step()).loss_sum;
    EXPECT_LT(last, 0.8 * first);
}

}  // namespace
}  // namespace deeplab::testing
