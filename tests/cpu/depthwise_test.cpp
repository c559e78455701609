#include "deeplab/base/text.h"
#include "deeplab/graph/operands.h"
#include "ops/case_plans.h"
#include "reference/interpreter.h"

namespace deeplab::testing {
namespace {

using graph::Activation;

// The case on the CPU, two micro-batches of a step, against the reference.
void agrees(const ConvolutionCase& c, DType type = DType::f32, int threads = 2) {
    SCOPED_TRACE(c.what);
    CasePlan p = convolution(c);
    graph::set_activation_type(p.t.plan, type);
    reference::Interpreter expected(p.t.plan, case_seed);
    for (const auto& [id, value] : p.t.given) expected.give(id, value);
    Ran ran(p.t, {.poison = true}, threads);
    ran.executable->run(p.step(false));
    expected.run(p.step(true));
    expected.run(p.step(false));
    const double limit = type == DType::f32 ? tolerance : 5e-4;
    for (const graph::Node& node : p.t.plan.nodes) {
        const TensorId id = graph::subject(node);
        EXPECT_TRUE(near(ran[id], expected.value(id).data, limit)) << graph::name(node.op);
    }
}

// What an activation stops is neither in y nor in dw, and gets no gradient.
TEST(Depthwise, ActivatesItsInput) {
    for (const Activation input : {Activation::relu, Activation::relu6}) {
        for (const DType type : {DType::f32, DType::bf16}) {
            for (const std::int64_t channels : {3, 31, 48, 150}) {
                for (const graph::ConvGeometry g : {graph::ConvGeometry{1, 1, 1, channels},
                                                    {1, 2, 2, channels},
                                                    {2, 1, 1, channels},
                                                    {1, 12, 12, channels}}) {
                    agrees({cat(math::name(input), ", ", channels, " channels, stride ", g.stride,
                                ", rate ", g.dilation),
                            {2, channels, 9, 14},
                            channels,
                            3,
                            3,
                            g,
                            false,
                            false,
                            input},
                           type);
                }
            }
        }
    }
}

// Sums of more pixels than fp32 would add one by one.
TEST(Depthwise, WeightsFromManyPixels) {
    for (const std::int64_t stride : {1, 2})
        agrees({"many pixels", {2, 5, 193, 195}, 5, 3, 3, {stride, 1, 1, 5}});
}

TEST(Depthwise, TheSameThreadsGiveTheSameBits) {
    const ConvolutionCase c{"bits", {3, 75, 13, 17}, 75, 3, 3, {1, 2, 2, 75}};
    const CasePlan p = convolution(c);
    const TensorId y = graph::subject(p.t.plan.nodes[0]), dx = graph::subject(p.t.plan.nodes[1]),
                   dw = graph::subject(p.t.plan.nodes[2]);
    const Ran one(p.t, {}, 1);
    for (const int threads : {1, 2, 3, 20, 64}) {
        agrees(c, DType::f32, threads);
        const Ran first(p.t, {}, threads), second(p.t, {}, threads);
        for (const TensorId id : {y, dx, dw}) EXPECT_EQ(first[id], second[id]) << threads;
        for (const TensorId id : {y, dx}) EXPECT_EQ(first[id], one[id]) << threads;
    }
}

}  // namespace
}  // namespace deeplab::testing
