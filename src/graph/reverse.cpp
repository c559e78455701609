// Reverse mode: walks the forward list backwards and appends each node's gradient nodes.
//
// The adjoint of a batch norm's three parts (sums, exchange, apply) are again three parts: local
// gradient sums, exchange, apply. Weight gradients are held back until the next exchange has
// started, so that they hide it.

#include <algorithm>
#include <map>

#include "deeplab/base/error.h"
#include "deeplab/graph/builder.h"
#include "deeplab/graph/operands.h"

namespace deeplab::graph {
namespace {

class Reverse {
public:
    explicit Reverse(Plan& plan) : plan_(plan) {
        for (const Parameter& p : plan.parameters) gradient_of_parameter_[p.value] = p.gradient;
    }

    void run() {
        const std::size_t forward = plan_.nodes.size();
        for (std::size_t i = forward; i-- > 0;) {
            const Node node = plan_.nodes[i];  // a copy: the list grows
            std::visit([&](const auto& op) { reverse(op, node); }, node.op);
        }
        flush_weight_gradients();
    }

private:
    TensorId add(std::string name, const Shape& shape, DType dtype = DType::f32,
                 Space space = Space::arena) {
        plan_.tensors.push_back(
            {.name = std::move(name), .shape = shape, .dtype = dtype, .space = space});
        return static_cast<TensorId>(plan_.tensors.size() - 1);
    }

    void emit(Op op, std::vector<TensorId> in, std::vector<TensorId> out) {
        plan_.nodes.push_back(Node{op, std::move(in), std::move(out)});
    }

    // A new tensor that is one more contribution to the gradient of `of`.
    TensorId contribute(TensorId of) {
        const TensorId id = add("d " + plan_.tensor(of).name, plan_.tensor(of).shape);
        contributions_[of].push_back(id);
        return id;
    }

    // All contributions to the gradient of `y`; of a slice: the slices of its concatenation's.
    std::vector<TensorId> gradients(TensorId y) {
        std::vector<TensorId> all;
        if (const auto own = contributions_.find(y); own != contributions_.end()) all = own->second;
        const Tensor t = plan_.tensor(y);
        if (t.parent != none) {
            for (const TensorId of_parent : gradients(t.parent)) {
                const TensorId id = add("d " + t.name, t.shape);
                plan_.tensors.back().parent = of_parent;
                plan_.tensors.back().channel_offset = t.channel_offset;
                all.push_back(id);
            }
        }
        return all;
    }

    // The gradient of `y` as one tensor.
    TensorId gradient(TensorId y) {
        const std::vector<TensorId> all = gradients(y);
        ensures(!all.empty(), "every output of a training plan reaches the loss");
        if (all.size() == 1) return all.front();
        const TensorId sum = add("d " + plan_.tensor(y).name + " (sum)", plan_.tensor(y).shape);
        emit(Sum{}, all, {sum});
        return sum;
    }

    bool wants_gradient(TensorId x) const { return plan_.tensor(x).space == Space::arena; }

    void flush_weight_gradients() {
        for (Node& node : held_back_) plan_.nodes.push_back(std::move(node));
        held_back_.clear();
    }

    void reverse(const Conv2d& op, const Node& node) {
        const auto t = operands(op, node);
        const TensorId dy = gradient(t.y);
        if (wants_gradient(t.x)) {
            std::vector<TensorId> in = {dy, t.w};
            if (op.input != Activation::none) in.push_back(t.x);
            emit(Conv2dGradData{op.geometry, op.input}, std::move(in), {contribute(t.x)});
        }
        std::vector<TensorId> out = {gradient_of_parameter_.at(t.w)};
        if (t.bias != none) out.push_back(gradient_of_parameter_.at(t.bias));
        held_back_.push_back(
            Node{Conv2dGradWeights{op.geometry, op.input}, {t.x, dy}, std::move(out)});
    }

    // What the BatchNormActGrad of a BatchNormAct will be, once its sums are exchanged.
    struct NormGradient {
        BatchNormActGrad op;
        BatchNormActOperands forward;
        TensorId gsums = none;
        std::vector<TensorId> dy;  // dz with residual
    };

    void reverse(const BatchNormAct& op, const Node& node) {
        const auto t = operands(op, node);
        NormGradient g;
        g.forward = t;
        g.gsums = add("d " + plan_.tensor(t.y).name + " sums",
                      {1, 2 * plan_.tensor(t.x).shape.c, 1, 1}, DType::f64, Space::exchange);
        g.dy = gradients(t.y);
        ensures(!g.dy.empty(), "every output of a training plan reaches the loss");
        const auto count = static_cast<std::int32_t>(g.dy.size());

        std::vector<TensorId> in = {t.x, t.gamma, t.beta, t.saved};
        if (op.residual) in.push_back(t.y);
        in.insert(in.end(), g.dy.begin(), g.dy.end());
        std::vector<TensorId> out = {g.gsums, gradient_of_parameter_.at(t.gamma),
                                     gradient_of_parameter_.at(t.beta)};
        if (op.residual) {
            const TensorId dz = contribute(t.residual);
            out.push_back(dz);
            g.dy = {dz};
        }
        emit(BatchNormGradSums{op.activation, op.residual, count}, std::move(in), std::move(out));

        g.op = {op.activation, op.residual, op.frozen, static_cast<std::int32_t>(g.dy.size())};
        if (op.frozen) {
            apply(g);
            flush_weight_gradients();
        } else {
            norm_gradients_.emplace(t.sums, std::move(g));
        }
    }

    void apply(const NormGradient& g) {
        const BatchNormActOperands& t = g.forward;
        std::vector<TensorId> in = {t.x, t.gamma, t.beta, t.saved, g.gsums};
        if (!g.op.frozen) in.push_back(t.sums);
        in.insert(in.end(), g.dy.begin(), g.dy.end());
        emit(g.op, std::move(in), {contribute(t.x)});
    }

    void reverse(const ExchangeFinish& op, const Node& node) {
        std::vector<TensorId> message;
        for (const TensorId sums : operands(op, node).message)
            message.push_back(norm_gradients_.at(sums).gsums);
        const std::int32_t number = plan_.messages++;
        emit(ExchangeStart{number}, message, message);
        flush_weight_gradients();
        emit(ExchangeFinish{number}, message, message);
    }

    void reverse(const ExchangeStart&, const Node&) {
    }  // its adjoint stands with that of ExchangeFinish

    void reverse(const BatchNormSums& op, const Node& node) {
        apply(norm_gradients_.at(operands(op, node).sums));
    }

    void reverse(const MaxPool& op, const Node& node) {
        const auto t = operands(op, node);
        const TensorId dy = gradient(t.y);
        emit(MaxPoolGrad{op.kernel, op.stride, op.pad}, {dy, t.arg}, {contribute(t.x)});
    }

    void reverse(const GlobalAveragePool& op, const Node& node) {
        const auto t = operands(op, node);
        const TensorId dy = gradient(t.y);
        emit(GlobalAveragePoolGrad{}, {dy}, {contribute(t.x)});
    }

    void reverse(const Upsample& op, const Node& node) {
        const auto t = operands(op, node);
        const TensorId dy = gradient(t.y);
        emit(UpsampleGrad{op.align_corners}, {dy}, {contribute(t.x)});
    }

    void reverse(const Dropout& op, const Node& node) {
        const auto t = operands(op, node);
        const TensorId dy = gradient(t.y);
        emit(DropoutGrad{op.probability, op.layer}, {dy}, {contribute(t.x)});
    }

    void reverse(const Sum& op, const Node& node) {
        const auto t = operands(op, node);
        const TensorId dy = gradient(t.y);
        for (const TensorId x : t.x) contributions_[x].push_back(dy);
    }

    void reverse(const SegmentationLoss& op, const Node& node) {
        const auto t = operands(op, node);
        contributions_[t.logits].push_back(t.dlogits);
    }

    [[noreturn]] static void not_forward() {
        throw LogicError("append_backward() takes a forward plan");
    }
    void reverse(const Conv2dGradData&, const Node&) { not_forward(); }
    void reverse(const Conv2dGradWeights&, const Node&) { not_forward(); }
    void reverse(const BatchNormGradSums&, const Node&) { not_forward(); }
    void reverse(const BatchNormActGrad&, const Node&) { not_forward(); }
    void reverse(const MaxPoolGrad&, const Node&) { not_forward(); }
    void reverse(const GlobalAveragePoolGrad&, const Node&) { not_forward(); }
    void reverse(const UpsampleGrad&, const Node&) { not_forward(); }
    void reverse(const DropoutGrad&, const Node&) { not_forward(); }
    void reverse(const AllReduce&, const Node&) { not_forward(); }
    void reverse(const Update&, const Node&) { not_forward(); }

    Plan& plan_;
    std::map<TensorId, TensorId> gradient_of_parameter_;
    std::map<TensorId, std::vector<TensorId>> contributions_;
    std::map<TensorId, NormGradient> norm_gradients_;  // by the forward sums
    std::vector<Node> held_back_;
};

}  // namespace

void append_backward(Plan& plan) { Reverse(plan).run(); }

Node all_reduce_node(const Plan& plan, std::int32_t bucket) {
    const Bucket& b = plan.buckets[static_cast<std::size_t>(bucket)];
    std::vector<TensorId> gradients;
    for (const Parameter& p : plan.parameters) {
        if (p.offset >= b.offset && p.offset < b.offset + b.count) gradients.push_back(p.gradient);
    }
    return {AllReduce{bucket}, gradients, gradients};
}

Node update_node(const Plan& plan) {
    Node node{Update{}, {}, {}};
    for (const Parameter& p : plan.parameters) {
        node.in.push_back(p.gradient);
        node.in.push_back(p.value);
        node.out.push_back(p.value);
    }
    return node;
}

void append_all_reduces(Plan& plan, std::int64_t bucket_bytes) {
    // Full buckets from the front (last layers, ready first). What cannot hide behind the backward
    // pass is the last bucket: it is cut to a quarter at most.
    const std::int64_t full = std::max<std::int64_t>(
        1, bucket_bytes / static_cast<std::int64_t>(sizeof(float)));
    std::int64_t begin = 0;
    for (auto p = plan.parameters.rbegin(); p != plan.parameters.rend(); ++p) {
        const std::int64_t end = std::next(p) == plan.parameters.rend() ? plan.parameter_count
                                                                        : std::next(p)->offset;
        const bool tail_starts = plan.parameter_count - end <= full / 4 &&
                                 plan.parameter_count - p->offset > full / 4;
        if (end - begin >= full || tail_starts || end == plan.parameter_count) {
            plan.buckets.push_back({begin, end - begin});
            begin = end;
        }
    }
    std::map<TensorId, std::size_t> writer;  // the last one
    for (std::size_t i = 0; i < plan.nodes.size(); ++i) {
        for (const TensorId id : plan.nodes[i].out) writer[id] = i;
    }
    std::multimap<std::size_t, Node> behind;  // by the node that completes the bucket
    for (std::size_t b = 0; b < plan.buckets.size(); ++b) {
        Node sum = all_reduce_node(plan, static_cast<std::int32_t>(b));
        std::size_t last = 0;
        for (const TensorId id : sum.in) last = std::max(last, writer.at(id));
        behind.emplace(last, std::move(sum));
    }
    std::vector<Node> nodes;
    for (std::size_t i = 0; i < plan.nodes.size(); ++i) {
        nodes.push_back(std::move(plan.nodes[i]));
        for (auto [b, end] = behind.equal_range(i); b != end; ++b)
            nodes.push_back(std::move(b->second));
    }
    plan.nodes = std::move(nodes);
}

}  // namespace deeplab::graph
