#include "deeplab/exec/placement.h"

#include <gtest/gtest.h>

#include "deeplab/base/error.h"
#include "deeplab/graph/plan.h"

namespace deeplab::exec {
namespace {

using graph::Space;
using graph::TensorId;

struct Tensors {
    graph::Plan plan;

    TensorId add(const Shape& shape, Space space, DType type = DType::f32,
                 TensorId parent = graph::none, std::int64_t channel = 0) {
        plan.tensors.push_back({.name = "",
                                .shape = shape,
                                .dtype = type,
                                .space = space,
                                .parent = parent,
                                .channel_offset = channel});
        return static_cast<TensorId>(plan.tensors.size() - 1);
    }
    const TensorPlace& operator()(const PlanPlacement& placement, TensorId id) const {
        return placement.tensors[static_cast<std::size_t>(id)];
    }
};

TEST(Placement, OneAfterAnotherWithTheBackendsAlignmentAndTypes) {
    Tensors t;
    const TensorId first = t.add({1, 3, 1, 1}, Space::input, DType::bf16),
                   labels = t.add({1, 1, 5, 1}, Space::input, DType::u8),
                   last = t.add({1, 1, 1, 1}, Space::input, DType::bf16),
                   loss = t.add({}, Space::result, DType::f64);
    const PlanPlacement packed = place_tensors(t.plan, {.alignment = 16});
    EXPECT_EQ(t(packed, first).offset, 0);
    EXPECT_EQ(t(packed, labels).offset, 16);
    EXPECT_EQ(t(packed, last).offset, 32);
    EXPECT_EQ(packed.inputs, 48);
    EXPECT_EQ(t(packed, first).type, DType::bf16);
    EXPECT_EQ(t(packed, loss).offset, 0);
    EXPECT_EQ(packed.results, 16);
    const PlanPlacement wide = place_tensors(t.plan, {.alignment = 4, .bf16_as_f32 = true});
    EXPECT_EQ(t(wide, labels).offset, 12);
    EXPECT_EQ(t(wide, last).offset, 20);
    EXPECT_EQ(t(wide, first).type, DType::f32);
    EXPECT_EQ(t(wide, labels).type, DType::u8);
}

TEST(Placement, SlicesOfSlicesLieInTheirRoot) {
    Tensors t;
    const TensorId in = t.add({2, 10, 3, 3}, Space::input),
                   other = t.add({2, 100, 3, 3}, Space::arena),
                   root = t.add({2, 40, 3, 3}, Space::arena),
                   slice = t.add({2, 20, 3, 3}, Space::arena, DType::f32, root, 7),
                   inner = t.add({2, 10, 3, 3}, Space::arena, DType::f32, slice, 5),
                   unused = t.add({2, 10, 3, 3}, Space::arena),
                   part = t.add({2, 4, 3, 3}, Space::arena, DType::f32, unused, 6);
    t.plan.nodes.push_back({graph::Upsample{}, {in}, {inner}});
    t.plan.nodes.push_back({graph::Upsample{}, {root}, {other}});
    const PlanPlacement placed = place_tensors(t.plan, {});
    const std::int64_t begin = placed.memory.placements[static_cast<std::size_t>(root)].offset;
    EXPECT_GT(begin, 0) << "the larger tensor lies first";
    EXPECT_EQ(t(placed, root).offset, begin);
    EXPECT_EQ(t(placed, slice).offset, begin + 7 * 4);
    EXPECT_EQ(t(placed, inner).offset, begin + 12 * 4);
    for (const TensorId id : {root, slice, inner}) EXPECT_EQ(t(placed, id).pitch, 40);
    EXPECT_EQ(t(placed, in).pitch, 10);
    for (const TensorId id : {unused, part})
        EXPECT_LT(t(placed, id).offset, 0) << "no node touches it";
}

TEST(Placement, TheTensorsOfAMessageLieSideBySide) {
    Tensors t;
    const TensorId a = t.add({1, 4, 1, 1}, Space::exchange, DType::f64),
                   alone = t.add({1, 1, 1, 1}, Space::exchange, DType::f64),
                   b = t.add({1, 5, 1, 1}, Space::exchange, DType::f64);
    t.plan.nodes.push_back({graph::ExchangeStart{0}, {b, a}, {b, a}});
    const PlanPlacement placed = place_tensors(t.plan, {});
    EXPECT_EQ(t(placed, b).offset, 0);
    EXPECT_EQ(t(placed, a).offset, 5 * 8) << "no gap within a message";
    EXPECT_EQ(t(placed, alone).offset, 128) << "the next message is aligned";
    EXPECT_EQ(placed.exchanges, 192);
    t.plan.nodes.push_back({graph::ExchangeStart{1}, {a}, {a}});
    EXPECT_THROW(place_tensors(t.plan, {}), LogicError);
}

TEST(Placement, ParametersAndStatesLieAtThePlansOffsets) {
    Tensors t;
    const Shape shape{1, 6, 1, 1};
    graph::Parameter p{.name = "p", .shape = shape, .offset = 32};
    p.value = t.add(shape, Space::parameter);
    p.gradient = t.add(shape, Space::gradient);
    const TensorId state = t.add(shape, Space::state);
    t.plan.parameters = {p};
    t.plan.parameter_count = 38;
    t.plan.states = {{.name = "s", .shape = shape, .offset = 2, .value = state}};
    t.plan.state_count = 8;
    const PlanPlacement placed = place_tensors(t.plan, {});
    EXPECT_EQ(t(placed, p.value).offset, 128);
    EXPECT_EQ(t(placed, p.gradient).offset, 128);
    EXPECT_EQ(t(placed, state).offset, 8);
    graph::Plan beyond = t.plan;
    beyond.parameter_count = 37;
    EXPECT_THROW(place_tensors(beyond, {}), LogicError);
    beyond = t.plan;
    beyond.state_count = 7;
    EXPECT_THROW(place_tensors(beyond, {}), LogicError);
    for (const Space space : {Space::parameter, Space::gradient, Space::state}) {
        Tensors stray = t;
        stray.add(shape, space);
        EXPECT_THROW(place_tensors(stray.plan, {}), LogicError);
    }
}

}  // namespace
}  // namespace deeplab::exec
