// Stands in for cuda_backend.cpp where nvcc was not found or CUDA is switched off.
#include "deeplab/base/error.h"
#include "deeplab/cuda/cuda_backend.h"

namespace deeplab::cuda {

Availability availability() {
    return {
        0,
        "CUDA backend: not built — no network can run on a GPU — use --device cpu, or put nvcc on "
        "PATH and configure with -DDEEPLAB_CUDA=ON"};
}

std::unique_ptr<exec::Backend> make_cuda_backend(const CudaOptions&) {
    throw DeviceError(availability().reason);
}

void show_phases() {}

std::int64_t device_bytes_in_use() { throw DeviceError(availability().reason); }

}  // namespace deeplab::cuda
