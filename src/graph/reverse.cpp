// Reverse mode: walks the forward list backwards and appends each node's gradient nodes.
//
// The adjoint of a batch norm's three parts (sums, exchange, apply) are again three parts: local
// gradient sums, exchange, apply. Weight gradients are held back until the next exchange has
// started, so that they hide it.

#include <algorithm>
#include <map>

#include "deeplab/base/error.h"
#include "deeplab/graph/builder.h"

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
        const TensorId x = node.in[0], w = node.in[1], dy = gradient(node.out[0]);
        if (wants_gradient(x)) emit(Conv2dGradData{op.geometry}, {dy, w}, {contribute(x)});
        std::vector<TensorId> out = {gradient_of_parameter_.at(w)};
        if (node.in.size() > 2) out.push_back(gradient_of_parameter_.at(node.in[2]));
        held_back_.push_back(Node{Conv2dGradWeights{op.geometry}, {x, dy}, std::move(out)});
    }

    // What the two gradient nodes of one BatchNormAct share.
    struct NormGradient {
        std::vector<TensorId> in;  // x, gamma, beta, saved, gsums
        TensorId gsums = none;
        std::vector<TensorId> dy;  // dz with residual
        BatchNormActGrad op;
    };

    void reverse(const BatchNormAct& op, const Node& node) {
        const TensorId x = node.in[0], gamma = node.in[1], beta = node.in[2];
        const TensorId y = node.out[0], saved = node.out[1];
        const Shape s = plan_.tensor(x).shape;
        NormGradient g;
        g.gsums = add("d " + plan_.tensor(y).name + " sums", {1, 2 * s.c, 1, 1}, DType::f64,
                      Space::exchange);
        g.dy = gradients(y);
        ensures(!g.dy.empty(), "every output of a training plan reaches the loss");
        const auto count = static_cast<std::int32_t>(g.dy.size());

        std::vector<TensorId> in = {x, gamma, beta, saved};
        if (op.residual) in.push_back(y);
        in.insert(in.end(), g.dy.begin(), g.dy.end());
        std::vector<TensorId> out = {g.gsums, gradient_of_parameter_.at(gamma),
                                     gradient_of_parameter_.at(beta)};
        if (op.residual) {
            const TensorId dz = contribute(node.in.back());
            out.push_back(dz);
            g.dy = {dz};
        }
        emit(BatchNormGradSums{op.relu, op.residual, count}, std::move(in), std::move(out));

        g.in = {x, gamma, beta, saved, g.gsums};
        g.op = {op.relu, op.residual, op.frozen, static_cast<std::int32_t>(g.dy.size())};
        if (op.frozen) {
            apply(std::move(g), none);
        } else {
            const TensorId sums = node.in[5];
            norm_gradients_.emplace(sums, std::move(g));
        }
    }

    void apply(NormGradient g, TensorId sums) {
        if (sums != none) g.in.push_back(sums);
        g.in.insert(g.in.end(), g.dy.begin(), g.dy.end());
        emit(g.op, g.in, {contribute(g.in[0])});
        if (sums == none) flush_weight_gradients();
    }

    void reverse(const ExchangeFinish&, const Node& node) {
        std::vector<TensorId> message;
        for (const TensorId sums : node.in) message.push_back(norm_gradients_.at(sums).gsums);
        const std::int32_t number = plan_.messages++;
        emit(ExchangeStart{number}, message, message);
        flush_weight_gradients();
        emit(ExchangeFinish{number}, message, message);
    }

    void reverse(const ExchangeStart&, const Node&) {
    }  // its adjoint stands with that of ExchangeFinish

    void reverse(const BatchNormSums&, const Node& node) {
        apply(norm_gradients_.at(node.out[0]), node.out[0]);
    }

    void reverse(const MaxPool& op, const Node& node) {
        const TensorId dy = gradient(node.out[0]);
        emit(MaxPoolGrad{op.kernel, op.stride, op.pad}, {dy, node.out[1]},
             {contribute(node.in[0])});
    }

    void reverse(const GlobalAveragePool&, const Node& node) {
        const TensorId dy = gradient(node.out[0]);
        emit(GlobalAveragePoolGrad{}, {dy}, {contribute(node.in[0])});
    }

    void reverse(const Upsample&, const Node& node) {
        const TensorId dy = gradient(node.out[0]);
        emit(UpsampleGrad{}, {dy}, {contribute(node.in[0])});
    }

    void reverse(const Dropout& op, const Node& node) {
        const TensorId dy = gradient(node.out[0]);
        emit(DropoutGrad{op.probability, op.layer}, {dy}, {contribute(node.in[0])});
    }

    void reverse(const Sum&, const Node& node) {
        const TensorId dy = gradient(node.out[0]);
        for (const TensorId x : node.in) contributions_[x].push_back(dy);
    }

    void reverse(const SegmentationLoss&, const Node& node) {
        contributions_[node.in[0]].push_back(node.out[1]);
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

// The parameter whose gradient this is, as an index into `bucket_of`.
std::map<TensorId, std::int32_t> buckets_of_gradients(const Plan& plan) {
    std::map<TensorId, std::int32_t> result;
    for (const Parameter& p : plan.parameters) {
        std::int32_t b = 0;
        while (p.offset >= plan.buckets[static_cast<std::size_t>(b)].offset +
                               plan.buckets[static_cast<std::size_t>(b)].count)
            ++b;
        result[p.gradient] = b;
    }
    return result;
}

}  // namespace

void append_backward(Plan& plan) { Reverse(plan).run(); }

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
    const std::map<TensorId, std::int32_t> bucket_of = buckets_of_gradients(plan);
    std::vector<std::size_t> last_writer(plan.buckets.size(), 0);
    for (std::size_t i = 0; i < plan.nodes.size(); ++i) {
        for (const TensorId id : plan.nodes[i].out) {
            if (const auto b = bucket_of.find(id); b != bucket_of.end())
                last_writer[static_cast<std::size_t>(b->second)] = i;
        }
    }
    std::vector<Node> nodes;
    for (std::size_t i = 0; i < plan.nodes.size(); ++i) {
        nodes.push_back(std::move(plan.nodes[i]));
        for (std::size_t b = 0; b < last_writer.size(); ++b) {
            if (last_writer[b] == i)
                nodes.push_back({AllReduce{static_cast<std::int32_t>(b)}, {}, {}});
        }
    }
    plan.nodes = std::move(nodes);
}

}  // namespace deeplab::graph
