#pragma once
// Values of one type side by side in memory, read and written in one access, computed with as
// floats.

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

namespace deeplab::cuda {

// Values in 16 bytes.
template <class T>
constexpr int vector_width = static_cast<int>(16 / sizeof(T));

// V values as they lie in memory: V is 1 or vector_width<T>.
template <class T, int V>
struct Packed {
    uint4 bits;
};
template <class T>
struct Packed<T, 1> {
    T bits;
};

template <int V, class T>
__device__ __forceinline__ Packed<T, V> load(const T* from) {
    Packed<T, V> p;
    p.bits = *reinterpret_cast<const decltype(p.bits)*>(from);
    return p;
}

__device__ __forceinline__ void unpack(const Packed<float, 1>& p, float (&v)[1]) { v[0] = p.bits; }
__device__ __forceinline__ void unpack(const Packed<__nv_bfloat16, 1>& p, float (&v)[1]) {
    v[0] = __bfloat162float(p.bits);
}
__device__ __forceinline__ void unpack(const Packed<float, 4>& p, float (&v)[4]) {
    v[0] = __uint_as_float(p.bits.x), v[1] = __uint_as_float(p.bits.y);
    v[2] = __uint_as_float(p.bits.z), v[3] = __uint_as_float(p.bits.w);
}
// A bf16 is the upper half of a float; the first of two lies in the lower half of a word.
__device__ __forceinline__ void unpack(const Packed<__nv_bfloat16, 8>& p, float (&v)[8]) {
    const unsigned words[4] = {p.bits.x, p.bits.y, p.bits.z, p.bits.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        v[2 * i] = __uint_as_float(words[i] << 16);
        v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
}

__device__ __forceinline__ void pack(const float (&v)[1], Packed<float, 1>& p) { p.bits = v[0]; }
__device__ __forceinline__ void pack(const float (&v)[1], Packed<__nv_bfloat16, 1>& p) {
    p.bits = __float2bfloat16_rn(v[0]);
}
__device__ __forceinline__ void pack(const float (&v)[4], Packed<float, 4>& p) {
    p.bits.x = __float_as_uint(v[0]), p.bits.y = __float_as_uint(v[1]);
    p.bits.z = __float_as_uint(v[2]), p.bits.w = __float_as_uint(v[3]);
}
__device__ __forceinline__ void pack(const float (&v)[8], Packed<__nv_bfloat16, 8>& p) {
    unsigned words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const __nv_bfloat162 two = __floats2bfloat162_rn(v[2 * i], v[2 * i + 1]);
        memcpy(&words[i], &two, sizeof two);
    }
    p.bits.x = words[0], p.bits.y = words[1], p.bits.z = words[2], p.bits.w = words[3];
}

// For the stand-in for cuda_runtime.h, where this header is compiled for the host: it knows as what
// type memory was written last.
template <class T>
__device__ __forceinline__ void note_written(const T* to, int count) {
#if defined(__CUDACC__)
    static_cast<void>(to), static_cast<void>(count);
#else
    host_note_written(to, count);
#endif
}

template <class T, int V>
__device__ __forceinline__ void load(const T* from, float (&v)[V]) {
    unpack(load<V>(from), v);
}
template <class T, int V>
__device__ __forceinline__ void store(T* to, const float (&v)[V]) {
    Packed<T, V> p;
    pack(v, p);
    *reinterpret_cast<decltype(p.bits)*>(to) = p.bits;
    note_written(to, V);
}

// Four values as bf16: 8 bytes.
__device__ __forceinline__ void store_four(__nv_bfloat16* to, const float (&v)[4]) {
    const __nv_bfloat162 low = __floats2bfloat162_rn(v[0], v[1]),
                         high = __floats2bfloat162_rn(v[2], v[3]);
    uint2 bits;
    memcpy(&bits.x, &low, sizeof low);
    memcpy(&bits.y, &high, sizeof high);
    *reinterpret_cast<uint2*>(to) = bits;
    note_written(to, 4);
}

// What a store and a load in T make of a value: gradients that are stored are summed as stored.
__device__ __forceinline__ float rounded(float value, float) { return value; }
__device__ __forceinline__ float rounded(float value, __nv_bfloat16) {
    return __bfloat162float(__float2bfloat16_rn(value));
}

// A tensor as a kernel's parameter.
template <class T>
struct Rows {
    T* data = nullptr;
    std::int64_t pitch = 0;

    __device__ __forceinline__ T* at(int pixel, int channel) const {
        return data + (static_cast<std::int64_t>(pixel) * pitch + channel);
    }
    __device__ __forceinline__ explicit operator bool() const { return data != nullptr; }
};

}  // namespace deeplab::cuda
