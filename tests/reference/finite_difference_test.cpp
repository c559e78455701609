// The gradient of every op's reference against central differences of its forward pass, in double
// precision. Kinks (ReLU, ties of a maximum) are kept further away than the step.

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "harness/compare.h"
#include "reference/ops.h"

namespace deeplab::reference {
namespace {

using graph::Activation;
using testing::near;
using Values = std::vector<double>;

constexpr double step = 1e-5;
// Truncation is of the order of step^2 times the third derivative, rounding 1e-16 / step times the
// number of terms.
constexpr double tolerance = 1e-8;

double dot(const Values& a, const Values& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
}

// d function / d x, every element; `function` reads x.
Values differences(Values& x, const std::function<double()>& function) {
    Values d;
    for (double& v : x) {
        const double at = v;
        v = at + step;
        const double above = function();
        v = at - step;
        const double below = function();
        v = at;
        d.push_back((above - below) / (2 * step));
    }
    return d;
}

struct ConvCase {
    const char* what;
    Shape x, w;
    graph::ConvGeometry g;
};
void PrintTo(const ConvCase& c, std::ostream* out) { *out << c.what; }

class ConvolutionDifferences : public ::testing::TestWithParam<ConvCase> {};

TEST_P(ConvolutionDifferences, InputWeightsAndBias) {
    const ConvCase& c = GetParam();
    Tensor x = random_tensor(c.x, 1), w = random_tensor(c.w, 2);
    Tensor bias = random_tensor({1, c.w.n, 1, 1}, 3);
    const Tensor dy = random_tensor(conv2d(x, w, bias.data, c.g).shape, 9);
    const auto loss = [&] { return dot(conv2d(x, w, bias.data, c.g).data, dy.data); };
    EXPECT_TRUE(near(conv2d_grad_data(dy, w, c.x, c.g).data, differences(x.data, loss), tolerance));
    EXPECT_TRUE(
        near(conv2d_grad_weights(x, dy, c.w, c.g).data, differences(w.data, loss), tolerance));
    EXPECT_TRUE(near(conv2d_grad_bias(dy), differences(bias.data, loss), tolerance));
}

INSTANTIATE_TEST_SUITE_P(
    Geometries, ConvolutionDifferences,
    ::testing::Values(ConvCase{"stem", {2, 3, 9, 8}, {3, 3, 7, 7}, {2, 3, 1, 1}},
                      ConvCase{"one by one", {2, 4, 3, 5}, {3, 4, 1, 1}, {}},
                      ConvCase{"shortcut", {1, 3, 5, 6}, {4, 3, 1, 1}, {2, 0, 1, 1}},
                      ConvCase{"three by three", {2, 3, 5, 4}, {2, 3, 3, 3}, {1, 1, 1, 1}},
                      ConvCase{"stride", {1, 3, 7, 6}, {4, 3, 3, 3}, {2, 1, 1, 1}},
                      ConvCase{"dilated", {1, 2, 7, 6}, {3, 2, 3, 3}, {1, 2, 2, 1}},
                      ConvCase{"rate above the map", {2, 2, 4, 5}, {2, 2, 3, 3}, {1, 6, 6, 1}},
                      ConvCase{"stride and dilation", {1, 2, 8, 7}, {2, 2, 3, 3}, {2, 2, 2, 1}},
                      ConvCase{"groups", {1, 4, 5, 5}, {6, 2, 3, 3}, {1, 1, 1, 2}},
                      ConvCase{"depthwise", {2, 3, 5, 4}, {3, 1, 3, 3}, {1, 2, 2, 3}},
                      ConvCase{"three by one", {1, 2, 6, 5}, {2, 2, 3, 1}, {1, 1, 1, 1}}));

struct NormCase {
    Shape x;
    Activation activation;
    bool residual, frozen;
};
void PrintTo(const NormCase& c, std::ostream* out) {
    *out << to_string(c.x) << " " << math::name(c.activation) << (c.residual ? " residual" : "")
         << (c.frozen ? " frozen" : "");
}

class BatchNormDifferences : public ::testing::TestWithParam<NormCase> {};

TEST_P(BatchNormDifferences, InputResidualScaleAndShift) {
    const NormCase& c = GetParam();
    const graph::BatchNormAct op{
        .activation = c.activation, .residual = c.residual, .frozen = c.frozen};
    Tensor x = random_tensor(c.x, 1), residual = random_tensor(c.x, 2);
    const Tensor dy = random_tensor(c.x, 9);
    const Shape channel{1, c.x.c, 1, 1};
    BatchNormParameters p{random_tensor(channel, 3).data, random_tensor(channel, 4).data,
                          random_tensor(channel, 5).data, random_tensor(channel, 6).data};
    for (double& v : p.running_variance) v = std::abs(v) + 0.5;
    const Tensor* added = c.residual ? &residual : nullptr;

    const BatchNorm y = batch_norm_act(x, p, added, op);
    graph::BatchNormAct linear = op;
    linear.activation = Activation::none;
    for (const double z : batch_norm_act(x, p, added, linear).y.data)
        ASSERT_GT(std::abs(z), 100 * step) << "another seed keeps the ReLU's kink away";
    const BatchNormGrad g = batch_norm_act_grad(x, p, y, dy, op);
    const auto loss = [&] { return dot(batch_norm_act(x, p, added, op).y.data, dy.data); };
    // A batch norm's third derivative is large where the variance is small.
    EXPECT_TRUE(near(g.dx.data, differences(x.data, loss), 10 * tolerance));
    EXPECT_TRUE(near(g.dgamma, differences(p.gamma, loss), tolerance));
    EXPECT_TRUE(near(g.dbeta, differences(p.beta, loss), tolerance));
    if (c.residual) {
        EXPECT_TRUE(near(g.dz.data, differences(residual.data, loss), tolerance));
    }
}

INSTANTIATE_TEST_SUITE_P(Kinds, BatchNormDifferences,
                         ::testing::Values(NormCase{{2, 3, 4, 3}, Activation::none, false, false},
                                           NormCase{{2, 3, 4, 3}, Activation::relu, false, false},
                                           NormCase{{3, 2, 3, 3}, Activation::none, true, false},
                                           NormCase{{3, 2, 3, 3}, Activation::relu, true, false},
                                           NormCase{{4, 5, 1, 1}, Activation::relu, false, false},
                                           NormCase{{2, 3, 4, 3}, Activation::none, false, true},
                                           NormCase{{2, 3, 4, 3}, Activation::relu, false, true},
                                           NormCase{{2, 3, 2, 5}, Activation::none, true, true},
                                           NormCase{{2, 3, 2, 5}, Activation::relu, true, true}));

TEST(MaxPoolDifferences, Input) {
    for (const graph::MaxPool& op : {graph::MaxPool{3, 2, 1}, {2, 2, 0}, {3, 1, 1}, {5, 3, 2}}) {
        // Values that differ by more than the step, in no order.
        Tensor x({2, 3, 7, 6});
        for (std::size_t i = 0; i < x.data.size(); ++i)
            x.data[i] = static_cast<double>(i * 101 % x.data.size()) * 0.01;
        const MaxPool y = max_pool(x, op);
        const Tensor dy = random_tensor(y.y.shape, 9);
        EXPECT_TRUE(near(max_pool_grad(dy, y.arg, x.shape, op).data,
                         differences(x.data, [&] { return dot(max_pool(x, op).y.data, dy.data); }),
                         tolerance))
            << op.kernel << " " << op.stride;
    }
}

TEST(GlobalAveragePoolDifferences, Input) {
    Tensor x = random_tensor({2, 3, 5, 4}, 1);
    const Tensor dy = random_tensor({2, 3, 1, 1}, 9);
    EXPECT_TRUE(near(global_average_pool_grad(dy, x.shape).data,
                     differences(x.data, [&] { return dot(global_average_pool(x).data, dy.data); }),
                     tolerance));
}

TEST(UpsampleDifferences, Input) {
    for (const auto& [from, to] : {std::pair{Shape{2, 2, 3, 4}, Shape{2, 2, 9, 7}},
                                   {Shape{1, 3, 1, 1}, Shape{1, 3, 4, 5}},
                                   {Shape{1, 2, 7, 6}, Shape{1, 2, 3, 4}},
                                   {Shape{1, 2, 5, 1}, Shape{1, 2, 17, 3}}}) {
        Tensor x = random_tensor(from, 1);
        const Tensor dy = random_tensor(to, 9);
        const std::int64_t height = to.h, width = to.w;
        const auto loss = [&] { return dot(upsample(x, height, width).data, dy.data); };
        EXPECT_TRUE(near(upsample_grad(dy, from).data, differences(x.data, loss), tolerance))
            << to_string(from);
    }
}

// Dropout is its own gradient.
TEST(DropoutDifferences, Input) {
    Tensor x = random_tensor({2, 3, 5, 3}, 1);
    const Tensor dy = random_tensor(x.shape, 9);
    const std::vector<math::SampleKey> keys = {{0, 3}, {1, 4}};
    const auto loss = [&] { return dot(dropout(x, 0.4f, 1, 77, keys).data, dy.data); };
    EXPECT_TRUE(near(dropout(dy, 0.4f, 1, 77, keys).data, differences(x.data, loss), tolerance));
}

TEST(SumDifferences, EveryTerm) {
    std::vector<Tensor> x = {random_tensor({1, 2, 3, 2}, 1), random_tensor({1, 2, 3, 2}, 2),
                             random_tensor({1, 2, 3, 2}, 3)};
    const Tensor dy = random_tensor(x[0].shape, 9);
    for (Tensor& term : x) {
        EXPECT_TRUE(near(dy.data, differences(term.data, [&] { return dot(sum(x).data, dy.data); }),
                         tolerance));
    }
}

TEST(SegmentationLossDifferences, Logits) {
    struct Head {
        Shape logits;
        std::int64_t height, width;
    };
    for (const Head& head :
         {Head{{2, 4, 3, 4}, 9, 7}, {{1, 2, 5, 3}, 5, 3}, {{3, 5, 1, 1}, 4, 4}}) {
        const graph::SegmentationLoss op{.gradient_scale = 0.25f};
        Tensor logits = random_tensor(head.logits, 1);
        for (double& v : logits.data) v *= 4;
        std::vector<std::uint8_t> labels;
        for (std::int64_t i = 0; i < head.logits.n * head.height * head.width; ++i)
            labels.push_back(i % 5 == 2 ? 255 : static_cast<std::uint8_t>(i * 7 % head.logits.c));
        const auto loss = [&] {
            return 0.25 * segmentation_loss(logits, labels, head.height, head.width, op).loss;
        };
        EXPECT_TRUE(
            near(segmentation_loss(logits, labels, head.height, head.width, op).dlogits.data,
                 differences(logits.data, loss), tolerance))
            << to_string(head.logits);
    }
}

// One step is w - lr (g + wd w): the derivative of a quadratic loss with weight decay.
TEST(SgdDifferences, FirstStepFollowsTheGradient) {
    const double lr = 0.01, decay = 0.1;
    Values w = random_tensor({1, 7, 1, 1}, 1).data;
    const Values target = random_tensor({1, 7, 1, 1}, 2).data;
    const auto plain = [&] {
        double sum = 0;
        for (std::size_t i = 0; i < w.size(); ++i) sum += std::pow(w[i] - target[i], 2) / 2;
        return sum;
    };
    const auto decayed = [&] { return plain() + decay / 2 * dot(w, w); };
    const Values gradient = differences(w, plain), expected = differences(w, decayed);
    Values after = w, buffer(w.size());
    sgd(after, buffer, gradient, lr, 0.9, decay, 1);
    Values moved;
    for (std::size_t i = 0; i < w.size(); ++i) moved.push_back((w[i] - after[i]) / lr);
    EXPECT_TRUE(near(moved, expected, tolerance));
}

}  // namespace
}  // namespace deeplab::reference
