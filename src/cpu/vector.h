#pragma once
// Numbers side by side in a vector register.

#include <cstdint>
#include <cstring>

namespace deeplab::cpu {

#if defined(__AVX512F__)
constexpr std::int64_t lanes = 16;
#else
constexpr std::int64_t lanes = 8;
#endif
using Vector = float __attribute__((vector_size(lanes * sizeof(float))));

template <class T>
void load(const float* from, T& to) {
    std::memcpy(&to, from, sizeof(T));
}

template <class T>
void store(const T& from, float* to) {
    std::memcpy(to, &from, sizeof(T));
}

}  // namespace deeplab::cpu
