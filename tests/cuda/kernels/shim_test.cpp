// The stand-in for CUDA itself: what a GPU does, and what it would leave undefined.

#include <cuda_runtime.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "device.h"
#include "harness/sanitizers.h"

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

std::vector<std::string> complaints_of(const std::function<void()>& f) {
    f();
    return shim::take_complaints();
}

TEST(Shim, MemoryKnowsItsTypes) {
    constexpr std::size_t values = 16;
    const DeviceArray<float> first(values), second(values);
    const auto holds = [&](const DeviceArray<float>& memory, shim::Type type) {
        return shim::holds(memory.data(), values * sizeof(float), type);
    };
    EXPECT_FALSE(holds(first, shim::Type::f32)) << "nobody has written it";
    host_note_written(first.data(), values);
    EXPECT_TRUE(holds(first, shim::Type::f32));
    EXPECT_FALSE(holds(first, shim::Type::bf16));
    // A copy carries the types; what comes from the host may be anything.
    cudaMemcpyAsync(second.data(), first.data(), values * sizeof(float), cudaMemcpyDefault,
                    nullptr);
    EXPECT_TRUE(holds(second, shim::Type::f32));
    EXPECT_FALSE(holds(second, shim::Type::bf16));
    const std::vector<float> host(values);
    cudaMemcpyAsync(second.data(), host.data(), values * sizeof(float), cudaMemcpyDefault, nullptr);
    EXPECT_TRUE(holds(second, shim::Type::bf16));
    // One value of another type is enough.
    shim::note_written(first.data() + 3, 2, shim::Type::bf16);
    EXPECT_FALSE(holds(first, shim::Type::f32));
    EXPECT_FALSE(shim::holds(first.data(), values * sizeof(float) + 1, shim::Type::f32));
    EXPECT_FALSE(shim::holds(host.data(), 4, shim::Type::f32)) << "not the device's";
}

TEST(Shim, FreedMemoryIsNotUsed) {
    const shim::OtherSchedule late(shim::Schedule::late);
    cuda::Stream stream;
    void *pending = nullptr, *gone = nullptr;
    ASSERT_EQ(cudaMalloc(&pending, 64), cudaSuccess);
    ASSERT_EQ(cudaMalloc(&gone, 64), cudaSuccess);
    const std::int64_t busy = shim::counts().frees_while_busy;
    cudaMemsetAsync(pending, 0, 64, stream.get());
    EXPECT_THAT(complaints_of([&] { cudaFree(gone); }), ::testing::IsEmpty());
    EXPECT_EQ(shim::counts().frees_while_busy, busy + 1);
    EXPECT_THAT(complaints_of([&] { cudaFree(pending); }),
                ::testing::ElementsAre(HasSubstr("that enqueued work still uses")));
    EXPECT_THAT(complaints_of([&] { cudaFree(pending); }),
                ::testing::ElementsAre(HasSubstr("that was not allocated so")));
}

TEST(Shim, UseAfterFreeIsComplainedAbout) {
    if (deeplab::testing::sanitized)
        GTEST_SKIP() << "skipped: AddressSanitizer ends the program at the use";
    cuda::Stream stream;
    void* memory = nullptr;
    ASSERT_EQ(cudaMalloc(&memory, 64), cudaSuccess);
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t ready = nullptr;
    cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal);
    cudaMemsetAsync(memory, 0, 64, stream.get());
    ASSERT_EQ(cudaStreamEndCapture(stream.get(), &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&ready, graph, 0), cudaSuccess);
    cudaGraphDestroy(graph);
    EXPECT_THAT(complaints_of([&] { cudaFree(memory); }), ::testing::IsEmpty());
    shim::Uses uses;
    EXPECT_THAT(complaints_of([&] { shim::use(uses, memory); }), ::testing::SizeIs(1));
    EXPECT_THAT(complaints_of([&] { cudaGraphLaunch(ready, stream.get()); }),
                ::testing::ElementsAre(HasSubstr("a graph is launched whose memory was freed")));
    cudaGraphExecDestroy(ready);
}

TEST(Shim, CapturesMeetNoAllocationAndNobodyWhoWaits) {
    cuda::Stream stream;
    const cuda::Event event;
    void* memory = nullptr;
    ASSERT_EQ(cudaMalloc(&memory, 64), cudaSuccess);
    const std::vector<std::function<cudaError_t()>> refused = {
        [] {
            void* more = nullptr;
            return cudaMalloc(&more, 64);
        },
        [] {
            void* more = nullptr;
            return cudaMallocHost(&more, 64);
        },
        [&] { return cudaFree(memory); },
        [&] { return cudaStreamSynchronize(stream.get()); },
        [&] { return cudaEventSynchronize(event.get()); },
        [&] { return cudaEventQuery(event.get()); },
    };
    for (const auto& call : refused) {
        cudaGraph_t graph = nullptr;
        cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal);
        EXPECT_EQ(call(), cudaErrorStreamCaptureUnsupported);
        EXPECT_EQ(cudaStreamEndCapture(stream.get(), &graph), cudaErrorStreamCaptureInvalidated);
    }
    cudaFree(memory);
}

// Captured work keeps the priority of its stream where the instantiation says so.
TEST(Shim, GraphsHaveNodePrioritiesOnDemand) {
    for (const auto flags : {cudaGraphInstantiateFlagUseNodePriority, 0ull}) {
        cuda::Stream normal, high(cuda::Stream::Priority::high);
        cuda::Event fork, join;
        cudaGraph_t graph = nullptr;
        cudaGraphExec_t ready = nullptr;
        const DeviceArray<int> out(4);
        cudaStreamBeginCapture(normal.get(), cudaStreamCaptureModeThreadLocal);
        fork.record(normal.get());
        high.wait(fork.get());
        cudaMemsetAsync(out.data(), 0, 8, high.get());
        join.record(high.get());
        normal.wait(join.get());
        ASSERT_EQ(cudaStreamEndCapture(normal.get(), &graph), cudaSuccess);
        ASSERT_EQ(cudaGraphInstantiate(&ready, graph, flags), cudaSuccess);
        const std::int64_t before = shim::counts().work_at[-5];
        cudaGraphLaunch(ready, normal.get());
        normal.synchronize();
        EXPECT_EQ(shim::counts().work_at[-5] - before, flags == 0 ? 0 : 1);
        cudaGraphExecDestroy(ready);
        cudaGraphDestroy(graph);
    }
}

TEST(Shim, RoomCanBeLimited) {
    std::size_t free = 0, total = 0;
    const shim::LimitedRoom limit(shim::Place::device, 1000);
    cudaMemGetInfo(&free, &total);
    EXPECT_EQ(free, 1000u);
    void *first = nullptr, *second = nullptr;
    EXPECT_EQ(cudaMalloc(&first, 600), cudaSuccess);
    EXPECT_EQ(cudaMalloc(&second, 600), cudaErrorMemoryAllocation);
    EXPECT_EQ(second, nullptr);
    cudaFree(first);
    EXPECT_EQ(cudaMalloc(&second, 600), cudaSuccess);
    cudaFree(second);
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
