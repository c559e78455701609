#pragma once
// Sums over a block, and over a grid without atomics on floats: every block leaves its partial sum,
// the last to do so adds them in the order of the blocks. The same bits each time.

#include <cuda_runtime.h>

#include <cstdint>

namespace deeplab::cuda {

__device__ __forceinline__ int thread_number() {
    return static_cast<int>(threadIdx.y * blockDim.x + threadIdx.x);
}
__device__ __forceinline__ int thread_count() { return static_cast<int>(blockDim.y * blockDim.x); }

// A block's shared memory whose size the launch says. (Where this header is compiled for the host,
// the stand-in for cuda_runtime.h has it.)
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
#if defined(__CUDACC__)
    extern __shared__ uint4 memory[];
    return reinterpret_cast<T*>(memory);
#else
    return reinterpret_cast<T*>(host_shared_memory());
#endif
}

// Whether this block is the last of `blocks` to come here with this ticket; then it sees what the
// others wrote before. Leaves the ticket zero.
__device__ __forceinline__ bool last_block(std::uint32_t* ticket, unsigned blocks) {
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (thread_number() == 0) last = atomicInc(ticket, blocks - 1) == blocks - 1;
    __syncthreads();
    __threadfence();
    return last;
}

// Of a block of whole warps in one dimension; the result is thread 0's.
__device__ __forceinline__ double block_sum(double value) {
    __shared__ double warps[32];
    for (unsigned lanes = 16; lanes > 0; lanes /= 2)
        value += __shfl_down_sync(0xffffffffu, value, lanes);
    __syncthreads();  // a sum before this one has been read
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
    __syncthreads();
    double sum = 0;
    if (threadIdx.x == 0) {
        for (unsigned w = 0; w < blockDim.x / 32; ++w) sum += warps[w];
    }
    return sum;
}

// Sums of one value a thread and channel over the rows of a block (lanes, rows): thread t < V *
// lanes gets that of the channel column_channel<V>(t) of the tile. V * Threads doubles of shared
// memory.
template <int V>
__device__ __forceinline__ int column_channel(int thread) {
    const int lanes = static_cast<int>(blockDim.x);
    return thread % lanes * V + thread / lanes;
}
template <int V, int Threads>
__device__ __forceinline__ double column_sum(const double (&value)[V]) {
    __shared__ double all[V * Threads];
    const int threads = thread_count(), t = thread_number(), lanes = static_cast<int>(blockDim.x);
    __syncthreads();  // a sum before this one has been read
#pragma unroll
    for (int i = 0; i < V; ++i) all[i * threads + t] = value[i];
    __syncthreads();
    double sum = 0;
    if (t < V * lanes) {
        const double* first = all + t / lanes * threads + t % lanes;
        for (int row = 0; row < static_cast<int>(blockDim.y); ++row) sum += first[row * lanes];
    }
    return sum;
}

// Q sums a channel over a grid (tiles, splits): finish(q, channel, sum) is called once for each, by
// the last block of a tile. take(q, values) gives those of the thread. partial: (splits, Q,
// channels).
template <int Q, int V, int Threads, class Take, class Finish>
__device__ __forceinline__ void grid_column_sums_of(const Take& take, int channels, double* partial,
                                                    std::uint32_t* tickets, const Finish& finish) {
    const int width = V * static_cast<int>(blockDim.x),
              first = static_cast<int>(blockIdx.x) * width, t = thread_number(),
              splits = static_cast<int>(gridDim.y);
#pragma unroll
    for (int q = 0; q < Q; ++q) {
        double value[V];
        take(q, value);
        const double sum = column_sum<V, Threads>(value);
        const int channel = first + column_channel<V>(t);
        if (t < width && channel < channels)
            partial[(static_cast<std::int64_t>(blockIdx.y) * Q + q) * channels + channel] = sum;
    }
    if (!last_block(tickets + blockIdx.x, gridDim.y)) return;
    // Several threads an output: each takes every `groups`-th split.
    __shared__ double sums[Threads];
    const int outputs = Q * width, groups = max(thread_count() / outputs, 1);
    for (int begin = 0; begin < outputs; begin += thread_count()) {
        const int output = begin + t % outputs, group = t / outputs;
        const int q = output / width, channel = first + output % width;
        const bool active = output < outputs && group < groups && channel < channels;
        double sum = 0;
        if (active) {
            const double* from = partial + static_cast<std::int64_t>(q) * channels + channel;
#pragma unroll 8
            for (int s = group; s < splits; s += groups)
                sum += __ldcg(from + static_cast<std::int64_t>(s) * Q * channels);
        }
        sums[t] = sum;
        __syncthreads();
        if (active && group == 0) {
            for (int g = 1; g < groups; ++g) sum += sums[t + g * outputs];
            finish(q, channel, sum);
        }
        __syncthreads();
    }
}
template <int Q, int V, int Threads, class Finish>
__device__ __forceinline__ void grid_column_sums(const double (&value)[Q][V], int channels,
                                                 double* partial, std::uint32_t* tickets,
                                                 const Finish& finish) {
    grid_column_sums_of<Q, V, Threads>(
        [&](int q, double(&own)[V]) {
#pragma unroll
            for (int i = 0; i < V; ++i) own[i] = value[q][i];
        },
        channels, partial, tickets, finish);
}

}  // namespace deeplab::cuda
