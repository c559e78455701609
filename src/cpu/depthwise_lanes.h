#pragma once
// Channels side by side: what the loops of depthwise.cpp compute with.

#include <cstdint>
#include <type_traits>
#include <utility>

#include "deeplab/math/activation.h"
#include "vector.h"

namespace deeplab::cpu {

using math::Activation;

// Values side by side: a register's, half of one, or one.
using Half = float __attribute__((vector_size(8 * sizeof(float))));
template <class T>
constexpr std::int64_t width_of = static_cast<std::int64_t>(sizeof(T) / sizeof(float));

// math::activated and math::passes, in place: a vector as a parameter is not the same on every
// processor. A comparison of vectors has all bits of an element set.
template <Activation A, class T>
void activate(T& x) {
    if constexpr (std::is_same_v<T, float>) {
        x = math::activated(A, x);
    } else if constexpr (A != Activation::none) {
        const auto below = T{} > x;
        x = reinterpret_cast<T>(reinterpret_cast<decltype(below)>(x) & ~below);
        if constexpr (A == Activation::relu6) {
            const T six = T{} + 6.0f;
            x = six < x ? six : x;
        }
    }
}
template <Activation A, class T>
void mask(const T& x, T& gradient) {
    if constexpr (std::is_same_v<T, float>) {
        if (!math::passes(A, x)) gradient = 0.0f;
    } else if constexpr (A != Activation::none) {
        auto passes = x > T{};
        if constexpr (A == Activation::relu6) passes &= x < T{} + 6.0f;
        gradient = reinterpret_cast<T>(reinterpret_cast<decltype(passes)>(gradient) & passes);
    }
}

template <class T, int Count>
struct Block {
    static constexpr int vectors = Count;
    using Type = T;
};

// f(block, its first channel), for all channels: many vectors at a time, then what is left.
template <int Vectors, class F>
void each_block(std::int64_t channels, const F& f) {
    std::int64_t c = 0;
    for (; c + Vectors * lanes <= channels; c += Vectors * lanes) f(Block<Vector, Vectors>{}, c);
    for (; c + lanes <= channels; c += lanes) f(Block<Vector, 1>{}, c);
    for (; c + width_of<Half> <= channels; c += width_of<Half>) f(Block<Half, 1>{}, c);
    for (; c < channels; ++c) f(Block<float, 1>{}, c);
}

// f(0), f(1), … as constants, from the start: a loop that is unrolled later leaves its sums in
// memory.
template <class F, int... I>
void each_of(std::integer_sequence<int, I...>, const F& f) {
    (f(std::integral_constant<int, I>{}), ...);
}
template <int Count, class F>
void each(const F& f) {
    each_of(std::make_integer_sequence<int, Count>{}, f);
}

template <Activation A, class T, int V>
void load_activated(const float* from, T (&x)[V]) {
    each<V>([&](auto v) {
        load(from + v * width_of<T>, x[v]);
        activate<A>(x[v]);
    });
}
template <class T, int V>
void add_to(const T (&sum)[V], float* place) {
    each<V>([&](auto v) {
        T before;
        load(place + v * width_of<T>, before);
        store(before + sum[v], place + v * width_of<T>);
    });
}

// Asks for the channels that a part reads of a row.
inline void prefetch(const float* row, std::int64_t width, std::int64_t pitch, std::int64_t count) {
    for (std::int64_t q = 0; q < width; ++q)
        for (std::int64_t c = 0; c < count; c += 16) __builtin_prefetch(row + q * pitch + c, 0, 2);
}

// f(activation as a constant).
template <class F>
void with_activation(Activation activation, const F& f) {
    switch (activation) {
        case Activation::none: return f(std::integral_constant<Activation, Activation::none>{});
        case Activation::relu: return f(std::integral_constant<Activation, Activation::relu>{});
        case Activation::relu6: return f(std::integral_constant<Activation, Activation::relu6>{});
    }
}

}  // namespace deeplab::cpu
