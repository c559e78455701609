#pragma once
// Upsampling to the labels' size, softmax and cross-entropy in one kernel: no full-size logits.

#include <cuda_runtime.h>

#include <cstdint>

#include "deeplab/graph/plan.h"
#include "scratch.h"
#include "view.h"

namespace deeplab::cuda {

// logits (N,K,h,w), labels (N,1,H,W).
std::int64_t segmentation_loss_scratch_bytes(const graph::SegmentationLoss& op, const Shape& logits,
                                             const Shape& labels);

// loss: one f64; dlogits: none in a plan without gradients. Labels are classes or `ignore`: whoever
// uploads them checks that; others give a wrong loss here, no wrong access. Images are at most 46
// times the logits' size, 14 times with more than 32 classes.
void segmentation_loss(cudaStream_t stream, const graph::SegmentationLoss& op, const View& logits,
                       const View& labels, const View& loss, const View& dlogits,
                       const Scratch& scratch);

}  // namespace deeplab::cuda
