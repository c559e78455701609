#include "ops/tiny_plan.h"

namespace deeplab::testing {
namespace {

struct Case {
    const char* what;
    Shape x;
    std::int64_t outputs, kernel_h, kernel_w;
    graph::ConvGeometry g;
    bool bias = false;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.what; }

class ConvolutionTest : public ::testing::TestWithParam<Case> {
protected:
    const Case c = GetParam();
    const reference::Tensor x = reference::random_tensor(c.x, 1);
    const reference::Tensor w = reference::random_tensor(
        {c.outputs, c.x.c / c.g.groups, c.kernel_h, c.kernel_w}, 2);
    const reference::Tensor b = reference::random_tensor({1, c.outputs, 1, 1}, 3);
    const reference::Tensor y = reference::conv2d(x, w, c.bias ? b.data : Values{}, c.g);
    const reference::Tensor dy = reference::random_tensor(y.shape, 4);
};

TEST_P(ConvolutionTest, Forward) {
    TinyPlan t;
    const std::size_t pw = t.parameter(w), pb = t.parameter(b, graph::ParameterKind::bias);
    std::vector<TensorId> in = {t.input(x), t.value(pw)};
    if (c.bias) in.push_back(t.value(pb));
    const TensorId out = t.arena(y.shape);
    t.node(graph::Conv2d{c.g}, in, {out});
    EXPECT_TRUE(near(Ran(t)[out], y.data, tolerance));
}

TEST_P(ConvolutionTest, GradData) {
    TinyPlan t;
    const std::size_t pw = t.parameter(w);
    const TensorId dx = t.arena(x.shape);
    t.node(graph::Conv2dGradData{c.g}, {t.input(dy), t.value(pw)}, {dx});
    EXPECT_TRUE(near(Ran(t)[dx], reference::conv2d_grad_data(dy, w, x.shape, c.g).data, tolerance));
}

// Written on the first micro-batch, whatever was there; added to on the next.
TEST_P(ConvolutionTest, GradWeights) {
    TinyPlan t;
    const std::size_t pw = t.parameter(w), pb = t.parameter(b, graph::ParameterKind::bias);
    std::vector<TensorId> out = {t.gradient(pw)};
    if (c.bias) out.push_back(t.gradient(pb));
    t.node(graph::Conv2dGradWeights{c.g}, {t.input(x), t.input(dy)}, out);
    Ran ran(t);
    Values dw = reference::conv2d_grad_weights(x, dy, w.shape, c.g).data;
    Values db = reference::conv2d_grad_bias(dy);
    EXPECT_TRUE(near(ran[out[0]], dw, tolerance));
    if (c.bias) {
        EXPECT_TRUE(near(ran[out[1]], db, tolerance));
    }

    exec::Step step = t.step();
    const std::vector<float> garbage(static_cast<std::size_t>(w.shape.elements()), 1e9f);
    ran.backend->upload(t.plan.parameters[pw], exec::Slot::gradient, garbage);
    ran.executable->run(step);
    EXPECT_TRUE(near(ran[out[0]], dw, tolerance)) << "over garbage";
    step.first_micro = false;
    ran.executable->run(step);
    for (double& v : dw) v *= 2;
    for (double& v : db) v *= 2;
    EXPECT_TRUE(near(ran[out[0]], dw, tolerance)) << "added";
    if (c.bias) {
        EXPECT_TRUE(near(ran[out[1]], db, tolerance)) << "added";
    }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, ConvolutionTest,
    ::testing::Values(Case{"stem", {2, 3, 33, 33}, 16, 7, 7, {2, 3, 1, 1}},
                      Case{"one by one", {2, 37, 9, 11}, 53, 1, 1, {}},
                      Case{"one by one, one pixel", {3, 40, 1, 1}, 24, 1, 1, {}},
                      Case{"one channel", {1, 1, 5, 4}, 1, 3, 3, {1, 1, 1, 1}, true},
                      Case{"classifier with bias", {2, 64, 9, 9}, 21, 1, 1, {}, true},
                      Case{"odd channels", {1, 19, 8, 7}, 35, 3, 3, {1, 1, 1, 1}, true},
                      Case{"wide", {1, 304, 7, 7}, 256, 3, 3, {1, 1, 1, 1}},
                      Case{"stride", {2, 32, 13, 14}, 48, 3, 3, {2, 1, 1, 1}},
                      Case{"shortcut", {2, 32, 13, 14}, 64, 1, 1, {2, 0, 1, 1}},
                      Case{"kernel 3 by 1", {1, 16, 9, 9}, 16, 3, 1, {1, 1, 1, 1}},
                      Case{"dilated", {2, 32, 11, 9}, 32, 3, 3, {1, 2, 2, 1}},
                      Case{"rate 6 on 5x5", {2, 64, 5, 5}, 32, 3, 3, {1, 6, 6, 1}},
                      Case{"rate 12 on 5x5", {2, 64, 5, 5}, 32, 3, 3, {1, 12, 12, 1}},
                      Case{"rate 18 on 5x5", {2, 64, 5, 5}, 32, 3, 3, {1, 18, 18, 1}},
                      Case{"rate 6 on 5x9", {1, 32, 5, 9}, 32, 3, 3, {1, 6, 6, 1}},
                      Case{"rate 12 on 33x33", {1, 16, 33, 33}, 16, 3, 3, {1, 12, 12, 1}},
                      Case{"rate 18 on 33x33", {1, 16, 33, 33}, 16, 3, 3, {1, 18, 18, 1}},
                      Case{"stem, 64 of odd sides", {1, 3, 35, 49}, 64, 7, 7, {2, 3, 1, 1}},
                      Case{"dilation 4, odd channels", {1, 83, 9, 11}, 67, 3, 3, {1, 4, 4, 1}},
                      Case{"stride and dilation", {2, 35, 13, 10}, 37, 3, 3, {2, 2, 2, 1}, true},
                      Case{"odd shortcut", {2, 67, 15, 9}, 131, 1, 1, {2, 0, 1, 1}},
                      Case{"3x3, many tiles", {2, 35, 45, 47}, 33, 3, 3, {1, 1, 1, 1}},
                      Case{"3x3 without padding", {1, 40, 8, 11}, 64, 3, 3, {1, 0, 1, 1}},
                      Case{"3x3, more padding", {1, 64, 7, 6}, 40, 3, 3, {1, 2, 1, 1}},
                      Case{"rate 2, smaller map", {1, 41, 12, 9}, 34, 3, 3, {1, 1, 2, 1}},
                      Case{"3x3 of one pixel", {2, 32, 1, 1}, 32, 3, 3, {1, 1, 1, 1}},
                      Case{"shortcut of many rows", {3, 64, 41, 39}, 48, 1, 1, {2, 0, 1, 1}},
                      Case{"stride of an even map", {1, 48, 30, 28}, 50, 3, 3, {2, 1, 1, 1}},
                      Case{"a tap outside the map", {1, 32, 2, 5}, 40, 3, 3, {2, 2, 3, 1}},
                      Case{"groups", {2, 32, 9, 9}, 64, 3, 3, {1, 1, 1, 4}, true},
                      Case{"depthwise", {2, 48, 9, 9}, 48, 3, 3, {1, 1, 1, 48}},
                      Case{"depthwise, dilated", {1, 32, 13, 13}, 32, 3, 3, {1, 6, 6, 32}},
                      Case{"depthwise, above the map", {1, 32, 5, 5}, 32, 3, 3, {1, 12, 12, 32}},
                      Case{"odd groups", {1, 15, 6, 6}, 9, 3, 3, {2, 1, 1, 3}}));

// More pixels than the weights' gradient takes at a time.
TEST(Convolution, WeightsFromManyPixels) {
    const graph::ConvGeometry g{1, 50, 50, 1};
    const reference::Tensor x = reference::random_tensor({1, 32, 121, 123}, 1),
                            dy = reference::random_tensor({1, 32, 121, 123}, 2);
    TinyPlan t;
    const TensorId dw = t.gradient(t.parameter(reference::Tensor({32, 32, 3, 3})));
    t.node(graph::Conv2dGradWeights{g}, {t.input(x), t.input(dy)}, {dw});
    EXPECT_TRUE(
        near(Ran(t)[dw], reference::conv2d_grad_weights(x, dy, {32, 32, 3, 3}, g).data, tolerance));
}

// More threads than Winograd has matrices, too.
TEST(Convolution, TheNumberOfThreadsDoesNotChangeABit) {
    const reference::Tensor x = reference::random_tensor({2, 37, 15, 17}, 1),
                            w = reference::random_tensor({45, 37, 3, 3}, 2);
    for (const std::int64_t stride : {1, 2}) {
        const graph::ConvGeometry g{stride, 1, 1, 1};
        const reference::Tensor forward = reference::conv2d(x, w, {}, g),
                                dy = reference::random_tensor(forward.shape, 3);
        const Values dx_expected = reference::conv2d_grad_data(dy, w, x.shape, g).data,
                     dw_expected = reference::conv2d_grad_weights(x, dy, w.shape, g).data;
        TinyPlan t;
        const std::size_t pw = t.parameter(w);
        const TensorId in = t.input(x), gradient = t.input(dy), y = t.arena(dy.shape),
                       dx = t.arena(x.shape), dw = t.gradient(pw);
        t.node(graph::Conv2d{g}, {in, t.value(pw)}, {y});
        t.node(graph::Conv2dGradData{g}, {gradient, t.value(pw)}, {dx});
        t.node(graph::Conv2dGradWeights{g}, {in, gradient}, {dw});
        const Ran one(t, {}, 1);
        EXPECT_TRUE(near(one[y], forward.data, tolerance));
        EXPECT_TRUE(near(one[dx], dx_expected, tolerance));
        EXPECT_TRUE(near(one[dw], dw_expected, tolerance));
        for (const int threads : {2, 3, 20}) {
            const Ran several(t, {}, threads);
            for (const TensorId id : {y, dx, dw}) EXPECT_EQ(one[id], several[id]) << threads;
        }
    }
}

}  // namespace
}  // namespace deeplab::testing
