#pragma once
// The cases in which every op is tested: shapes and attributes, once. A case is a tiny plan, which
// the CPU backend, the CUDA backend and its kernels run (ops_test.cpp, cuda/kernels/cases_test.cpp)
// and of which the reference takes finite differences (reference/finite_difference_test.cpp). What
// only one of them needs (many pixels, one launch's edges) stands beside it.

#include <functional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "ops/tiny_norm.h"
#include "ops/tiny_plan.h"

namespace deeplab::testing {

constexpr std::uint64_t case_seed = 12345;  // of dropout
constexpr double case_learning_rate = 0.05, case_valid_pixels = 37;

struct CasePlan {
    TinyPlan t;
    // The forward pass is the plan's first nodes; `outputs` are what they give, each with the
    // gradients that come to it, `inputs` what they read, each with the gradient that the others
    // give.
    std::size_t forward = 0;
    std::vector<std::pair<TensorId, std::vector<TensorId>>> outputs;
    std::vector<std::pair<TensorId, TensorId>> inputs;

    // A step of a plan that is run several times; the first writes the gradients, others add.
    exec::Step step(bool first_micro) const;
    bool updates() const;
};

struct OpCase {
    std::string family;  // the forward op
    std::string name;
    std::function<CasePlan()> plan;
    bool differences = false;  // small, and away from kinks: for finite differences
};
void PrintTo(const OpCase& c, std::ostream* out);

std::vector<OpCase> op_cases();

struct ConvolutionCase {
    const char* what;
    Shape x;
    std::int64_t outputs, kernel_h, kernel_w;
    graph::ConvGeometry g;
    bool bias = false, differences = false;

    Shape w() const { return {outputs, x.c / g.groups, kernel_h, kernel_w}; }
    Shape y() const {
        return {x.n, outputs, reference::output_size(x.h, kernel_h, g.stride, g.pad, g.dilation),
                reference::output_size(x.w, kernel_w, g.stride, g.pad, g.dilation)};
    }
};
const std::vector<ConvolutionCase>& convolution_cases();
const std::vector<NormCase>& norm_cases();

// Classes for that part of the pixels, 255 for the others.
std::vector<std::uint8_t> random_labels(const Shape& logits, std::int64_t height,
                                        std::int64_t width, double valid);

}  // namespace deeplab::testing
