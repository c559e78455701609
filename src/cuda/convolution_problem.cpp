#include "convolution_problem.h"

#include <algorithm>

#include "deeplab/base/text.h"

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
    const auto add = [&](Pass pass, const graph::ConvGeometry& geometry, graph::TensorId x,
                         graph::TensorId w, graph::TensorId y, bool bias = false) {
        ConvolutionProblem p;
        p.pass = pass;
        p.geometry = geometry;
        p.x = plan.tensor(x).shape, p.w = plan.tensor(w).shape, p.y = plan.tensor(y).shape;
        p.x_pitch = plan.tensor(plan.root(x)).shape.c;
        p.y_pitch = plan.tensor(plan.root(y)).shape.c;
        p.in = p.out = precision == Precision::bf16 ? DType::bf16 : DType::f32;
        p.bias = bias;
        p.tf32 = precision == Precision::tf32;
        p.deterministic = deterministic;
        if (std::find(problems.begin(), problems.end(), p) == problems.end()) problems.push_back(p);
    };
    for (const graph::Node& node : plan.nodes) {
        if (const auto* forward = std::get_if<graph::Conv2d>(&node.op))
            add(Pass::forward, forward->geometry, node.in[0], node.in[1], node.out[0],
                node.in.size() > 2);
        if (const auto* data = std::get_if<graph::Conv2dGradData>(&node.op))
            add(Pass::data, data->geometry, node.out[0], node.in[1], node.in[0]);
        if (const auto* weights = std::get_if<graph::Conv2dGradWeights>(&node.op))
            add(Pass::weights, weights->geometry, node.in[0], node.out[0], node.in[1]);
    }
    return problems;
}

}  // namespace deeplab::cuda
