#include "deeplab/graph/memory_plan.h"

#include <algorithm>
#include <numeric>

#include "deeplab/base/error.h"

namespace deeplab::graph {
namespace {

bool overlap_in_time(const Placement& a, const Placement& b) {
    return a.first <= b.last && b.first <= a.last;
}

// First and last node that touches each arena tensor; slices count for their root.
std::vector<Placement> lifetimes(const Plan& plan,
                                 const std::function<std::int64_t(const Tensor&)>& bytes_of,
                                 std::int64_t alignment) {
    std::vector<Placement> all(plan.tensors.size());
    for (std::size_t i = 0; i < plan.nodes.size(); ++i) {
        const auto touch = [&](TensorId id) {
            const TensorId root = plan.root(id);
            if (plan.tensor(root).space != Space::arena) return;
            Placement& p = all[static_cast<std::size_t>(root)];
            if (p.last < 0) {
                p.first = static_cast<std::int32_t>(i);
                p.bytes = (bytes_of(plan.tensor(root)) + alignment - 1) / alignment * alignment;
            }
            p.last = static_cast<std::int32_t>(i);
        };
        for (const TensorId id : plan.nodes[i].in) touch(id);
        for (const TensorId id : plan.nodes[i].out) touch(id);
    }
    for (std::size_t t = 0; t < all.size(); ++t) {
        if (plan.tensors[t].keep && all[t].last >= 0)
            all[t].last = static_cast<std::int32_t>(plan.nodes.size()) - 1;
    }
    return all;
}

}  // namespace

// Largest first, each at the lowest offset that is free during its life.
MemoryPlan plan_memory(const Plan& plan, const std::function<std::int64_t(const Tensor&)>& bytes_of,
                       std::int64_t alignment) {
    expects(alignment > 0, "an alignment is positive");
    MemoryPlan result;
    result.placements = lifetimes(plan, bytes_of, alignment);
    std::vector<std::size_t> order;
    for (std::size_t t = 0; t < result.placements.size(); ++t) {
        if (result.placements[t].last >= 0) order.push_back(t);
    }
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return result.placements[a].bytes > result.placements[b].bytes;
    });
    std::vector<std::size_t> placed;  // by offset
    for (const std::size_t t : order) {
        Placement& p = result.placements[t];
        std::int64_t offset = 0;
        for (const std::size_t other : placed) {
            const Placement& o = result.placements[other];
            if (!overlap_in_time(p, o)) continue;
            if (offset + p.bytes <= o.offset) break;
            offset = std::max(offset, o.offset + o.bytes);
        }
        p.offset = offset;
        result.arena_bytes = std::max(result.arena_bytes, offset + p.bytes);
        const auto where = std::upper_bound(
            placed.begin(), placed.end(), offset,
            [&](std::int64_t value, std::size_t i) { return value < result.placements[i].offset; });
        placed.insert(where, t);
    }
    return result;
}

}  // namespace deeplab::graph
