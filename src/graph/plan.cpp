#include "deeplab/graph/plan.h"

#include "deeplab/base/text.h"
#include "deeplab/graph/builder.h"
#include "deeplab/graph/operands.h"

namespace deeplab::graph {
namespace {

class Hash {
public:
    template <class T>
    requires std::is_arithmetic_v<T> || std::is_enum_v<T>
    void add(T value) { value_ = fnv1a(&value, sizeof value, value_); }
    void add(const std::string& text) {
        add(text.size());
        value_ = fnv1a(text.data(), text.size(), value_);
    }
    void add(const Shape& s) { add(s.n), add(s.c), add(s.h), add(s.w); }
    void add(const ConvGeometry& g) { add(g.stride), add(g.pad), add(g.dilation), add(g.groups); }
    std::uint64_t value() const { return value_; }

private:
    std::uint64_t value_ = fnv1a("deeplab-plan-1", 14);
};

// Plans without an activation of an input have the hash they had before there was any.
template <class Convolution>
void add_convolution(Hash& h, const Convolution& o) {
    h.add(o.geometry);
    if (o.input != Activation::none) h.add(o.input);
}

// And those of aligned corners the one they had before there were others.
void add_corners(Hash& h, bool align_corners) {
    if (!align_corners) h.add(align_corners);
}

void add_attributes(Hash& h, const Op& op) {
    h.add(op.index());
    std::visit(Overloaded{
                   [&](const Conv2d& o) { add_convolution(h, o); },
                   [&](const Conv2dGradData& o) { add_convolution(h, o); },
                   [&](const Conv2dGradWeights& o) { add_convolution(h, o); },
                   [&](const BatchNormSums&) {},
                   [&](const ExchangeStart& o) { h.add(o.message); },
                   [&](const ExchangeFinish& o) { h.add(o.message); },
                   [&](const BatchNormAct& o) {
                       h.add(o.activation), h.add(o.residual), h.add(o.frozen), h.add(o.eps),
                           h.add(o.momentum);
                   },
                   [&](const BatchNormGradSums& o) {
                       h.add(o.activation), h.add(o.residual), h.add(o.gradients);
                   },
                   [&](const BatchNormActGrad& o) {
                       h.add(o.activation), h.add(o.residual), h.add(o.frozen), h.add(o.gradients);
                   },
                   [&](const MaxPool& o) { h.add(o.kernel), h.add(o.stride), h.add(o.pad); },
                   [&](const MaxPoolGrad& o) { h.add(o.kernel), h.add(o.stride), h.add(o.pad); },
                   [&](const GlobalAveragePool&) {},
                   [&](const GlobalAveragePoolGrad&) {},
                   [&](const Upsample& o) { add_corners(h, o.align_corners); },
                   [&](const UpsampleGrad& o) { add_corners(h, o.align_corners); },
                   [&](const Dropout& o) { h.add(o.probability), h.add(o.layer); },
                   [&](const DropoutGrad& o) { h.add(o.probability), h.add(o.layer); },
                   [&](const Sum&) {},
                   [&](const SegmentationLoss& o) {
                       h.add(o.ignore), h.add(o.gradient_scale), add_corners(h, o.align_corners);
                   },
                   [&](const AllReduce& o) { h.add(o.bucket); },
                   [&](const Update&) {},
               },
               op);
}

void add_parameters(Hash& h, const Plan& plan) {
    for (const Parameter& p : plan.parameters)
        h.add(p.name), h.add(p.shape), h.add(p.kind), h.add(p.offset);
    for (const State& s : plan.states) h.add(s.name), h.add(s.shape), h.add(s.offset);
}

// Every tensor of a few; of many, as an Update has, the first and the last.
template <class Text>
std::string listed(TensorIds ids, const Text& text) {
    constexpr std::size_t few = 16;
    if (ids.size() > few)
        return cat(text(ids.front()), ", …, ", text(ids.back()), " (", ids.size(), " tensors)");
    std::string all;
    for (const TensorId id : ids) all += (all.empty() ? "" : ", ") + text(id);
    return all;
}

}  // namespace

TensorId Plan::root(TensorId id) const {
    while (tensor(id).parent != none) id = tensor(id).parent;
    return id;
}

std::uint64_t hash(const Plan& plan) {
    Hash h;
    add_parameters(h, plan);
    for (const Tensor& t : plan.tensors) {
        h.add(t.name), h.add(t.shape), h.add(t.dtype), h.add(t.space);
        h.add(t.parent), h.add(t.channel_offset), h.add(t.keep);
    }
    for (const Node& node : plan.nodes) {
        add_attributes(h, node.op);
        // What works on the flat buffers touches what buckets and parameters say.
        const bool flat = on_flat_buffers(node);
        for (const TensorId id : flat ? TensorIds() : node.in) h.add(id);
        h.add(none);
        for (const TensorId id : flat ? TensorIds() : node.out) h.add(id);
    }
    for (const Bucket& b : plan.buckets) h.add(b.offset), h.add(b.count);
    h.add(plan.update.momentum), h.add(plan.update.clip_norm);
    h.add(plan.update.accumulate_decay);
    for (const UpdateSegment& s : plan.update.segments) {
        h.add(s.offset), h.add(s.count), h.add(s.lr_multiplier), h.add(s.weight_decay),
            h.add(s.steps);
    }
    return h.value();
}

std::uint64_t parameter_hash(const Plan& plan) {
    Hash h;
    add_parameters(h, plan);
    return h.value();
}

const char* name(const Op& op) {
    return std::visit(Overloaded{
                          [](const Conv2d&) { return "Conv2d"; },
                          [](const Conv2dGradData&) { return "Conv2dGradData"; },
                          [](const Conv2dGradWeights&) { return "Conv2dGradWeights"; },
                          [](const BatchNormSums&) { return "BatchNormSums"; },
                          [](const ExchangeStart&) { return "ExchangeStart"; },
                          [](const ExchangeFinish&) { return "ExchangeFinish"; },
                          [](const BatchNormAct&) { return "BatchNormAct"; },
                          [](const BatchNormGradSums&) { return "BatchNormGradSums"; },
                          [](const BatchNormActGrad&) { return "BatchNormActGrad"; },
                          [](const MaxPool&) { return "MaxPool"; },
                          [](const MaxPoolGrad&) { return "MaxPoolGrad"; },
                          [](const GlobalAveragePool&) { return "GlobalAveragePool"; },
                          [](const GlobalAveragePoolGrad&) { return "GlobalAveragePoolGrad"; },
                          [](const Upsample&) { return "Upsample"; },
                          [](const UpsampleGrad&) { return "UpsampleGrad"; },
                          [](const Dropout&) { return "Dropout"; },
                          [](const DropoutGrad&) { return "DropoutGrad"; },
                          [](const Sum&) { return "Sum"; },
                          [](const SegmentationLoss&) { return "SegmentationLoss"; },
                          [](const AllReduce&) { return "AllReduce"; },
                          [](const Update&) { return "Update"; },
                      },
                      op);
}

// 2 * N*P*Q * K * (C/groups) * R*S; the same for both gradients.
double convolution_flops(const Plan& plan, const Node& node) {
    const auto flops = [&](const ConvolutionOperands& t) {
        const Shape& s = plan.tensor(t.y).shape;
        return 2.0 * static_cast<double>(s.n * s.h * s.w) *
               static_cast<double>(plan.tensor(t.w).shape.elements());
    };
    return std::visit(Overloaded{
                          [&](const Conv2d& o) { return flops(operands(o, node)); },
                          [&](const Conv2dGradData& o) { return flops(operands(o, node)); },
                          [&](const Conv2dGradWeights& o) { return flops(operands(o, node)); },
                          [](const auto&) { return 0.0; },
                      },
                      node.op);
}

double convolution_flops(const Plan& plan) {
    double sum = 0;
    for (const Node& node : plan.nodes) sum += convolution_flops(plan, node);
    return sum;
}

std::string to_string(const Plan& plan) {
    const auto named = [&](TensorId id) { return plan.tensor(id).name; };
    const auto whole = [&](TensorId id) {
        const Tensor& t = plan.tensor(id);
        return cat(t.name, " ", deeplab::to_string(t.shape), t.dtype == DType::bf16 ? " bf16" : "");
    };
    std::string text;
    for (std::size_t i = 0; i < plan.nodes.size(); ++i) {
        const Node& node = plan.nodes[i];
        text += cat(i, " ", name(node.op), " (", listed(node.in, named), ") -> ",
                    listed(node.out, whole), "\n");
    }
    return text;
}

}  // namespace deeplab::graph
