#include "ops/case_plans.h"

#include <algorithm>
#include <cmath>

namespace deeplab::testing {

using reference::random_tensor;

// --- Convolution ---

// Weights, images and gradients as they come, a bias of bf16 values: a GPU's plans of bf16
// activations read a bf16 copy of it, the CPU's the value.
CasePlan convolution(const ConvolutionCase& c) {
    reference::Tensor x = random_tensor(c.x, 1);
    if (c.input == graph::Activation::relu6)
        for (double& v : x.data) v *= 8;  // beyond both kinks
    const reference::Tensor w = random_tensor(c.w(), 2),
                            b = reference::bf16(random_tensor({1, c.outputs, 1, 1}, 3));
    const Shape shape = c.y();
    CasePlan p;
    TinyPlan& t = p.t;
    const std::size_t pw = t.parameter(w), pb = t.parameter(b, graph::ParameterKind::bias);
    const TensorId in = t.input(x), dy = t.input(random_tensor(shape, 4)), y = t.arena(shape),
                   dx = t.arena(c.x);
    std::vector<TensorId> read = {in, t.value(pw)}, written = {t.gradient(pw)};
    p.inputs = {{in, dx}, {t.value(pw), t.gradient(pw)}};
    if (c.bias) {
        read.push_back(t.value(pb));
        written.push_back(t.gradient(pb));
        p.inputs.emplace_back(t.value(pb), t.gradient(pb));
    }
    t.node(graph::Conv2d{c.g, c.input}, read, {y});
    p.forward = t.plan.nodes.size();
    read = {dy, t.value(pw)};
    if (c.input != graph::Activation::none) read.push_back(in);
    t.node(graph::Conv2dGradData{c.g, c.input}, read, {dx});
    t.node(graph::Conv2dGradWeights{c.g, c.input}, {in, dy}, written);
    p.outputs = {{y, {dy}}};
    return p;
}

// --- Batch norm ---

CasePlan norm(const NormCase& c) {
    const Shape channel{1, c.x.c, 1, 1};
    Values variance = random_tensor(channel, 6).data;
    for (double& v : variance) v = static_cast<double>(static_cast<float>(std::abs(v) + 0.5));
    Values gamma = random_tensor(channel, 3).data;
    if (c.op.activation == graph::Activation::relu6)
        for (double& v : gamma) v *= 8;  // beyond both kinks
    CasePlan p;
    TinyNorm n(p.t, c, random_tensor(c.x, 1),
               {gamma, random_tensor(channel, 4).data, random_tensor(channel, 5).data, variance},
               random_tensor(c.x, 2));
    p.forward = p.t.plan.nodes.size();
    std::vector<reference::Tensor> gradients;
    for (int g = 0; g < c.gradients; ++g)
        gradients.push_back(random_tensor(c.x, 10 + static_cast<std::uint64_t>(g)));
    n.backward(p.t, gradients);
    p.outputs = {{n.y, n.dy}};
    p.inputs = {{n.x, n.dx},
                {p.t.value(n.gamma), p.t.gradient(n.gamma)},
                {p.t.value(n.beta), p.t.gradient(n.beta)}};
    if (c.op.residual) p.inputs.emplace_back(n.residual, n.dz);
    return p;
}

// --- Pooling ---

CasePlan max_pool(const PoolCase& c) {
    reference::Tensor x = random_tensor(c.x, 1);
    for (double& v : x.data) v = std::round(v * 4) / 4;  // ties: the first wins
    if (c.differences) {  // values that differ by more than a difference's step, in no order
        for (std::size_t i = 0; i < x.data.size(); ++i)
            x.data[i] = static_cast<double>(i * 101 % x.data.size()) * 0.01;
    }
    const Shape shape{c.x.n, c.x.c,
                      reference::output_size(c.x.h, c.op.kernel, c.op.stride, c.op.pad),
                      reference::output_size(c.x.w, c.op.kernel, c.op.stride, c.op.pad)};
    CasePlan p;
    TinyPlan& t = p.t;
    const TensorId in = t.input(x), read = t.as_slice(in, c.margin), y = t.arena(shape),
                   arg = t.arena(shape, DType::u8), alone = t.arena(shape),
                   dy = t.input(random_tensor(shape, 2)), dx = t.slice(c.x, c.margin);
    t.node(c.op, {read}, {y, arg});
    p.forward = t.plan.nodes.size();
    t.node(c.op, {read}, {alone});  // as in a plan without gradients
    t.node(graph::MaxPoolGrad{c.op.kernel, c.op.stride, c.op.pad}, {dy, arg}, {dx});
    p.outputs = {{y, {dy}}};
    p.inputs = {{in, dx}};
    return p;
}

CasePlan average_pool(const Shape& shape, Margin margin) {
    const Shape one{shape.n, shape.c, 1, 1};
    CasePlan p;
    TinyPlan& t = p.t;
    const TensorId in = t.input(random_tensor(shape, 1)), read = t.as_slice(in, margin),
                   y = t.arena(one), dy = t.input(random_tensor(one, 2)),
                   dx = t.slice(shape, margin);
    t.node(graph::GlobalAveragePool{}, {read}, {y});
    p.forward = t.plan.nodes.size();
    t.node(graph::GlobalAveragePoolGrad{}, {dy}, {dx});
    p.outputs = {{y, {dy}}};
    p.inputs = {{in, dx}};
    return p;
}

// --- Resize ---

CasePlan resize(const ResizeCase& c) {
    const Shape large{c.x.n, c.x.c, c.height, c.width};
    CasePlan p;
    TinyPlan& t = p.t;
    const TensorId x = t.input(random_tensor(c.x, 1)), y = t.arena(large),
                   dy = t.input(random_tensor(large, 2)), dx = t.arena(c.x),
                   dx_of_slice = t.arena(c.x), slice = t.slice(large, c.margin);
    t.node(graph::Upsample{c.align_corners}, {x}, {y});
    p.forward = t.plan.nodes.size();
    t.node(graph::Upsample{c.align_corners}, {x}, {slice});
    t.node(graph::UpsampleGrad{c.align_corners}, {dy}, {dx});
    t.node(graph::UpsampleGrad{c.align_corners}, {t.as_slice(dy, c.margin)}, {dx_of_slice});
    p.outputs = {{y, {dy}}};
    p.inputs = {{x, dx}, {x, dx_of_slice}};
    return p;
}

// --- Elementwise ---

CasePlan dropout(const DropoutCase& c) {
    CasePlan p;
    TinyPlan& t = p.t;
    for (std::uint32_t n = 0; n < static_cast<std::uint32_t>(c.shape.n); ++n)
        t.samples.push_back({3 + n % 2, 100 + 7 * n});
    const TensorId x = t.input(random_tensor(c.shape, 1)), read = t.as_slice(x, c.margin),
                   y = t.slice(c.shape, c.margin), dy = t.input(random_tensor(c.shape, 2)),
                   dx = t.arena(c.shape);
    t.node(graph::Dropout{c.probability, c.layer}, {read}, {y});
    p.forward = t.plan.nodes.size();
    t.node(graph::DropoutGrad{c.probability, c.layer}, {dy}, {dx});
    p.outputs = {{y, {dy}}};
    p.inputs = {{x, dx}};
    return p;
}

CasePlan sum(const SumCase& c) {
    CasePlan p;
    std::vector<TensorId> in;
    for (std::size_t i = 0; i < c.count; ++i) {
        in.push_back(p.t.input(random_tensor(c.shape, 20 + i)));
        if (i % 2 == 1) in.back() = p.t.as_slice(in.back(), c.margin);
    }
    const TensorId y = p.t.slice(c.shape, c.margin);
    p.t.node(graph::Sum{}, in, {y});
    p.forward = p.t.plan.nodes.size();
    // The gradient of a term is that of the sum.
    const TensorId dy = p.t.input(random_tensor(c.shape, 9));
    p.outputs = {{y, {dy}}};
    for (const auto& [id, value] : p.t.given)
        if (value.shape == c.shape && id != dy) p.inputs.emplace_back(id, dy);
    return p;
}

// --- Loss ---

CasePlan loss(const LossCase& c) {
    reference::Tensor logits = random_tensor(c.logits, 1);
    for (double& v : logits.data) v *= c.differences ? 4 : 8;
    CasePlan p;
    TinyPlan& t = p.t;
    const TensorId in = t.input(logits),
                   truth = t.label_input({c.logits.n, 1, c.height, c.width},
                                         random_labels(c.logits, c.height, c.width, c.valid)),
                   result = t.result(), dlogits = t.arena(c.logits);
    t.node(graph::SegmentationLoss{.gradient_scale = 0.25f, .align_corners = c.align_corners},
           {in, truth}, {result, dlogits});
    p.forward = t.plan.nodes.size();
    p.outputs = {{result, {}}};
    p.inputs = {{in, dlogits}};
    return p;
}

// --- Update ---

// A 1x1 convolution whose weights and bias get gradients, in two buckets and two segments, and a
// head that sets the gradients' scale.
CasePlan update(float clip, bool accumulate_decay) {
    const reference::Tensor logits = random_tensor({1, 3, 2, 2}, 5);
    CasePlan p;
    TinyPlan& t = p.t;
    const std::size_t w = t.parameter(random_tensor({40, 24, 1, 1}, 3)),
                      b = t.parameter(random_tensor({1, 40, 1, 1}, 4), graph::ParameterKind::bias);
    const TensorId x = t.input(random_tensor({2, 24, 5, 5}, 1)),
                   dy = t.input(random_tensor({2, 40, 5, 5}, 2)),
                   truth = t.label_input({1, 1, 4, 4}, std::vector<std::uint8_t>(16, 1));
    t.node(graph::SegmentationLoss{255, 0.125f}, {t.input(logits), truth},
           {t.result(), t.arena(logits.shape)});
    t.node(graph::Conv2dGradWeights{}, {x, dy}, {t.gradient(w), t.gradient(b)});
    const std::int64_t weights = 960, others = t.plan.parameter_count - weights;
    t.plan.buckets = {{0, weights}, {weights, others}};
    t.all_reduce(0);
    t.all_reduce(1);
    t.update();
    t.plan.update = {0.9f,
                     clip,
                     {{0, weights, 10.0f, 1e-2f, 1}, {weights, others, 1.0f, 1e-2f, 3}},
                     accumulate_decay};
    return p;
}

std::vector<std::uint8_t> random_labels(const Shape& logits, std::int64_t height,
                                        std::int64_t width, double valid) {
    std::vector<std::uint8_t> labels(static_cast<std::size_t>(logits.n * height * width), 255);
    for (std::size_t i = 0; i < labels.size(); ++i) {
        const math::Philox4 r = math::philox(5, {{static_cast<std::uint32_t>(i), 0, 0, 0}});
        if (static_cast<double>(math::uniform(r.v[0])) < valid)
            labels[i] = static_cast<std::uint8_t>(r.v[1] % static_cast<std::uint32_t>(logits.c));
    }
    return labels;
}

exec::MicroBatch CasePlan::step(bool first_micro) const {
    exec::MicroBatch s = t.step();
    s.learning_rate = case_learning_rate;
    s.valid_pixels = case_valid_pixels;
    s.first_micro = first_micro || updates();
    return s;
}

bool CasePlan::updates() const {
    return std::any_of(t.plan.nodes.begin(), t.plan.nodes.end(), [](const graph::Node& node) {
        return std::holds_alternative<graph::Update>(node.op);
    });
}

}  // namespace deeplab::testing
