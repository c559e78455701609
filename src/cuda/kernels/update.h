#pragma once
// The optimizer over the flat buffers: the gradient's norm, then SGD. What changes from step to
// step lies in device memory, so that a captured graph can be replayed.

#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

#include "deeplab/graph/plan.h"
#include "scratch.h"

namespace deeplab::cuda {

// In device memory, written before a step.
struct StepScalars {
    double learning_rate, valid_pixels;  // valid pixels of the global batch
};

// In device memory, written by gradient_norm().
struct UpdateOutcome {
    double norm;           // of the averaged gradient, before clipping
    float factor;          // what a summed gradient is multiplied by: average and clipping
    std::uint32_t finite;  // 0: sgd() changes nothing
};

// A piece of the flat buffers that the optimizer treats alike.
struct UpdatePiece {
    std::int64_t offset, count;
    float lr_multiplier, weight_decay;
    std::int32_t steps;
    bool accumulate_decay;
};
// The rule's segments in pieces of equal work; sgd() takes them from device memory.
std::vector<UpdatePiece> update_pieces(const graph::UpdateRule& rule);

std::int64_t gradient_norm_scratch_bytes();
// gradients: sums over ranks. Averaged: divided by gradient_scale and the valid pixels; without any
// valid pixel the gradient counts as zero. In f64, two stages.
void gradient_norm(cudaStream_t stream, const float* gradients, std::int64_t count,
                   double gradient_scale, float clip_norm, const StepScalars* step,
                   UpdateOutcome* outcome, const Scratch& scratch);

// The buffers are 16-byte aligned, and so are the pieces in them.
struct FlatBuffers {
    float* values;
    const float* gradients;
    float* momenta;
    void* bf16;  // the copy that convolutions read; null: none
};
void sgd(cudaStream_t stream, const FlatBuffers& buffers, const UpdatePiece* pieces,
         std::int64_t piece_count, float momentum, const StepScalars* step,
         const UpdateOutcome* outcome);

}  // namespace deeplab::cuda
