#pragma once
// What time it is on the device, for parts of a captured graph that the host cannot see.

#include <cuda_runtime.h>

#include <cstdint>

namespace deeplab::cuda {

// Writes the device's time in nanoseconds, one for all streams, to device memory when the stream
// comes to it.
void stamp(cudaStream_t stream, std::int64_t* at);

}  // namespace deeplab::cuda
