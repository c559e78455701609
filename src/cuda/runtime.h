#pragma once
// Owners of what the CUDA runtime hands out, on the device that is current when they are made.

#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

#include "check.h"

namespace deeplab::cuda {

// Independent of the legacy default stream, so that it can be captured.
class Stream {
public:
    enum class Priority { normal, high };
    explicit Stream(Priority priority = Priority::normal) {
        int least = 0, greatest = 0;
        check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "the streams' priorities");
        check(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking,
                                           priority == Priority::high ? greatest : least),
              "creation of a stream");
    }
    ~Stream() { cudaStreamDestroy(stream_); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    cudaStream_t get() const { return stream_; }
    void wait(cudaEvent_t event) { check(cudaStreamWaitEvent(stream_, event, 0), "an event"); }
    void synchronize() { check(cudaStreamSynchronize(stream_), "work on the device"); }

private:
    cudaStream_t stream_ = nullptr;
};

class Event {
public:
    explicit Event(unsigned flags = cudaEventDefault) {
        check(cudaEventCreateWithFlags(&event_, flags), "creation of an event");
    }
    ~Event() { cudaEventDestroy(event_); }
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;

    cudaEvent_t get() const { return event_; }
    void record(cudaStream_t stream) { check(cudaEventRecord(event_, stream), "an event"); }
    void synchronize() { check(cudaEventSynchronize(event_), "work on the device"); }
    bool done() const {
        const cudaError_t status = cudaEventQuery(event_);
        if (status != cudaErrorNotReady) check(status, "work on the device");
        return status == cudaSuccess;
    }

private:
    cudaEvent_t event_ = nullptr;
};

// Memory that `Allocator` gives and takes; not cleared.
template <class Allocator>
class Buffer {
public:
    Buffer() = default;
    Buffer(std::size_t bytes, const char* what) : bytes_(bytes) {
        if (bytes > 0) Allocator::allocate(&data_, bytes, what);
    }
    ~Buffer() { Allocator::release(data_); }
    Buffer(Buffer&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
    Buffer& operator=(Buffer&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }

    void* data() const { return data_; }
    template <class T>
    T* as() const {
        return static_cast<T*>(data_);
    }
    std::size_t bytes() const { return bytes_; }

private:
    void* data_ = nullptr;
    std::size_t bytes_ = 0;
};

struct DeviceMemory {
    static void allocate(void** data, std::size_t bytes, const char* what) {
        check(cudaMalloc(data, bytes), what);
    }
    static void release(void* data) { cudaFree(data); }
};
// On the host, at an address that the device's copies can use while the host goes on.
struct PinnedMemory {
    static void allocate(void** data, std::size_t bytes, const char* what) {
        const cudaError_t status = cudaMallocHost(data, bytes);
        if (status == cudaErrorMemoryAllocation) {
            throw DeviceError(cat(
                "out of pinned host memory in ", what, ", which needs ", human_bytes(bytes),
                " — it is this node's memory, not the GPU's: the device's copies need memory that "
                "the host never moves — raise the job's memory and the limit of locked memory "
                "(ulimit -l), or use fewer data.workers or fewer ranks a node"));
        }
        check(status, what);
    }
    static void release(void* data) { cudaFreeHost(data); }
};
using DeviceBuffer = Buffer<DeviceMemory>;
using PinnedBuffer = Buffer<PinnedMemory>;

}  // namespace deeplab::cuda
