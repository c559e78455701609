#pragma once
// A case of an op as a tiny plan: the op, its gradients, and what comes to them.

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
    exec::MicroBatch step(bool first_micro) const;
    bool updates() const;
};

struct ConvolutionCase {
    std::string what;
    Shape x;
    std::int64_t outputs, kernel_h, kernel_w;
    graph::ConvGeometry g;
    bool bias = false, differences = false;
    graph::Activation input = graph::Activation::none;

    Shape w() const { return {outputs, x.c / g.groups, kernel_h, kernel_w}; }
    Shape y() const {
        return {x.n, outputs, reference::output_size(x.h, kernel_h, g.stride, g.pad, g.dilation),
                reference::output_size(x.w, kernel_w, g.stride, g.pad, g.dilation)};
    }
};
struct PoolCase {
    Shape x;
    graph::MaxPool op = {};
    Margin margin = {};  // x and its gradient are slices
    bool differences = false;
};

struct ResizeCase {
    Shape x;
    std::int64_t height, width;
    Margin margin = {7, 4};  // y is written whole and as a slice; dy is read so
    bool differences = false, align_corners = true;
};

struct DropoutCase {
    Shape shape;
    float probability;
    std::uint32_t layer = 2;
    Margin margin = {};
    bool differences = false;
};

struct SumCase {
    Shape shape;
    std::size_t count;
    Margin margin = {};  // every other term, and the sum, are slices
};

struct LossCase {
    Shape logits;
    std::int64_t height, width;
    double valid;  // part of the pixels
    bool differences = false, align_corners = true;
};

CasePlan convolution(const ConvolutionCase& c);
CasePlan norm(const NormCase& c);
CasePlan max_pool(const PoolCase& c);
CasePlan average_pool(const Shape& shape, Margin margin);
CasePlan resize(const ResizeCase& c);
CasePlan dropout(const DropoutCase& c);
CasePlan sum(const SumCase& c);
CasePlan loss(const LossCase& c);
CasePlan update(float clip, bool accumulate_decay);

// Classes for that part of the pixels, 255 for the others.
std::vector<std::uint8_t> random_labels(const Shape& logits, std::int64_t height,
                                        std::int64_t width, double valid);

}  // namespace deeplab::testing
