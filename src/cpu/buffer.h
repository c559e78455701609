#pragma once
// Memory of the backend, and the views of tensors in it.

#include <cstddef>
#include <cstdint>

#include "deeplab/base/types.h"

namespace deeplab::cpu {

// Zero pages straight from the system: untouched ones cost nothing, large ones are asked for.
class Buffer {
public:
    explicit Buffer(const char* what) : what_(what) {}
    ~Buffer() { release(); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    // At least this large; growing loses the content. DeviceError when the system has not got it.
    void reserve(std::int64_t bytes);
    std::byte* data() const { return data_; }
    std::int64_t bytes() const { return bytes_; }
    // Every float and double of the range becomes NaN.
    void poison(std::int64_t offset, std::int64_t bytes);

private:
    void release();

    const char* what_;
    std::byte* data_ = nullptr;
    std::int64_t bytes_ = 0;
};

// A tensor or a channel slice of one. Activations lie as N H W C: element (n, h, w, c) at ((n * H +
// h) * W + w) * pitch + c. Parameters and their gradients lie in the plan's order (K, C/groups, R,
// S). The buffer may move between runs.
struct View {
    const Buffer* buffer = nullptr;
    std::int64_t offset = 0;  // bytes
    Shape shape;
    std::int64_t pitch = 0;  // elements from one pixel to the next: the channels of the root
    DType dtype = DType::f32;

    std::int64_t pixels() const { return shape.n * shape.h * shape.w; }
    template <class T>
    T* as() const {
        return reinterpret_cast<T*>(buffer->data() + offset);
    }
    float* f32() const { return as<float>(); }
    double* f64() const { return as<double>(); }
    std::uint8_t* u8() const { return as<std::uint8_t>(); }
};

}  // namespace deeplab::cpu
