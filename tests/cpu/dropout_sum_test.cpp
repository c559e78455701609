#include "ops/tiny_plan.h"

namespace deeplab::testing {
namespace {

class DropoutTest : public ::testing::TestWithParam<Shape> {};

TEST_P(DropoutTest, MaskIsThatOfMath) {
    const Shape shape = GetParam();
    const reference::Tensor x = reference::random_tensor(shape, 1),
                            dy = reference::random_tensor(shape, 2);
    TinyPlan t;
    std::vector<math::SampleKey> keys;
    for (std::int64_t n = 0; n < shape.n; ++n) {
        keys.push_back({3, static_cast<std::uint32_t>(100 + 7 * n)});
        t.samples.push_back({keys.back().epoch, keys.back().sample});
    }
    const TensorId y = t.arena(shape), dx = t.arena(shape);
    t.node(graph::Dropout{0.3f, 2}, {t.input(x)}, {y});
    t.node(graph::DropoutGrad{0.3f, 2}, {t.input(dy)}, {dx});
    const Ran ran(t, {.seed = 12345, .poison = true});
    EXPECT_TRUE(near(ran[y], reference::dropout(x, 0.3f, 2, 12345, keys).data, tolerance));
    EXPECT_TRUE(near(ran[dx], reference::dropout(dy, 0.3f, 2, 12345, keys).data, tolerance));
}

INSTANTIATE_TEST_SUITE_P(Shapes, DropoutTest,
                         ::testing::Values(Shape{3, 19, 5, 7}, Shape{2, 64, 9, 65},
                                           Shape{1, 1, 1, 1}, Shape{2, 5, 3, 129},
                                           Shape{1, 256, 4, 4}, Shape{3, 131, 3, 7}));

TEST(Sum, OfTwoToEight) {
    const Shape shape{2, 37, 3, 5};
    for (std::size_t count = 2; count <= 8; ++count) {
        TinyPlan t;
        std::vector<reference::Tensor> x;
        std::vector<TensorId> in;
        for (std::size_t i = 0; i < count; ++i) {
            x.push_back(reference::random_tensor(shape, i));
            in.push_back(t.input(x.back()));
            if (i % 2 == 1) in.back() = t.as_slice(in.back(), 3, 4);
        }
        const TensorId y = t.arena(shape);
        t.node(graph::Sum{}, in, {y});
        EXPECT_TRUE(near(Ran(t)[y], reference::sum(x).data, tolerance)) << count;
    }
}

}  // namespace
}  // namespace deeplab::testing
