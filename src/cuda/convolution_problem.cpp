#include "convolution_problem.h"

#include <algorithm>

#include "deeplab/base/text.h"
#include "deeplab/graph/operands.h"

namespace deeplab::cuda {

const char* name(Pass pass) {
    switch (pass) {
        case Pass::forward: return "forward";
        case Pass::data: return "backward-data";
        case Pass::weights: return "backward-weights";
    }
    return "?";
}

std::string key(const ConvolutionProblem& p) {
    const graph::ConvGeometry& g = p.geometry;
    return cat(name(p.pass), " x ", to_string(p.x), "/", p.x_pitch, " w ", to_string(p.w), " y ",
               to_string(p.y), "/", p.y_pitch, " stride ", g.stride, " pad ", g.pad, " dilation ",
               g.dilation, " groups ", g.groups, " ", name(p.in), "->", name(p.out),
               p.bias ? " bias" : "", p.tf32 ? " tf32" : "",
               p.deterministic ? " deterministic" : "");
}

std::vector<ConvolutionProblem> convolution_problems(const graph::Plan& plan, Precision precision,
                                                     bool deterministic) {
    std::vector<ConvolutionProblem> problems;
    const auto add = [&](Pass pass, const auto& op, const graph::Node& node) {
        const graph::ConvolutionOperands t = operands(op, node);
        ConvolutionProblem p;
        p.pass = pass;
        p.geometry = op.geometry;
        p.x = plan.tensor(t.x).shape, p.w = plan.tensor(t.w).shape, p.y = plan.tensor(t.y).shape;
        p.x_pitch = plan.tensor(plan.root(t.x)).shape.c;
        p.y_pitch = plan.tensor(plan.root(t.y)).shape.c;
        p.in = p.out = precision == Precision::bf16 ? DType::bf16 : DType::f32;
        p.bias = pass == Pass::forward && t.bias != graph::none;
        p.tf32 = precision == Precision::tf32;
        p.deterministic = deterministic;
        if (std::find(problems.begin(), problems.end(), p) == problems.end()) problems.push_back(p);
    };
    for (const graph::Node& node : plan.nodes) {
        if (const auto* op = std::get_if<graph::Conv2d>(&node.op)) add(Pass::forward, *op, node);
        if (const auto* op = std::get_if<graph::Conv2dGradData>(&node.op))
            add(Pass::data, *op, node);
        if (const auto* op = std::get_if<graph::Conv2dGradWeights>(&node.op))
            add(Pass::weights, *op, node);
    }
    return problems;
}

}  // namespace deeplab::cuda
