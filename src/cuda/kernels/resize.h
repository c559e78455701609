#pragma once
// Bilinear resizing (math/bilinear.h), and its adjoint. f32 or bf16.

#include <cuda_runtime.h>

#include "deeplab/graph/plan.h"
#include "view.h"

namespace deeplab::cuda {

void upsample(cudaStream_t stream, const graph::Upsample& op, const View& x, const View& y);
// Every input pixel collects from the outputs it contributed to.
void upsample_grad(cudaStream_t stream, const graph::UpsampleGrad& op, const View& dy,
                   const View& dx);

}  // namespace deeplab::cuda
