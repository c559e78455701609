#pragma once
// Pooling ops of graph/plan.h. Tensors are f32 or bf16, `arg` u8.

#include <cuda_runtime.h>

#include "deeplab/graph/plan.h"
#include "view.h"

namespace deeplab::cuda {

// arg: none in a plan without gradients.
void max_pool(cudaStream_t stream, const graph::MaxPool& op, const View& x, const View& y,
              const View& arg);
// Every input pixel collects from the windows that contain it.
void max_pool_grad(cudaStream_t stream, const graph::MaxPoolGrad& op, const View& dy,
                   const View& arg, const View& dx);

// Sums in f64, in an order that the shape alone decides.
void global_average_pool(cudaStream_t stream, const View& x, const View& y);
void global_average_pool_grad(cudaStream_t stream, const View& dy, const View& dx);
// y (N,C,1,1): the sum over x's pixels times `factor`.
void sum_pixels(cudaStream_t stream, const View& x, float factor, const View& y);

}  // namespace deeplab::cuda
