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

// Asks for what a loop over rows reads a few rows later: `count` floats, 8 KB after `row`. For
// loops that compute more than they read, where the processor's own prefetching falls behind.
inline void prefetch_after(const float* row, std::int64_t count) {
    for (std::int64_t i = 0; i < count; i += 16) __builtin_prefetch(row + 2048 + i);
}

}  // namespace deeplab::cpu
