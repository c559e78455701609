#pragma once
// Pinned host memory for comm::make_staged.

#include <cstddef>

#include "deeplab/comm/device_communicator.h"
#include "runtime.h"

namespace deeplab::cuda {

class PinnedStaging final : public comm::Staging {
public:
    void* reserve(std::size_t bytes) override {
        if (memory_.bytes() < bytes) {
            memory_ = PinnedBuffer();  // the old one first: pinned memory is scarce
            memory_ = PinnedBuffer(bytes, "pinned memory of the host-staged communicator");
        }
        return memory_.data();
    }
    void to_host(void* host, const void* device, std::size_t bytes,
                 comm::DeviceStream stream) override {
        copy(host, device, bytes, cudaMemcpyDeviceToHost, stream);
    }
    void to_device(void* device, const void* host, std::size_t bytes,
                   comm::DeviceStream stream) override {
        copy(device, host, bytes, cudaMemcpyHostToDevice, stream);
    }

private:
    static void copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                     comm::DeviceStream stream) {
        const auto cuda_stream = static_cast<cudaStream_t>(stream);
        check(cudaMemcpyAsync(to, from, bytes, kind, cuda_stream), "a copy for an all-reduce");
        check(cudaStreamSynchronize(cuda_stream), "a copy for an all-reduce");
    }

    PinnedBuffer memory_;
};

}  // namespace deeplab::cuda
