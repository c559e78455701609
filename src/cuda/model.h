#pragma once
// The model's state on one device, and what all plans of a backend share there.

#include <cstdint>

#include "choice_cache.h"
#include "deeplab/cuda/cuda_backend.h"
#include "descriptor.h"
#include "runtime.h"

namespace deeplab::cuda {

struct Model {
    // Makes the device current for this thread.
    explicit Model(const CudaOptions& options);

    CudaOptions options;
    Stream stream;
    CudnnHandle cudnn;
    Target target;
    ChoiceCache choices;

    // Flat, in the plan's offsets; within a convolution's weight in the order K R S C/groups.
    DeviceBuffer values, gradients, momenta, states;
    // What convolutions of bf16 activations read; made when the first plan of such is compiled,
    // written by every update, stale after an upload.
    DeviceBuffer bf16;
    bool bf16_stale = true;
    std::int64_t parameter_count = 0, state_count = 0;

    // Shared by the plans' runs, as large as the largest needs. A plan's launches hold addresses:
    // `moved` counts how often one of them changed, after which a plan is compiled anew.
    DeviceBuffer arena, scratch, tickets;
    std::int64_t moved = 0;
    void reserve(DeviceBuffer& buffer, std::int64_t bytes, const char* what);
};

}  // namespace deeplab::cuda
