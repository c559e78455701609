#pragma once
// Cuts a kernel's short-lived memory from the backend's scratch buffer.

#include <cstdint>

#include "buffer.h"

namespace deeplab::cpu {

class Scratch {
public:
    explicit Scratch(const Buffer& buffer) : next_(buffer.data()) {}
    explicit Scratch(std::byte* memory) : next_(memory) {}

    // 64-byte aligned, not initialised.
    template <class T>
    T* take(std::int64_t count) {
        T* result = reinterpret_cast<T*>(next_);
        next_ += bytes_of<T>(count);
        return result;
    }
    template <class T>
    static constexpr std::int64_t bytes_of(std::int64_t count) {
        return (count * static_cast<std::int64_t>(sizeof(T)) + 63) / 64 * 64;
    }

private:
    std::byte* next_;
};

}  // namespace deeplab::cpu
