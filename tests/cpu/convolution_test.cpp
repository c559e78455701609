#include "ops/tiny_plan.h"

namespace deeplab::testing {
namespace {

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
