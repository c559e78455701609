#pragma once
// A tensor in device memory.

#include <cstdint>

#include "deeplab/base/types.h"

namespace deeplab::cuda {

// N H W C: element (n, h, w, c) at ((n * H + h) * W + w) * pitch + c. A slice of a concatenation
// has the pitch of the tensor that owns the memory, and `data` at its first channel. No data: there
// is no such tensor.
struct View {
    Shape shape;
    std::int64_t pitch = 0;  // elements from one pixel to the next
    DType type = DType::f32;
    void* data = nullptr;

    explicit operator bool() const { return data != nullptr; }
    std::int64_t pixels() const { return shape.n * shape.h * shape.w; }
    template <class T>
    T* as() const {
        return static_cast<T*>(data);
    }
};

}  // namespace deeplab::cuda
