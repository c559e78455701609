#pragma once
// Shapes that convolutions of this project have, and odd ones.

#include <string>
#include <vector>

#include "convolution_problem.h"

namespace deeplab::testing {

struct ConvolutionCase {
    std::string name;
    Shape x;
    std::int64_t outputs, kernel;
    graph::ConvGeometry g;
    bool bias = false;
    std::int64_t more_x = 0, more_y = 0;  // channels of the whole tensors beyond x's and y's
};

inline std::vector<ConvolutionCase> convolution_cases() {
    return {{"stem", {2, 3, 33, 33}, 16, 7, {2, 3, 1, 1}},
            {"one by one", {2, 40, 9, 11}, 56, 1, {}},
            {"one by one, odd channels", {2, 37, 9, 11}, 53, 1, {}},
            {"one by one, one pixel", {3, 40, 1, 1}, 24, 1, {}},
            {"one channel", {1, 1, 5, 4}, 1, 3, {1, 1, 1, 1}, true},
            {"classifier", {2, 64, 9, 9}, 21, 1, {}, true},
            {"two classes", {1, 64, 9, 9}, 2, 1, {}, true},
            {"odd channels", {1, 19, 8, 7}, 35, 3, {1, 1, 1, 1}, true},
            {"wide", {1, 304, 7, 7}, 256, 3, {1, 1, 1, 1}},
            {"stride", {2, 32, 13, 14}, 48, 3, {2, 1, 1, 1}},
            {"shortcut", {2, 32, 13, 14}, 64, 1, {2, 0, 1, 1}},
            {"dilated", {2, 32, 11, 9}, 32, 3, {1, 2, 2, 1}},
            {"rate 18 on 5x5", {2, 64, 5, 5}, 32, 3, {1, 18, 18, 1}},
            {"rate 6 on 5x9", {1, 32, 5, 9}, 32, 3, {1, 6, 6, 1}},
            {"rate 12 on 33x33", {1, 16, 33, 33}, 16, 3, {1, 12, 12, 1}},
            {"rate 36 on 65x65", {1, 16, 65, 65}, 16, 3, {1, 36, 36, 1}},
            {"groups", {2, 32, 9, 9}, 64, 3, {1, 1, 1, 4}, true},
            {"depthwise", {2, 48, 9, 9}, 48, 3, {1, 1, 1, 48}},
            {"depthwise, dilated", {1, 32, 13, 13}, 32, 3, {1, 6, 6, 32}},
            {"odd groups", {1, 15, 6, 6}, 9, 3, {2, 1, 1, 3}},
            {"slices", {2, 32, 9, 9}, 64, 3, {1, 1, 1, 1}, false, 16, 8}};
}

inline cuda::ConvolutionProblem problem_of(const ConvolutionCase& c, cuda::Pass pass,
                                           cuda::Precision precision, bool deterministic) {
    const auto extent = [&](std::int64_t in) {
        return (in + 2 * c.g.pad - c.g.dilation * (c.kernel - 1) - 1) / c.g.stride + 1;
    };
    cuda::ConvolutionProblem p;
    p.pass = pass;
    p.geometry = c.g;
    p.x = c.x;
    p.w = {c.outputs, c.x.c / c.g.groups, c.kernel, c.kernel};
    p.y = {c.x.n, c.outputs, extent(c.x.h), extent(c.x.w)};
    p.x_pitch = c.x.c + c.more_x;
    p.y_pitch = c.outputs + c.more_y;
    p.in = p.out = precision == cuda::Precision::bf16 ? DType::bf16 : DType::f32;
    p.bias = c.bias && pass == cuda::Pass::forward;
    p.tf32 = precision == cuda::Precision::tf32;
    p.deterministic = deterministic;
    return p;
}

}  // namespace deeplab::testing
