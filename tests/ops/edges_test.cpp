// Values at an op's edges, on the backend that the program is linked with: NaN, ties with zero,
// logits far apart, nothing valid.

#include <algorithm>
#include <cmath>

#include "ops/cases.h"

namespace deeplab::testing {
namespace {

Values positive(Values v) {
    for (double& e : v) e = static_cast<double>(static_cast<float>(std::abs(e) + 0.5));
    return v;
}

// Where the ReLU of the forward pass gave zero, the gradient is zero, to the last bit of x around
// the kink.
TEST(BatchNorm, MaskIsTheForwardDecision) {
    const Shape shape{1, 64, 64, 4};
    reference::Tensor x(shape);
    const reference::Tensor noise = reference::random_tensor(shape, 1);
    const Values gamma = positive(reference::random_tensor({1, 64, 1, 1}, 3).data);
    const Values beta = reference::random_tensor({1, 64, 1, 1}, 4).data;
    const Values mean(64, 0.3f), variance(64, 1.7f);
    for (std::int64_t channel = 0; channel < 64; ++channel) {  // z is within rounding of zero
        const auto k = static_cast<std::size_t>(channel);
        const double kink = mean[k] - beta[k] / gamma[k] * std::sqrt(variance[k] + 1e-5);
        for (std::int64_t h = 0; h < 64; ++h) {
            for (std::int64_t w = 0; w < 4; ++w) {
                x.at(0, channel, h, w) = static_cast<double>(
                    static_cast<float>(kink * (1.0 + 3e-7 * noise.at(0, channel, h, w))));
            }
        }
    }
    reference::Tensor ones(shape);
    std::fill(ones.data.begin(), ones.data.end(), 1.0);
    TinyPlan t;
    const TensorId in = t.input(x);
    const std::size_t g = t.channel_parameter(gamma), b = t.channel_parameter(beta);
    const TensorId y = t.arena(shape), saved = t.arena({1, 128, 1, 1}), gsums = t.exchange(128),
                   dx = t.arena(shape);
    const TensorId dy = t.input(ones);
    t.node(graph::BatchNormAct{.frozen = true},
           {in, t.value(g), t.value(b), t.state(mean), t.state(variance)}, {y, saved});
    t.node(graph::BatchNormGradSums{}, {in, t.value(g), t.value(b), saved, dy},
           {gsums, t.gradient(g), t.gradient(b)});
    t.node(graph::BatchNormActGrad{.frozen = true}, {in, t.value(g), t.value(b), saved, gsums, dy},
           {dx});
    const Ran ran(t);
    const std::vector<float> outputs = ran[y], gradients = ran[dx], passed = ran[t.gradient(b)];
    std::size_t positive_outputs = 0;
    double sum = 0;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        EXPECT_EQ(outputs[i] > 0, gradients[i] > 0) << i;
        positive_outputs += outputs[i] > 0 ? 1 : 0;
    }
    for (const float v : passed) sum += static_cast<double>(v);
    EXPECT_GT(positive_outputs, outputs.size() / 10);
    EXPECT_LT(positive_outputs, outputs.size() * 9 / 10);
    EXPECT_EQ(sum, static_cast<double>(positive_outputs));
}

TEST(MaxPool, NanWins) {
    for (const DType type : {DType::f32, DType::bf16}) {
        reference::Tensor x = reference::random_tensor({1, 20, 4, 4}, 1);
        x.at(0, 3, 1, 1) = NAN;
        TinyPlan t;
        const TensorId in = t.input(x), y = t.arena({1, 20, 2, 2});
        t.node(graph::MaxPool{2, 2, 0}, {in}, {y});
        graph::set_activation_type(t.plan, type);
        const std::vector<float> result = Ran(t)[y];
        for (std::size_t i = 0; i < result.size(); ++i)
            EXPECT_EQ(std::isnan(result[i]), i == 3 * 4) << i;
    }
}

struct Case {
    Shape logits;
    std::int64_t height, width;
};

struct Head {
    TinyPlan t;
    TensorId loss, dlogits;

    Head(const Case& c, const reference::Tensor& logits, const std::vector<std::uint8_t>& labels,
         const graph::SegmentationLoss& op) {
        const TensorId in = t.input(logits),
                       truth = t.label_input({c.logits.n, 1, c.height, c.width}, labels);
        loss = t.result();
        dlogits = t.arena(c.logits);
        t.node(op, {in, truth}, {loss, dlogits});
    }
};

TEST(Loss, NoValidPixel) {
    const Case c{{2, 21, 5, 5}, 17, 17};
    const Head head(c, reference::random_tensor(c.logits, 1),
                    std::vector<std::uint8_t>(2 * 17 * 17, 255), {});
    const Ran ran(head.t);
    EXPECT_EQ(ran.result.loss_sum, 0.0);
    EXPECT_EQ(ran[head.dlogits],
              std::vector<float>(static_cast<std::size_t>(c.logits.elements()), 0.0f));
}

TEST(Loss, ExtremeLogits) {
    const Case c{{1, 3, 2, 2}, 5, 5};
    reference::Tensor logits = reference::random_tensor(c.logits, 1);
    for (double& v : logits.data) v *= 1000;
    const std::vector<std::uint8_t> labels = random_labels(c.logits, c.height, c.width, 1.0);
    const Head head(c, logits, labels, {});
    const Ran ran(head.t);
    const reference::Loss expected =
        [&] {  // the reference's plain exponentials would overflow: shift by hand
            reference::Tensor shifted = logits;
            for (double& v : shifted.data) v /= 2;  // e^500 fits a double
            return reference::segmentation_loss(shifted, labels, 5, 5, {});
        }();
    EXPECT_TRUE(std::isfinite(ran.result.loss_sum));
    EXPECT_NEAR(ran.result.loss_sum, 2 * expected.loss,
                0.02 * expected.loss);  // nearly piecewise linear there
    for (const float v : ran[head.dlogits]) EXPECT_TRUE(std::isfinite(v));
}

TEST(Loss, NanIsSeen) {
    const Case c{{1, 21, 3, 3}, 9, 9};
    reference::Tensor logits = reference::random_tensor(c.logits, 1);
    logits.at(0, 7, 1, 1) = NAN;
    const Head head(c, logits, random_labels(c.logits, c.height, c.width, 1.0), {});
    const Ran ran(head.t);
    EXPECT_TRUE(std::isnan(ran.result.loss_sum));
}

// Logits far apart neither overflow nor vanish; another label is ignored.
TEST(Loss, FarLogitsAndAnotherIgnoredLabel) {
    const Case c{{1, 21, 5, 5}, 17, 17};
    reference::Tensor logits = reference::random_tensor(c.logits, 1);
    for (double& v : logits.data) v *= 300;
    std::vector<std::uint8_t> labels = random_labels(c.logits, c.height, c.width, 0.9);
    const graph::SegmentationLoss op{.ignore = 3};
    std::replace(labels.begin(), labels.end(), std::uint8_t{255}, std::uint8_t{3});
    const auto expected = reference::segmentation_loss(logits, labels, 17, 17, op);
    const Head head(c, logits, labels, op);
    const Ran ran(head.t);
    EXPECT_NEAR(ran.result.loss_sum, expected.loss, tolerance * expected.loss);
    EXPECT_TRUE(near(ran[head.dlogits], expected.dlogits.data, tolerance));
}

}  // namespace
}  // namespace deeplab::testing
