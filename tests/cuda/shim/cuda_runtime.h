#pragma once
// Stands in for CUDA's header where kernels are compiled for the host: what src/cuda/kernels and
// src/cuda/runtime.h use of it, no more. Memory of the "device" is the host's, in exact sizes and
// 0xff in every byte, so that sanitizers and NaN show what is read or written by mistake; memory.h
// knows what is done with it. What CUDA refuses during a capture is refused here.

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <source_location>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "device.h"
#include "fibers.h"
#include "memory.h"
#include "record.h"
#include "streams.h"

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)

// --- Types and built-in variables ---
struct uint2 {
    unsigned x, y;
};
struct uint3 {
    unsigned x, y, z;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

// --- Device functions ---
using std::max;
using std::min;

inline void __syncthreads(std::source_location where = std::source_location::current()) {
    deeplab::shim::wait_for_block(where);
}
inline void __syncwarp(unsigned mask = 0xffffffffu,
                       std::source_location where = std::source_location::current()) {
    deeplab::shim::wait_for_warp(mask, where);
}
inline void __threadfence() {}
inline std::int64_t host_nanoseconds() { return deeplab::shim::device_time(); }
inline std::byte* host_shared_memory() { return deeplab::shim::dynamic_shared_memory(); }
// `count` values were stored there.
template <class T>
void host_note_written(const T* to, int count) {
    constexpr auto type = std::is_same_v<T, float> ? deeplab::shim::Type::f32
                                                   : deeplab::shim::Type::bf16;
    static_assert(std::is_same_v<T, float> || sizeof(T) == 2, "activations are f32 or bf16");
    deeplab::shim::note_written(to, static_cast<std::size_t>(count) * sizeof(T), type);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source,
              std::source_location where = std::source_location::current()) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
    deeplab::shim::exchange_in_warp(mask, &value, sizeof value, source % 32, where);
    return value;
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes,
                  std::source_location where = std::source_location::current()) {
    return __shfl_sync(mask, value, deeplab::shim::lane() ^ lanes, where);
}
// Lanes past the last keep their own value.
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta,
                   std::source_location where = std::source_location::current()) {
    const int from = deeplab::shim::lane() + static_cast<int>(delta);
    return __shfl_sync(mask, value, from < 32 ? from : deeplab::shim::lane(), where);
}

template <class T>
T atomicAdd(T* at, T value) {
    return std::exchange(*at, static_cast<T>(*at + value));
}
inline unsigned atomicInc(unsigned* at, unsigned limit) {
    return std::exchange(*at, *at >= limit ? 0u : *at + 1u);
}
template <class T>
T __ldcg(const T* at) {
    return *at;
}
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }

// --- Errors ---
enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidResourceHandle = 400,
    cudaErrorNotReady = 600,
    cudaErrorIllegalAddress = 700,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901,
    cudaErrorStreamCaptureUnjoined = 904,
    cudaErrorStreamCaptureIsolation = 905
};
inline const char* cudaGetErrorString(cudaError_t status) {
    switch (status) {
        case cudaSuccess: return "no error";
        case cudaErrorMemoryAllocation: return "out of memory";
        case cudaErrorNoDevice: return "no CUDA-capable device is detected";
        case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
        case cudaErrorStreamCaptureUnsupported:
            return "operation not permitted when stream is capturing";
        case cudaErrorStreamCaptureInvalidated:
            return "operation failed due to a previous error during capture";
        default: return "invalid argument";
    }
}

inline cudaError_t cudaGetLastError() { return cudaSuccess; }

// --- Devices: device.h ---
// Once the device has failed every call says so, as CUDA's do.
inline cudaError_t host_state() {
    return deeplab::shim::device_failed() ? cudaErrorIllegalAddress : cudaSuccess;
}
inline cudaError_t cudaGetDeviceCount(int* devices) {
    *devices = deeplab::shim::visible_devices();
    return *devices > 0 ? cudaSuccess : cudaErrorNoDevice;
}
inline cudaError_t cudaSetDevice(int device) {
    if (deeplab::shim::visible_devices() == 0) return cudaErrorNoDevice;
    return device == 0 ? host_state() : cudaErrorInvalidValue;
}
inline cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return deeplab::shim::visible_devices() > 0 ? cudaSuccess : cudaErrorNoDevice;
}
inline cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int) {
    const std::string id = deeplab::shim::bus_id();
    if (length <= static_cast<int>(id.size())) return cudaErrorInvalidValue;
    std::memcpy(text, id.c_str(), id.size() + 1);
    return cudaSuccess;
}
inline cudaError_t cudaDriverGetVersion(int* version) {
    *version = 13000;
    return cudaSuccess;
}
inline cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }

// --- Streams, events and graphs: streams.h ---
using cudaStream_t = CUstream_st*;
using cudaEvent_t = CUevent_st*;
constexpr unsigned cudaEventDefault = 0, cudaEventDisableTiming = 2, cudaStreamNonBlocking = 1;
inline cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int priority) {
    *stream = new CUstream_st{deeplab::shim::make_stream(priority)};
    return cudaSuccess;
}
inline cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
    *least = 0, *greatest = -5;
    return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    if (deeplab::shim::breaks_capture("cudaStreamSynchronize"))
        return cudaErrorStreamCaptureUnsupported;
    if (deeplab::shim::hang.now) ++deeplab::shim::hang.waits;
    if (deeplab::shim::device_failed()) return cudaErrorIllegalAddress;
    if (stream != nullptr) deeplab::shim::reach(stream->queue->end(stream->queue));
    return host_state();
}
// What is enqueued is still done.
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    cudaStreamSynchronize(stream);
    delete stream;
    return cudaSuccess;
}
inline cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned = 0) {
    return deeplab::shim::wait(stream, *event) ? cudaSuccess : cudaErrorStreamCaptureIsolation;
}
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
    *event = new CUevent_st{.timed = (flags & cudaEventDisableTiming) == 0};
    return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    deeplab::shim::record(*event, stream);
    return host_state();
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    if (deeplab::shim::breaks_capture("cudaEventSynchronize"))
        return cudaErrorStreamCaptureUnsupported;
    if (deeplab::shim::hang.now) ++deeplab::shim::hang.waits;
    if (event->within) return cudaErrorInvalidValue;
    if (deeplab::shim::device_failed()) return cudaErrorIllegalAddress;
    deeplab::shim::reach(event->point);
    return host_state();
}
// Work that nobody has asked for is done now, unless the device is to look busy.
inline cudaError_t cudaEventQuery(cudaEvent_t event) {
    if (deeplab::shim::breaks_capture("cudaEventQuery")) return cudaErrorStreamCaptureUnsupported;
    if (event->within) return cudaErrorInvalidValue;
    if (deeplab::shim::device_failed()) return cudaErrorIllegalAddress;
    if (deeplab::shim::hang.now || deeplab::shim::looks_busy() ||
        !deeplab::shim::try_to_reach(event->point))
        return cudaErrorNotReady;
    return host_state();
}
inline cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t from, cudaEvent_t to) {
    if (!from->reached || !to->reached) return cudaErrorInvalidResourceHandle;
    if (from->reached->count() == 0 || to->reached->count() == 0) return cudaErrorNotReady;
    *ms = std::chrono::duration<float, std::milli>(*to->reached - *from->reached).count();
    return cudaSuccess;
}

using cudaGraph_t = CUgraph_st*;
using cudaGraphExec_t = CUgraph_st*;
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
constexpr unsigned long long cudaGraphInstantiateFlagUseNodePriority = 8;
inline cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    deeplab::shim::begin_capture(stream);
    ++deeplab::shim::counts().captures;
    return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
    *graph = nullptr;
    const auto captured = std::exchange(deeplab::shim::capturing, nullptr);
    auto life = std::exchange(captured->life, nullptr);
    if (!captured->broken.empty()) return cudaErrorStreamCaptureInvalidated;
    if (!captured->joined()) return cudaErrorStreamCaptureUnjoined;
    *graph = new CUgraph_st{captured, std::move(life)};
    return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t graph,
                                        unsigned long long flags) {
    if ((flags & ~cudaGraphInstantiateFlagUseNodePriority) != 0) return cudaErrorInvalidValue;
    *ready = new CUgraph_st{graph->graph, graph->life, static_cast<unsigned>(flags),
                            graph->graph->uses()};
    return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
    for (const auto& used : graph->uses) {
        if (used->freed) deeplab::shim::complain("a graph is launched whose memory was freed");
    }
    ++deeplab::shim::counts().graph_launches;
    if (deeplab::shim::fails_at_launch()) return cudaSuccess;
    const bool own = (graph->flags & cudaGraphInstantiateFlagUseNodePriority) != 0;
    deeplab::shim::Stream::Item item;
    item.work = [captured = graph->graph, own, priority = stream->queue->priority] {
        captured->begin(own, priority);
    };
    item.arrived = [captured = graph->graph] { return captured->go_on(); };
    item.uses = graph->uses;
    item.graph = true;
    deeplab::shim::enqueue(stream, std::move(item));
    return host_state();
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
    delete graph;
    return cudaSuccess;
}

// --- Memory ---
inline cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
    *free = deeplab::shim::free_room(deeplab::shim::Place::device);
    *total = deeplab::shim::room(deeplab::shim::Place::device);
    return cudaSuccess;
}
inline cudaError_t host_allocate(void** data, std::size_t bytes, deeplab::shim::Place place) {
    *data = nullptr;
    if (deeplab::shim::breaks_capture("an allocation")) return cudaErrorStreamCaptureUnsupported;
    if (deeplab::shim::device_failed()) return cudaErrorIllegalAddress;
    return deeplab::shim::allocate(data, bytes, place) ? cudaSuccess : cudaErrorMemoryAllocation;
}
inline cudaError_t host_release(void* data, deeplab::shim::Place place) {
    if (data == nullptr) return cudaSuccess;
    if (deeplab::shim::breaks_capture("freeing memory")) return cudaErrorStreamCaptureUnsupported;
    if (deeplab::shim::device_failed()) return cudaErrorIllegalAddress;
    deeplab::shim::release(data, place);
    return cudaSuccess;
}
inline cudaError_t cudaMalloc(void** data, std::size_t bytes) {
    return host_allocate(data, bytes, deeplab::shim::Place::device);
}
inline cudaError_t cudaFree(void* data) { return host_release(data, deeplab::shim::Place::device); }
inline cudaError_t cudaMallocHost(void** data, std::size_t bytes) {
    return host_allocate(data, bytes, deeplab::shim::Place::pinned);
}
inline cudaError_t cudaFreeHost(void* data) {
    return host_release(data, deeplab::shim::Place::pinned);
}
enum cudaMemcpyKind {
    cudaMemcpyHostToDevice = 1,
    cudaMemcpyDeviceToHost = 2,
    cudaMemcpyDeviceToDevice = 3,
    cudaMemcpyDefault = 4
};
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                                   cudaStream_t stream) {
    if (deeplab::shim::device_failed()) return cudaErrorIllegalAddress;
    if (bytes == 0) return cudaSuccess;
    deeplab::shim::Uses uses;
    for (const void* end : {static_cast<const void*>(to), from}) {
        deeplab::shim::use(uses, end);
        if (!deeplab::shim::find(end)) ++deeplab::shim::counts().pageable_copies;
    }
    deeplab::shim::enqueue(
        stream,
        [=] {
            std::memcpy(to, from, bytes);
            deeplab::shim::note_copied(to, from, bytes);
        },
        std::move(uses));
    return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
    if (deeplab::shim::device_failed()) return cudaErrorIllegalAddress;
    if (bytes == 0) return cudaSuccess;
    deeplab::shim::Uses uses;
    deeplab::shim::use(uses, to);
    deeplab::shim::enqueue(
        stream,
        [=] {
            std::memset(to, value, bytes);
            deeplab::shim::note_written(to, bytes, deeplab::shim::Type::bytes);
        },
        std::move(uses));
    return cudaSuccess;
}

// --- Launching ---
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    std::size_t dynamicSmemBytes = 0;
    cudaStream_t stream = nullptr;
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

namespace deeplab::shim {
// What a kernel may have; raised for the next launch by cudaFuncSetAttribute.
constexpr std::size_t shared_default = 48 * 1024, shared_most = 163 * 1024;  // sm_80's
inline std::size_t shared_allowed = shared_default;
}  // namespace deeplab::shim

template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel*, cudaFuncAttribute, int value) {
    if (static_cast<std::size_t>(value) > deeplab::shim::shared_most) return cudaErrorInvalidValue;
    deeplab::shim::shared_allowed = std::max(deeplab::shim::shared_default,
                                             static_cast<std::size_t>(value));
    return cudaSuccess;
}

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
    static_assert((std::is_trivially_copyable_v<Parameters> && ...),
                  "a kernel's parameters are copied byte by byte");
    const dim3 grid = config->gridDim, block = config->blockDim;
    const std::size_t shared = config->dynamicSmemBytes;
    const std::size_t allowed = std::exchange(deeplab::shim::shared_allowed,
                                              deeplab::shim::shared_default);
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 ||
        grid.z > 65535 || block.x * block.y * block.z == 0 || block.x * block.y * block.z > 1024 ||
        block.z > 64 || shared > allowed) {
        return cudaErrorInvalidValue;
    }
    const std::tuple<Parameters...> values(std::forward<Arguments>(arguments)...);
    deeplab::shim::Uses uses;
    std::apply([&](const auto&... value) { (deeplab::shim::use_words(uses, value), ...); }, values);
    if (!deeplab::shim::capturing) {
        if (deeplab::shim::device_failed()) return cudaErrorIllegalAddress;
        ++deeplab::shim::counts().launches;
    }
    deeplab::shim::enqueue(
        config->stream,
        [=] {
            blockDim = block;
            gridDim = grid;
            deeplab::shim::run_grid(
                {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, shared,
                [](const deeplab::shim::Extent& b, const deeplab::shim::Extent& t) {
                    blockIdx = {b.x, b.y, b.z};
                    threadIdx = {t.x, t.y, t.z};
                },
                [&] { std::apply(kernel, values); });
        },
        std::move(uses));
    return cudaSuccess;
}
