#include "bias.h"

#include "column_sums.cuh"

namespace deeplab::cuda {
namespace {

template <class T, int V>
__global__ void __launch_bounds__(256, 4)
    add_bias_kernel(const float* bias, Rows<T> y, int pixels, int channels) {
    const int c = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * V,
              step = static_cast<int>(gridDim.y * blockDim.y);
    if (c >= channels) return;
    float added[V];
    take(bias + c, added);
    for (int p = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y); p < pixels; p += step) {
        float value[V];
        load(y.at(p, c), value);
#pragma unroll
        for (int i = 0; i < V; ++i) value[i] += added[i];
        store(y.at(p, c), value);
    }
}

template <class T, int V>
__global__ void __launch_bounds__(sums_threads, 2)
    bias_grad_kernel(Rows<const T> dy, int pixels, int channels, double* partial,
                     std::uint32_t* tickets, float* dbias, bool add) {
    const int c = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * V,
              step = static_cast<int>(gridDim.y * blockDim.y);
    float sum[V] = {};
#pragma unroll 4
    for (int p = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y);
         c < channels && p < pixels; p += step) {
        float value[V];
        load(dy.at(p, c), value);
#pragma unroll
        for (int i = 0; i < V; ++i) sum[i] += value[i];
    }
    double own[1][V];
#pragma unroll
    for (int i = 0; i < V; ++i) own[0][i] = static_cast<double>(sum[i]);
    grid_column_sums<1, V, sums_threads>(
        own, channels, partial, tickets, [&](int, int channel, double total) {
            dbias[channel] = (add ? dbias[channel] : 0.0f) + static_cast<float>(total);
        });
}

}  // namespace

void add_bias(cudaStream_t stream, const View& bias, const View& y) {
    with_vectors(
        [&](auto zero, auto width) {
            using T = decltype(zero);
            const Tiling t = elementwise_tiling(y, width);
            launch("bias", stream, add_bias_kernel<T, width>, t.grid(), t.block(), 0, bias.data,
                   rows<T>(y), y.pixels(), y.shape.c);
        },
        y);
}

std::int64_t bias_grad_scratch_bytes(const Shape& dy, DType type) {
    return sums_scratch_bytes(dy, type, 1);
}

void bias_grad(cudaStream_t stream, const View& dy, const View& dbias, bool add,
               const Scratch& scratch) {
    with_vectors(
        [&](auto zero, auto width) {
            using T = decltype(zero);
            const Tiling t = sums_tiling(dy, width);
            launch("bias gradient", stream, bias_grad_kernel<T, width>, t.grid(), t.block(), 0,
                   rows<const T>(dy), dy.pixels(), dy.shape.c, scratch.data, scratch.tickets,
                   dbias.data, add);
        },
        dy);
}

}  // namespace deeplab::cuda
