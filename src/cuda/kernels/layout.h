#pragma once
// From the host's order of elements to the device's and back, and between element types.

#include <cuda_runtime.h>

#include <cstdint>

#include "view.h"

namespace deeplab::cuda {

// f32 N C H W to f32 or bf16 N H W C, and back. A convolution's weights are such a tensor too: K
// C/groups R S on the host, K R S C/groups here.
void from_nchw(cudaStream_t stream, const float* from, const View& to);
void to_nchw(cudaStream_t stream, const View& from, float* to);

// `count` values, f32 to bf16.
void to_bf16(cudaStream_t stream, const float* from, void* to, std::int64_t count);

// A weight's gradient as a convolution gave it, f32 or bf16, into the flat f32 gradients: written,
// or added (a micro-batch that is not the first).
void accumulate(cudaStream_t stream, DType type, const void* from, float* to, std::int64_t count,
                bool add);

}  // namespace deeplab::cuda
