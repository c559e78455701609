#pragma once
// Where a plan's tensors lie in a backend's buffers, of which there is one for each graph::Space.

#include <cstdint>
#include <vector>

#include "deeplab/graph/memory_plan.h"
#include "deeplab/graph/plan.h"

namespace deeplab::exec {

// A backend's way to keep tensors.
struct Storage {
    std::int64_t alignment = 64;  // bytes, of every tensor's begin, a power of two
    bool bf16_as_f32 = false;     // bf16 tensors are floats that hold bf16 values

    DType type(const graph::Tensor& tensor) const {
        return bf16_as_f32 && tensor.dtype == DType::bf16 ? DType::f32 : tensor.dtype;
    }
    std::int64_t bytes(const graph::Tensor& tensor) const {
        return tensor.shape.elements() * static_cast<std::int64_t>(size_of(type(tensor)));
    }
    constexpr std::int64_t align(std::int64_t bytes) const {
        return (bytes + alignment - 1) / alignment * alignment;
    }
};

struct TensorPlace {
    DType type = DType::f32;  // of the elements in memory
    std::int64_t offset = 0;  // bytes, in the buffer of the tensor's space
    std::int64_t pitch = 0;   // elements from one pixel to the next: the channels of the root
};

struct PlanPlacement {
    graph::MemoryPlan memory;          // of the arena
    std::vector<TensorPlace> tensors;  // by TensorId
    // Bytes of the buffers that belong to a plan alone. Those of parameters, gradients and states
    // are the model's, in the plan's offsets.
    std::int64_t inputs = 0, results = 0, exchanges = 0;
};

// The tensors of a message lie side by side, in its order: an exchange needs no packing. LogicError
// when an exchange tensor belongs to two messages, or a parameter, gradient or state tensor to none
// of the plan's parameters and states.
PlanPlacement place_tensors(const graph::Plan& plan, const Storage& storage);

// A backend's buffers, each named by what it holds.
template <class Buffer>
struct BySpace {
    Buffer arena, input, parameter, gradient, state, exchange, result;

    Buffer of(graph::Space space) const {
        switch (space) {
            case graph::Space::arena: return arena;
            case graph::Space::input: return input;
            case graph::Space::parameter: return parameter;
            case graph::Space::gradient: return gradient;
            case graph::Space::state: return state;
            case graph::Space::exchange: return exchange;
            case graph::Space::result: break;
        }
        return result;
    }
};

}  // namespace deeplab::exec
