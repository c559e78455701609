#pragma once
// The four batch-norm ops of graph/plan.h. Sums are fp64, a partial sum a thread, added in the
// threads' order.

#include <vector>

#include "buffer.h"
#include "deeplab/graph/plan.h"
#include "threads.h"

namespace deeplab::cpu {

std::int64_t batch_norm_scratch_bytes(const Threads& threads, std::int64_t channels);

void batch_norm_sums(const Threads& threads, const View& x, const View& sums,
                     const Buffer& scratch);

struct BatchNormTensors {
    View x, gamma, beta, mean, variance;  // mean, variance: running
    View sums;                            // none when frozen
    View residual;                        // none without
    View y, saved;                        // saved: none in a plan without gradients
};
void batch_norm_act(const Threads& threads, const graph::BatchNormAct& op,
                    const BatchNormTensors& t, const Buffer& scratch);

struct BatchNormGradTensors {
    View x, gamma, beta, saved, y;  // y: with residual
    std::vector<View> dy;           // what meets here, added in this order
    View gsums, sums;               // sums: none when frozen
    View dgamma, dbeta, dz, dx;     // dz: with residual
};
void batch_norm_grad_sums(const Threads& threads, const graph::BatchNormGradSums& op,
                          const BatchNormGradTensors& t, bool add, const Buffer& scratch);
void batch_norm_act_grad(const Threads& threads, const graph::BatchNormActGrad& op,
                         const BatchNormGradTensors& t, const Buffer& scratch);

}  // namespace deeplab::cpu
