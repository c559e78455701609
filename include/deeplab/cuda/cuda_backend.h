#pragma once
// Runs plans on one NVIDIA GPU.

#include <memory>
#include <string>

#include "deeplab/exec/backend.h"

namespace deeplab::cuda {

struct Availability {
    int devices = 0;  // usable devices
    // Why there is none: not built, no driver, none visible, backend not finished.
    std::string reason;
};

Availability availability();

// Throws DeviceError with availability().reason where the backend cannot run.
std::unique_ptr<exec::Backend> make_cuda_backend(int device);

}  // namespace deeplab::cuda
