#pragma once
// What kernels with sums a channel share.

#include "launch.cuh"
#include "reduce.cuh"
#include "vector.cuh"

namespace deeplab::cuda {

// Two blocks a processor, and few of them: the last block of a tile adds what they leave.
constexpr int sums_threads = 512, grad_sums_threads = 320;
constexpr int tile_channels = 256;  // the most of a tile: 32 lanes of 8 channels

// Rows of 128 bytes: a warp reads whole cache lines, and the sums of a tile are few.
inline Tiling sums_tiling(const View& x, int width) {
    return tiling(x.shape.c, x.pixels(), width, width > 1 ? 8 : 32, sums_threads, 2 * processors,
                  4);
}
inline Tiling grad_sums_tiling(const View& x, int width) {
    return tiling(x.shape.c, x.pixels(), width, width > 1 ? 8 : 32, grad_sums_threads,
                  2 * processors, 4);
}

// Partial sums of `quantities` a channel. The scalar path may be taken; it has other splits.
inline std::int64_t sums_scratch_bytes(const Shape& x, DType type, int quantities) {
    std::int64_t most = 0;
    with_type(type, [&](auto zero) {
        for (const int width : {1, vector_width<decltype(zero)>}) {
            const View v{x, x.c, type, nullptr};
            most = std::max(
                {most, sums_tiling(v, width).splits, grad_sums_tiling(v, width).splits});
        }
    });
    return most * quantities * x.c * static_cast<std::int64_t>(sizeof(double));
}

// A thread's channels of a quantity in memory.
template <int V>
__device__ __forceinline__ void take(const float* from, float (&v)[V]) {
#pragma unroll
    for (int i = 0; i < V; ++i) v[i] = from[i];
}

}  // namespace deeplab::cuda
