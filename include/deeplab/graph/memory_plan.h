#pragma once
// Offsets in one arena by liveness in list order.

#include <cstdint>
#include <functional>
#include <vector>

#include "deeplab/graph/plan.h"

namespace deeplab::graph {

struct Placement {
    std::int64_t offset = -1, bytes = 0;  // offset -1: not in the arena, or a slice (see its root)
    std::int32_t first = 0, last = -1;    // nodes between which the tensor is live, both included
};

struct MemoryPlan {
    std::int64_t arena_bytes = 0;
    std::vector<Placement> placements;  // by TensorId
};

// `bytes_of` is the backend's: padding and layout are its business. A kept tensor is live to the
// end of the list.
MemoryPlan plan_memory(const Plan& plan, const std::function<std::int64_t(const Tensor&)>& bytes_of,
                       std::int64_t alignment = 64);

}  // namespace deeplab::graph
