#pragma once
// A batch norm of a tiny plan with its exchange and its backward pass.

#include <ostream>

#include "ops/tiny_plan.h"

namespace deeplab::testing {

struct NormCase {
    Shape x;
    graph::BatchNormAct op;
    int gradients = 1;
    Margin margin = {};  // y, dz and every dy are slices
    bool differences = false;
};

inline void PrintTo(const NormCase& c, std::ostream* out) {
    *out << to_string(c.x) << " " << math::name(c.op.activation)
         << (c.op.residual ? " residual" : "") << (c.op.frozen ? " frozen" : "") << " gradients "
         << c.gradients << " margin " << c.margin.before << '+' << c.margin.after;
}

struct TinyNorm {
    TensorId x, residual = graph::none, y, saved, sums, gsums = graph::none, mean, variance,
                dz = graph::none, dx = graph::none;
    std::vector<TensorId> dy;  // as they come
    std::size_t gamma, beta;

    // added: read where the op has a residual.
    TinyNorm(TinyPlan& t, const NormCase& c, const reference::Tensor& input,
             const reference::BatchNormParameters& p, const reference::Tensor& added)
        : c_(c) {
        x = t.input(input);
        gamma = t.channel_parameter(p.gamma);
        beta = t.channel_parameter(p.beta);
        mean = t.state(p.running_mean);
        variance = t.state(p.running_variance);
        std::vector<TensorId> in = {x, t.value(gamma), t.value(beta), mean, variance};
        sums = t.exchange(2 * c.x.c + 1);
        if (!c.op.frozen) {
            t.plan.messages = 1;
            t.node(graph::BatchNormSums{}, {x}, {sums});
            t.node(graph::ExchangeStart{0}, {sums}, {sums});
            t.node(graph::ExchangeFinish{0}, {sums}, {sums});
            in.push_back(sums);
        }
        if (c.op.residual) in.push_back(residual = t.input(added));
        y = t.slice(c.x, c.margin);
        saved = t.arena({1, 2 * c.x.c, 1, 1});
        t.node(c.op, in, {y, saved});
    }

    // One dy for each of `gradients`.
    void backward(TinyPlan& t, const std::vector<reference::Tensor>& gradients) {
        std::vector<TensorId> read;
        for (const reference::Tensor& g : gradients) {
            dy.push_back(t.input(g));
            read.push_back(t.as_slice(dy.back(), c_.margin));
        }
        const auto count = static_cast<std::int32_t>(read.size());
        std::vector<TensorId> in = {x, t.value(gamma), t.value(beta), saved};
        if (c_.op.residual) in.push_back(y);
        in.insert(in.end(), read.begin(), read.end());
        gsums = t.exchange(2 * c_.x.c);
        std::vector<TensorId> out = {gsums, t.gradient(gamma), t.gradient(beta)};
        if (c_.op.residual) out.push_back(dz = t.slice(c_.x, c_.margin));
        t.node(graph::BatchNormGradSums{c_.op.activation, c_.op.residual, count}, in, out);
        in = {x, t.value(gamma), t.value(beta), saved, gsums};
        if (!c_.op.frozen) in.push_back(sums);
        if (c_.op.residual) read = {dz};
        in.insert(in.end(), read.begin(), read.end());
        dx = t.arena(c_.x);
        t.node(graph::BatchNormActGrad{c_.op.activation, c_.op.residual, c_.op.frozen,
                                       static_cast<std::int32_t>(read.size())},
               in, {dx});
    }

private:
    NormCase c_;
};

}  // namespace deeplab::testing
