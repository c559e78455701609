#pragma once
// The convolutions of tests/ops as problems for cuDNN.

#include <algorithm>
#include <vector>

#include "convolution_problem.h"
#include "ops/cases.h"

namespace deeplab::testing {

// What cuDNN is asked for: a case whose x and y may be slices of tensors with more channels.
struct PitchedCase : ConvolutionCase {
    std::int64_t more_x = 0, more_y = 0;
};

// Those of tests/ops that a network may have: not the smallest, with square windows, which fit the
// padded map, as cuDNN wants them to; without the many depthwise ones.
inline std::vector<PitchedCase> pitched_cases() {
    std::vector<PitchedCase> all;
    for (const ConvolutionCase& c : convolution_cases()) {
        const std::int64_t window = c.g.dilation * (c.kernel_h - 1) + 1;
        const bool fits = window <= std::min(c.x.h, c.x.w) + 2 * c.g.pad;
        const bool depthwise = graph::is_depthwise(c.g, c.w()) && !c.bias;
        if (!c.differences && !depthwise && c.kernel_h == c.kernel_w && fits) all.push_back({c});
    }
    all.push_back({{"slices", {2, 32, 9, 9}, 64, 3, 3, {1, 1, 1, 1}}, 16, 8});
    return all;
}

inline cuda::ConvolutionProblem problem_of(const PitchedCase& c, cuda::Pass pass,
                                           Precision precision, bool deterministic) {
    cuda::ConvolutionProblem p;
    p.pass = pass;
    p.geometry = c.g;
    p.x = c.x;
    p.w = c.w();
    p.y = c.y();
    p.x_pitch = c.x.c + c.more_x;
    p.y_pitch = c.outputs + c.more_y;
    p.in = p.out = precision == Precision::bf16 ? DType::bf16 : DType::f32;
    p.bias = c.bias && pass == cuda::Pass::forward;
    p.tf32 = precision == Precision::tf32;
    p.deterministic = deterministic;
    return p;
}

}  // namespace deeplab::testing
