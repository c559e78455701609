#pragma once
// A node's tensors by the names that graph/plan.h gives them; `none` where the node goes without.
// The order of Node::in and Node::out is known here, and to whoever makes nodes: nobody else
// indexes them (tests/rules/operands.sh). What treats all tensors of a node alike walks the lists.

#include <algorithm>
#include <span>

#include "deeplab/graph/plan.h"

namespace deeplab::graph {

using TensorIds = std::span<const TensorId>;  // into the node's lists: not longer than these

namespace detail {

inline TensorId at(TensorIds ids, std::size_t i) { return i < ids.size() ? ids[i] : none; }
inline TensorId in(const Node& n, std::size_t i) { return at(n.in, i); }
inline TensorId out(const Node& n, std::size_t i) { return at(n.out, i); }
inline TensorIds in_from(const Node& n, std::size_t i) {
    return TensorIds(n.in).subspan(std::min(i, n.in.size()));
}

}  // namespace detail

// The same four in all three passes: Conv2dGradData reads y's gradient as y and writes x's as x,
// Conv2dGradWeights reads x and y's gradient and writes those of w and bias. `masks`: the x by
// which Conv2dGradData masks, with an activation of the input.
struct ConvolutionOperands {
    TensorId x, w, y, bias, masks = none;
};
inline ConvolutionOperands operands(const Conv2d&, const Node& n) {
    return {detail::in(n, 0), detail::in(n, 1), detail::out(n, 0), detail::in(n, 2)};
}
inline ConvolutionOperands operands(const Conv2dGradData&, const Node& n) {
    return {detail::out(n, 0), detail::in(n, 1), detail::in(n, 0), none, detail::in(n, 2)};
}
inline ConvolutionOperands operands(const Conv2dGradWeights&, const Node& n) {
    return {detail::in(n, 0), detail::out(n, 0), detail::in(n, 1), detail::out(n, 1)};
}

struct BatchNormSumsOperands {
    TensorId x, sums;
};
inline BatchNormSumsOperands operands(const BatchNormSums&, const Node& n) {
    return {detail::in(n, 0), detail::out(n, 0)};
}

// Summed in place.
struct ExchangeOperands {
    TensorIds message;
};
inline ExchangeOperands operands(const ExchangeStart&, const Node& n) { return {n.in}; }
inline ExchangeOperands operands(const ExchangeFinish&, const Node& n) { return {n.in}; }

struct BatchNormActOperands {
    TensorId x, gamma, beta, mean, variance, sums, residual, y, saved;
};
inline BatchNormActOperands operands(const BatchNormAct& op, const Node& n) {
    const std::size_t sums = 5, residual = op.frozen ? 5 : 6;
    return {.x = detail::in(n, 0),
            .gamma = detail::in(n, 1),
            .beta = detail::in(n, 2),
            .mean = detail::in(n, 3),
            .variance = detail::in(n, 4),
            .sums = op.frozen ? none : detail::in(n, sums),
            .residual = op.residual ? detail::in(n, residual) : none,
            .y = detail::out(n, 0),
            .saved = detail::out(n, 1)};
}

struct BatchNormGradSumsOperands {
    TensorId x, gamma, beta, saved, y;
    TensorIds dy;
    TensorId gsums, dgamma, dbeta, dz;
};
inline BatchNormGradSumsOperands operands(const BatchNormGradSums& op, const Node& n) {
    return {.x = detail::in(n, 0),
            .gamma = detail::in(n, 1),
            .beta = detail::in(n, 2),
            .saved = detail::in(n, 3),
            .y = op.residual ? detail::in(n, 4) : none,
            .dy = detail::in_from(n, op.residual ? 5 : 4),
            .gsums = detail::out(n, 0),
            .dgamma = detail::out(n, 1),
            .dbeta = detail::out(n, 2),
            .dz = detail::out(n, 3)};
}

struct BatchNormActGradOperands {
    TensorId x, gamma, beta, saved, gsums, sums;
    TensorIds dy;  // dz with residual
    TensorId dx;
};
inline BatchNormActGradOperands operands(const BatchNormActGrad& op, const Node& n) {
    return {.x = detail::in(n, 0),
            .gamma = detail::in(n, 1),
            .beta = detail::in(n, 2),
            .saved = detail::in(n, 3),
            .gsums = detail::in(n, 4),
            .sums = op.frozen ? none : detail::in(n, 5),
            .dy = detail::in_from(n, op.frozen ? 5 : 6),
            .dx = detail::out(n, 0)};
}

struct MaxPoolOperands {
    TensorId x, y, arg;
};
inline MaxPoolOperands operands(const MaxPool&, const Node& n) {
    return {detail::in(n, 0), detail::out(n, 0), detail::out(n, 1)};
}
struct MaxPoolGradOperands {
    TensorId dy, arg, dx;
};
inline MaxPoolGradOperands operands(const MaxPoolGrad&, const Node& n) {
    return {detail::in(n, 0), detail::in(n, 1), detail::out(n, 0)};
}

struct ForwardOperands {  // of ops with one input and one output
    TensorId x, y;
};
inline ForwardOperands operands(const GlobalAveragePool&, const Node& n) {
    return {detail::in(n, 0), detail::out(n, 0)};
}
inline ForwardOperands operands(const Upsample&, const Node& n) {
    return {detail::in(n, 0), detail::out(n, 0)};
}
inline ForwardOperands operands(const Dropout&, const Node& n) {
    return {detail::in(n, 0), detail::out(n, 0)};
}
struct BackwardOperands {  // of their gradients
    TensorId dy, dx;
};
inline BackwardOperands operands(const GlobalAveragePoolGrad&, const Node& n) {
    return {detail::in(n, 0), detail::out(n, 0)};
}
inline BackwardOperands operands(const UpsampleGrad&, const Node& n) {
    return {detail::in(n, 0), detail::out(n, 0)};
}
inline BackwardOperands operands(const DropoutGrad&, const Node& n) {
    return {detail::in(n, 0), detail::out(n, 0)};
}

struct SumOperands {
    TensorIds x;
    TensorId y;
};
inline SumOperands operands(const Sum&, const Node& n) { return {n.in, detail::out(n, 0)}; }

struct SegmentationLossOperands {
    TensorId logits, labels, loss, dlogits;
};
inline SegmentationLossOperands operands(const SegmentationLoss&, const Node& n) {
    return {detail::in(n, 0), detail::in(n, 1), detail::out(n, 0), detail::out(n, 1)};
}

// AllReduce and Update work on the flat buffers; their lists say which tensors that touches.
inline bool on_flat_buffers(const Node& n) {
    return std::holds_alternative<AllReduce>(n.op) || std::holds_alternative<Update>(n.op);
}

// The tensor by which a table names a node; none on flat buffers, where one would mislead.
inline TensorId subject(const Node& n) { return on_flat_buffers(n) ? none : detail::out(n, 0); }

}  // namespace deeplab::graph
