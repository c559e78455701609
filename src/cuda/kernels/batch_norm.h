#pragma once
// The four batch-norm ops of graph/plan.h. Each reads every tensor once.
//
// Sums: f32 in a thread (of differences to the first value that it reads, so that a large mean
// costs no digits), f64 from there on; two stages, the same bits each time. Activations and their
// gradients are f32 or bf16, all of one type; gamma, beta, running statistics and `saved` f32; sums
// and gsums f64.

#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

#include "deeplab/graph/plan.h"
#include "scratch.h"
#include "view.h"

namespace deeplab::cuda {

// For any of these ops on x of this shape and type.
std::int64_t batch_norm_scratch_bytes(const Shape& x, DType type);

// sums: (1,2C+1,1,1).
void batch_norm_sums(cudaStream_t stream, const View& x, const View& sums, const Scratch& scratch);

struct BatchNormTensors {
    View x, gamma, beta, mean, variance;  // mean, variance: running
    View sums;                            // none when frozen
    View residual;                        // none without
    View y, saved;                        // saved: none in a plan without gradients
};
void batch_norm_act(cudaStream_t stream, const graph::BatchNormAct& op, const BatchNormTensors& t);

struct BatchNormGradTensors {
    View x, gamma, beta, saved, y;  // y: with residual
    std::vector<View> dy;           // what meets here, at most 8, added in this order
    View gsums, sums;               // sums: none when frozen
    View dgamma, dbeta, dz, dx;     // dz: with residual
};
// add: dgamma and dbeta are added to (a micro-batch that is not the first). With residual, the sums
// are of dz as it is stored.
void batch_norm_grad_sums(cudaStream_t stream, const graph::BatchNormGradSums& op,
                          const BatchNormGradTensors& t, bool add, const Scratch& scratch);
void batch_norm_act_grad(cudaStream_t stream, const graph::BatchNormActGrad& op,
                         const BatchNormGradTensors& t);

}  // namespace deeplab::cuda
