#pragma once
// Every CUDA call's status passes here.

#include <cuda_runtime.h>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"

namespace deeplab::cuda {

inline void check(cudaError_t status, const char* what) {
    if (status == cudaSuccess) return;
    if (status == cudaErrorMemoryAllocation) {
        throw DeviceError(cat("out of device memory in ", what,
                              " — the work does not fit this GPU — use a smaller batch or crop, or "
                              "more ranks"));
    }
    throw DeviceError(cat("CUDA failed in ", what, ": ", cudaGetErrorString(status),
                          " — the device's results are lost — look at it with nvidia-smi, then "
                          "start again with --resume"));
}

}  // namespace deeplab::cuda
