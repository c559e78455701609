// The CUDA backend is not finished: this file finds the devices and says so.
#include <cuda_runtime.h>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/cuda/cuda_backend.h"

namespace deeplab::cuda {

Availability availability() {
    int devices = 0;
    const cudaError_t status = cudaGetDeviceCount(&devices);
    // A machine without a driver answers "insufficient driver" (35), not "no device".
    if (status == cudaErrorInsufficientDriver) {
        return {0,
                "CUDA backend: no usable driver on this machine — use --device cpu, or install the "
                "NVIDIA driver"};
    }
    if (status == cudaErrorNoDevice || (status == cudaSuccess && devices == 0)) {
        return {
            0, "CUDA backend: no visible device — use --device cpu, or check CUDA_VISIBLE_DEVICES"};
    }
    if (status != cudaSuccess)
        return {0, cat("CUDA backend: ", cudaGetErrorString(status), " — use --device cpu")};
    return {0, cat("CUDA backend: not finished in this version (", devices,
                   devices == 1 ? " device is" : " devices are", " visible) — use --device cpu")};
}

std::unique_ptr<exec::Backend> make_cuda_backend(int) { throw DeviceError(availability().reason); }

}  // namespace deeplab::cuda
