#pragma once
// One convolution pass as cuDNN is asked for it: no pointers, no device, so that equal ones share
// an engine plan and its tuning.

#include <cstdint>
#include <string>
#include <vector>

#include "deeplab/graph/plan.h"

namespace deeplab::cuda {

enum class Pass : std::uint8_t { forward, data, weights };
const char* name(Pass pass);  // "forward", "backward-data", "backward-weights"

// Tensors lie N H W C with `pitch` elements from pixel to pixel, weights K R S C/groups. The tensor
// that a pass writes is y, dx (in x's place) or dw (in w's).
struct ConvolutionProblem {
    Pass pass = Pass::forward;
    graph::ConvGeometry geometry;
    Shape x, w, y;  // (N,C,H,W), (K,C/groups,R,S), (N,K,P,Q)
    std::int64_t x_pitch = 0, y_pitch = 0;
    DType in = DType::f32, out = DType::f32;  // f32 or bf16: of what is read, of what is written
    bool bias = false;           // forward: K values of type `in` are added to the sums
    bool tf32 = false;           // f32 inputs may be rounded to tf32
    bool deterministic = false;  // the same bits each time

    bool operator==(const ConvolutionProblem&) const = default;
};

// One line without tabs; equal problems have equal keys.
std::string key(const ConvolutionProblem& problem);

// The distinct convolution passes of a plan, in order of their first use. A tensor's pitch is the
// channel count of the tensor that owns its memory. Weights' gradients have the activations' type.
std::vector<ConvolutionProblem> convolution_problems(const graph::Plan& plan, Precision precision,
                                                     bool deterministic);

}  // namespace deeplab::cuda
