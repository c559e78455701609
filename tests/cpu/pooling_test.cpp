#include "ops/tiny_plan.h"

namespace deeplab::testing {
namespace {

struct PoolCase {
    Shape x;
    graph::MaxPool op;
};

class MaxPoolTest : public ::testing::TestWithParam<PoolCase> {};

TEST_P(MaxPoolTest, ForwardAndBackward) {
    const auto& [shape, op] = GetParam();
    reference::Tensor x = reference::random_tensor(shape, 1);
    for (double& v : x.data) v = std::round(v * 4) / 4;  // ties: the first wins
    const reference::MaxPool expected = reference::max_pool(x, op);
    const reference::Tensor dy = reference::random_tensor(expected.y.shape, 2);
    TinyPlan t;
    const TensorId in = t.input(x), y = t.arena(expected.y.shape),
                   arg = t.arena(expected.y.shape, DType::u8);
    const TensorId dx = t.arena(shape);
    t.node(op, {in}, {y, arg});
    t.node(graph::MaxPoolGrad{op.kernel, op.stride, op.pad}, {t.input(dy), arg}, {dx});
    const Ran ran(t);
    EXPECT_EQ(ran[y], floats(expected.y.data));
    EXPECT_EQ(ran[arg], floats(expected.arg.data));
    EXPECT_TRUE(
        near(ran[dx], reference::max_pool_grad(dy, expected.arg, shape, op).data, tolerance));
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, MaxPoolTest,
    ::testing::Values(PoolCase{{2, 64, 17, 13}, {3, 2, 1}}, PoolCase{{1, 19, 8, 9}, {3, 2, 1}},
                      PoolCase{{1, 1, 1, 1}, {3, 2, 1}}, PoolCase{{2, 33, 7, 7}, {2, 2, 0}},
                      PoolCase{{1, 131, 9, 21}, {3, 2, 1}}, PoolCase{{1, 5, 9, 9}, {5, 1, 2}},
                      PoolCase{{1, 16, 10, 7}, {3, 3, 0}}));

TEST(MaxPool, NanWins) {
    reference::Tensor x = reference::random_tensor({1, 20, 4, 4}, 1);
    x.at(0, 3, 1, 1) = NAN;
    TinyPlan t;
    const TensorId in = t.input(x), y = t.arena({1, 20, 2, 2});
    t.node(graph::MaxPool{2, 2, 0}, {in}, {y});
    const std::vector<float> result = Ran(t)[y];
    for (std::size_t i = 0; i < result.size(); ++i)
        EXPECT_EQ(std::isnan(result[i]), i == 3 * 4) << i;
}

class ResizeTest : public ::testing::TestWithParam<std::pair<Shape, Shape>> {};

TEST_P(ResizeTest, ForwardAndBackward) {
    const auto& [small, large] = GetParam();
    const reference::Tensor x = reference::random_tensor(small, 1),
                            dy = reference::random_tensor(large, 2);
    TinyPlan t;
    const TensorId in = t.input(x), y = t.arena(large), dx = t.arena(small),
                   dx_of_slice = t.arena(small);
    const TensorId parent = t.arena({large.n, large.c + 11, large.h, large.w}),
                   slice = t.slice(parent, 7, large.c);
    const TensorId gradient = t.input(dy);
    t.node(graph::Upsample{}, {in}, {y});
    t.node(graph::Upsample{}, {in}, {slice});
    t.node(graph::UpsampleGrad{}, {gradient}, {dx});
    t.node(graph::UpsampleGrad{}, {t.as_slice(gradient, 5, 1)}, {dx_of_slice});
    const Ran ran(t, {});
    const Values up = reference::upsample(x, large.h, large.w).data;
    const Values down = reference::upsample_grad(dy, small).data;
    EXPECT_TRUE(near(ran[y], up, tolerance));
    EXPECT_TRUE(near(ran[slice], up, tolerance));
    EXPECT_TRUE(near(ran[dx], down, tolerance));
    EXPECT_TRUE(near(ran[dx_of_slice], down, tolerance));
    const std::vector<float> whole = ran[parent];  // the neighbours of the slice are as they were
    reference::Tensor around({large.n, large.c + 11, large.h, large.w});
    around.data.assign(whole.begin(), whole.end());
    for (const std::int64_t outside : {0, 6}) EXPECT_EQ(around.at(0, outside, 0, 0), 0.0);
    EXPECT_EQ(around.at(0, large.c + 7, 0, 0), 0.0);
}

INSTANTIATE_TEST_SUITE_P(Shapes, ResizeTest,
                         ::testing::Values(std::pair{Shape{2, 64, 5, 5}, Shape{2, 64, 17, 17}},
                                           std::pair{Shape{1, 19, 3, 4}, Shape{1, 19, 10, 9}},
                                           std::pair{Shape{2, 33, 1, 1}, Shape{2, 33, 7, 5}},
                                           std::pair{Shape{1, 16, 6, 1}, Shape{1, 16, 6, 3}},
                                           std::pair{Shape{1, 21, 9, 9}, Shape{1, 21, 4, 5}},
                                           std::pair{Shape{1, 131, 5, 7}, Shape{1, 131, 17, 25}},
                                           std::pair{Shape{3, 67, 4, 3}, Shape{3, 67, 4, 3}},
                                           std::pair{Shape{1, 3, 33, 33}, Shape{1, 3, 129, 129}}));

class AveragePoolTest : public ::testing::TestWithParam<Shape> {};

TEST_P(AveragePoolTest, ForwardAndBackward) {
    const Shape shape = GetParam(), pooled{shape.n, shape.c, 1, 1};
    const reference::Tensor x = reference::random_tensor(shape, 1),
                            dy = reference::random_tensor(pooled, 2);
    TinyPlan t;
    const TensorId y = t.arena(pooled), dx = t.arena(shape);
    t.node(graph::GlobalAveragePool{}, {t.input(x)}, {y});
    t.node(graph::GlobalAveragePoolGrad{}, {t.input(dy)}, {dx});
    const Ran ran(t);
    EXPECT_TRUE(near(ran[y], reference::global_average_pool(x).data, tolerance));
    EXPECT_TRUE(near(ran[dx], reference::global_average_pool_grad(dy, shape).data, tolerance));
}

INSTANTIATE_TEST_SUITE_P(Shapes, AveragePoolTest,
                         ::testing::Values(Shape{2, 200, 5, 7}, Shape{1, 3, 33, 33},
                                           Shape{3, 65, 1, 1}, Shape{2, 2048, 3, 5}));

}  // namespace
}  // namespace deeplab::testing
