// The stand-in for CUDA itself: what a GPU does, and what it would leave undefined.

#include <cuda_runtime.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "device.h"

namespace deeplab::testing {
namespace {

using ::testing::HasSubstr;

template <class... P, class... A>
cudaError_t run(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared, A... arguments) {
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    return cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...);
}

template <class... P, class... A>
std::string divergence(void (*kernel)(P...), dim3 block, A... arguments) {
    try {
        run(kernel, 1, block, 0, arguments...);
    } catch (const shim::Divergence& e) {
        return e.what();
    }
    return "none";
}

__global__ void indices(int* out) {
    const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x,
                   thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x,
                   threads = blockDim.x * blockDim.y * blockDim.z;
    out[block * threads + thread] = static_cast<int>(100 * block + thread);
}

TEST(Shim, EveryThreadOfEveryBlockRunsOnce) {
    const DeviceArray<int> out(12 * 30);
    ASSERT_EQ(run(indices, dim3(2, 3, 2), dim3(5, 3, 2), 0, out.data()), cudaSuccess);
    for (std::size_t i = 0; i < 360; ++i) {
        EXPECT_EQ(out.values()[i], static_cast<int>(100 * (i / 30) + i % 30));
    }
}

// Every thread reads what another wrote, in both kinds of shared memory.
__global__ void reverse(const int* in, int* out) {
    __shared__ int fixed[200];
    int* sized = reinterpret_cast<int*>(host_shared_memory());
    const unsigned t = threadIdx.x, last = blockDim.x - 1;
    fixed[t] = in[blockIdx.x * blockDim.x + t];
    __syncthreads();
    sized[t] = fixed[last - t] + 1;
    __syncthreads();
    out[blockIdx.x * blockDim.x + t] = sized[last - t];
}

TEST(Shim, BarriersAndSharedMemory) {
    std::vector<int> values(600);
    std::iota(values.begin(), values.end(), 0);
    const DeviceArray<int> in(values), out(600);
    ASSERT_EQ(run(reverse, 3, 200, 200 * sizeof(int), in.data(), out.data()), cudaSuccess);
    for (std::size_t i = 0; i < 600; ++i) EXPECT_EQ(out.values()[i], values[i] + 1);
}

__global__ void shuffles(double* sums, int* rotated, int* lower) {
    const int lane = static_cast<int>(threadIdx.x % 32), t = static_cast<int>(threadIdx.x);
    double sum = t;
    for (unsigned lanes = 16; lanes > 0; lanes /= 2)
        sum += __shfl_down_sync(0xffffffffu, sum, lanes);
    if (lane == 0) sums[t / 32] = sum;
    int value = __shfl_sync(0xffffffffu, t, (lane + 1) % 32);
    value = __shfl_xor_sync(0xffffffffu, value, 1);
    rotated[t] = value;
    // Half a warp, while the other half does something else.
    if (lane < 16) {
        lower[t] = __shfl_xor_sync(0x0000ffffu, 10 * t, 15);
    } else {
        __syncwarp(0xffff0000u);
        lower[t] = -1;
    }
}

TEST(Shim, ShufflesExchangeWithinAWarp) {
    const DeviceArray<double> sums(3);
    const DeviceArray<int> rotated(96), lower(96);
    ASSERT_EQ(run(shuffles, 1, 96, 0, sums.data(), rotated.data(), lower.data()), cudaSuccess);
    EXPECT_EQ(sums.values(), (Values{496, 1520, 2544}));
    for (int t = 0; t < 96; ++t) {
        const auto i = static_cast<std::size_t>(t);
        EXPECT_EQ(rotated.values()[i], t / 32 * 32 + ((t % 32 ^ 1) + 1) % 32);
        EXPECT_EQ(lower.values()[i], t % 32 < 16 ? 10 * (t / 32 * 32 + (t % 32 ^ 15)) : -1);
    }
}

__global__ void count(unsigned* tickets, int* sum) {
    atomicInc(tickets, 6);
    atomicAdd(sum, static_cast<int>(threadIdx.x));
}

TEST(Shim, Atomics) {
    const DeviceArray<unsigned> ticket(std::vector<unsigned>{0});
    const DeviceArray<int> sum(std::vector<int>{5});
    ASSERT_EQ(run(count, 1, 10, 0, ticket.data(), sum.data()), cudaSuccess);
    EXPECT_EQ(ticket.values()[0], 3u);  // 0 … 6, 0, 1, 2
    EXPECT_EQ(sum.values()[0], 50);
}

__global__ void some_skip(int threads) {
    if (static_cast<int>(threadIdx.x) < threads) __syncthreads();
}
__global__ void two_barriers() {
    if (threadIdx.x < 7) {
        __syncthreads();
    } else {
        __syncthreads();
    }
}
__global__ void absent_lane() {
    if (threadIdx.x != 3) __shfl_sync(0xffffffffu, 1, 0);
}
__global__ void lane_outside_mask() {
    if (threadIdx.x < 8) __shfl_sync(0x000000ffu, 1, 9);
}
__global__ void plain(int* out) { out[threadIdx.x] = 1; }

TEST(Shim, DivergenceIsReportedWithBothPlaces) {
    EXPECT_EQ(divergence(some_skip, 40, 40), "none");
    EXPECT_EQ(divergence(some_skip, 40, 0), "none");
    EXPECT_THAT(
        divergence(some_skip, 40, 39),
        ::testing::AllOf(HasSubstr("block (0,0,0): thread (0,0,0) waits for its block at"),
                         HasSubstr("shim_test.cpp:"), HasSubstr("thread (39,0,0) has ended")));
    EXPECT_THAT(divergence(two_barriers, 8),
                ::testing::AllOf(HasSubstr("thread (0,0,0) waits for its block at"),
                                 HasSubstr("thread (7,0,0) waits for its block at")));
    EXPECT_THAT(divergence(absent_lane, 32), HasSubstr("thread (3,0,0) has ended"));
    EXPECT_THAT(divergence(absent_lane, 3), HasSubstr("lacks lanes of its mask"));
    EXPECT_THAT(divergence(lane_outside_mask, 32), HasSubstr("a lane that is not in the mask"));
    // Then it works again.
    const DeviceArray<int> out(64);
    ASSERT_EQ(run(plain, 1, 64, 0, out.data()), cudaSuccess);
    EXPECT_EQ(out.values(), std::vector<int>(64, 1));
}

TEST(Shim, ImpossibleLaunchesAreRefused) {
    const DeviceArray<int> out(2048);
    EXPECT_EQ(run(plain, 1, 1025, 0, out.data()), cudaErrorInvalidValue);
    EXPECT_EQ(run(plain, 0, 32, 0, out.data()), cudaErrorInvalidValue);
    EXPECT_EQ(run(plain, dim3(1, 65536), 1, 0, out.data()), cudaErrorInvalidValue);
    EXPECT_EQ(run(plain, 1, 32, 48 * 1024 + 1, out.data()), cudaErrorInvalidValue);
    EXPECT_EQ(cudaFuncSetAttribute(plain, cudaFuncAttributeMaxDynamicSharedMemorySize, 50 * 1024),
              cudaSuccess);
    EXPECT_EQ(run(plain, 1, 32, 48 * 1024 + 1, out.data()), cudaSuccess);
}

#if defined(__SANITIZE_ADDRESS__)
__global__ void beyond(const int* in, int* out) {
    int* sized = reinterpret_cast<int*>(host_shared_memory());
    if (out == nullptr) {
        sized[threadIdx.x + 1] = in[threadIdx.x];
    } else {
        out[threadIdx.x] = in[threadIdx.x];
    }
    __syncthreads();
}

TEST(ShimDeathTest, AccessesOutsideATensorAreCaught) {
    const DeviceArray<int> large(64), small(63);
    EXPECT_DEATH(run(beyond, 1, 64, 0, large.data(), small.data()), "heap-buffer-overflow");
    EXPECT_DEATH(run(beyond, 1, 64, 0, small.data(), large.data()), "heap-buffer-overflow");
    EXPECT_DEATH(run(beyond, 1, 64, 256, large.data(), nullptr), "heap-buffer-overflow");
}
#endif

}  // namespace
}  // namespace deeplab::testing
