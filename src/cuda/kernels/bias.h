#pragma once
// A convolution's bias: the classifier has one. y and dy are f32 or bf16, the bias f32.

#include <cuda_runtime.h>

#include <cstdint>

#include "scratch.h"
#include "view.h"

namespace deeplab::cuda {

// y += bias, in place.
void add_bias(cudaStream_t stream, const View& bias, const View& y);

// dbias: the sum of dy over samples and pixels; add: added to (a micro-batch that is not the
// first).
std::int64_t bias_grad_scratch_bytes(const Shape& dy, DType type);
void bias_grad(cudaStream_t stream, const View& dy, const View& dbias, bool add,
               const Scratch& scratch);

}  // namespace deeplab::cuda
