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

// The device of a rank: the one that is visible, else its local rank (its place among the ranks of
// its node). DeviceError naming host, rank and devices where that leaves it without one. That no
// two ranks of one visible device each share it is for make_nccl to see.
int choose_device(int local_rank, int local_size, int visible_devices);

// Throws DeviceError with availability().reason where the backend cannot run.
std::unique_ptr<exec::Backend> make_cuda_backend(int device);

}  // namespace deeplab::cuda
