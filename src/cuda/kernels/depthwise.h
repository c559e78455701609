#pragma once
// Depthwise convolutions: one filter a channel. Nine multiplications a value, no use for tensor
// cores: the bound is each tensor once through memory. x, y and their gradients are whole tensors,
// f32 or bf16; weights (C, R, S, 1) of the same type; sums are f32.

#include <cuda_runtime.h>

#include <cstdint>

#include "deeplab/graph/plan.h"
#include "scratch.h"
#include "view.h"

namespace deeplab::cuda {

// Whether the kernels take a convolution: one filter a channel, no bias, a window of at most 81
// taps.
bool has_depthwise_kernels(const graph::ConvGeometry& geometry, const Shape& w, bool bias);

struct DepthwiseTensors {
    View x, w, y;  // or their gradients, whichever the pass works on; dw is f32 in any case
    View masks;    // of the data gradient with an activation of the input: x
};
void depthwise(cudaStream_t stream, const graph::Conv2d& op, const DepthwiseTensors& t);
void depthwise_grad_data(cudaStream_t stream, const graph::Conv2dGradData& op,
                         const DepthwiseTensors& t);

// dw is written, or added to (a micro-batch that is not the first). Sums in f32 in a thread, f64
// from there on, in an order that the shapes alone decide.
std::int64_t depthwise_grad_weights_scratch_bytes(const Shape& y, const Shape& w, DType type);
void depthwise_grad_weights(cudaStream_t stream, const graph::Conv2dGradWeights& op,
                            const DepthwiseTensors& t, bool add, const Scratch& scratch);

}  // namespace deeplab::cuda
