#include "deeplab/graph/memory_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "deeplab/model/deeplab.h"

namespace deeplab::graph {
namespace {

std::int64_t plain_bytes(const Tensor& t) {
    return t.shape.elements() * static_cast<std::int64_t>(size_of(t.dtype));
}

// The property itself, checked pair by pair: whoever is live at the same time lies apart.
void expect_no_overlap(const Plan& plan, const MemoryPlan& memory) {
    std::size_t placed = 0;
    for (std::size_t a = 0; a < memory.placements.size(); ++a) {
        const Placement& p = memory.placements[a];
        if (p.offset < 0) continue;
        ++placed;
        EXPECT_GE(p.bytes, plain_bytes(plan.tensors[a]));
        EXPECT_LE(p.offset + p.bytes, memory.arena_bytes);
        for (std::size_t b = a + 1; b < memory.placements.size(); ++b) {
            const Placement& q = memory.placements[b];
            if (q.offset < 0 || p.last < q.first || q.last < p.first) continue;
            EXPECT_TRUE(p.offset + p.bytes <= q.offset || q.offset + q.bytes <= p.offset)
                << plan.tensors[a].name << " and " << plan.tensors[b].name << " overlap";
        }
    }
    EXPECT_GT(placed, 50u);
}

// Every use of a tensor, through slices too, falls inside the life that was planned for its root.
void expect_uses_inside_life(const Plan& plan, const MemoryPlan& memory) {
    for (std::size_t i = 0; i < plan.nodes.size(); ++i) {
        for (const auto* list : {&plan.nodes[i].in, &plan.nodes[i].out}) {
            for (const TensorId id : *list) {
                const TensorId root = plan.root(id);
                if (plan.tensor(root).space != Space::arena) continue;
                const Placement& p = memory.placements[static_cast<std::size_t>(root)];
                EXPECT_GE(p.offset, 0);
                EXPECT_LE(p.first, static_cast<std::int32_t>(i));
                EXPECT_GE(p.last, static_cast<std::int32_t>(i));
            }
        }
    }
}

class MemoryPlanTest : public testing::TestWithParam<const char*> {};

TEST_P(MemoryPlanTest, LiveTensorsNeverOverlap) {
    for (const int stride : {8, 16}) {
        const Plan plan = model::training_plan({.backbone = GetParam(), .output_stride = stride},
                                               {.batch = 2, .height = 97, .width = 65}, {});
        const MemoryPlan memory = plan_memory(plan, plain_bytes);
        expect_no_overlap(plan, memory);
        expect_uses_inside_life(plan, memory);
    }
}

INSTANTIATE_TEST_SUITE_P(Backbones, MemoryPlanTest,
                         testing::Values("resnet18", "resnet50", "resnet101", "mobilenet_v2",
                                         "xception65"));

TEST(MemoryPlan, InferenceReusesMemory) {
    const Plan plan = model::inference_plan({.backbone = "resnet50"}, 1, 513, 513);
    const MemoryPlan memory = plan_memory(plan, plain_bytes);
    expect_no_overlap(plan, memory);
    std::int64_t all = 0;
    for (const Placement& p : memory.placements) all += p.offset < 0 ? 0 : p.bytes;
    EXPECT_LT(memory.arena_bytes, all / 5);
}

TEST(MemoryPlan, KeptTensorLivesToTheEnd) {
    const Plan plan = model::training_plan(
        {.backbone = "resnet18"}, {.batch = 2, .height = 65, .width = 65, .keep_logits = true}, {});
    const MemoryPlan memory = plan_memory(plan, plain_bytes);
    EXPECT_EQ(memory.placements[static_cast<std::size_t>(plan.logits)].last,
              static_cast<std::int32_t>(plan.nodes.size()) - 1);
}

TEST(MemoryPlan, ArenaIsCloseToItsLowerBound) {
    const Plan plan = model::training_plan({.backbone = "resnet101"}, {.batch = 2}, {});
    const MemoryPlan memory = plan_memory(plan, plain_bytes);
    std::vector<std::int64_t> live(plan.nodes.size(), 0);
    for (const Placement& p : memory.placements) {
        for (std::int32_t i = p.first; i <= p.last; ++i)
            live[static_cast<std::size_t>(i)] += p.bytes;
    }
    const std::int64_t bound = *std::max_element(live.begin(), live.end());
    EXPECT_LE(static_cast<double>(memory.arena_bytes), 1.1 * static_cast<double>(bound));
    RecordProperty("arena_mib", static_cast<int>(memory.arena_bytes >> 20));
}

}  // namespace
}  // namespace deeplab::graph
