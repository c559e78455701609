#include "reference/interpreter.h"

#include <algorithm>
#include <cmath>

#include "deeplab/graph/operands.h"

namespace deeplab::reference {

using graph::none;
using graph::TensorId;
using Values = std::vector<double>;

Interpreter::Interpreter(const graph::Plan& plan, std::uint64_t seed, Roundings roundings)
    : plan_(plan),
      seed_(seed),
      roundings_(roundings),
      values_(plan.tensors.size()),
      exact_(plan.tensors.size()) {
    for (std::size_t t = 0; t < values_.size(); ++t) values_[t] = Tensor(plan.tensors[t].shape);
    for (const graph::Parameter& p : plan.parameters)
        momenta_.emplace_back(static_cast<std::size_t>(p.shape.elements()));
}

std::int64_t Interpreter::first_channel(TensorId id) const {
    std::int64_t channel = 0;
    for (TensorId t = id; plan_.tensor(t).parent != none; t = plan_.tensor(t).parent)
        channel += plan_.tensor(t).channel_offset;
    return channel;
}

Tensor Interpreter::value(TensorId id) const {
    const Tensor& root = values_[index(plan_.root(id))];
    const std::int64_t count = plan_.tensor(id).shape.c;
    return count == root.shape.c ? root : channels(root, first_channel(id), count);
}

void Interpreter::give(TensorId id, const Tensor& value) { write(id, value); }

void Interpreter::write(TensorId id, const Tensor& value) {
    exact_[index(id)] = value;
    const Tensor stored = is_bf16(id) ? bf16(value) : value;
    Tensor& root = values_[index(plan_.root(id))];
    if (stored.shape.c == root.shape.c)
        root = stored;
    else
        put_channels(stored, first_channel(id), root);
}

void Interpreter::write_vector(TensorId id, const Values& value) {
    Tensor t(plan_.tensor(id).shape);
    t.data = value;
    write(id, t);
}

// A node of the interpreter's plan; an op without a case here does not compile.
struct Interpreter::Ops {
    Interpreter& self;
    const graph::Node& node;
    const exec::MicroBatch& step;

    Tensor read(TensorId id) const { return self.value(id); }
    Values vector(TensorId id) const { return id == none ? Values{} : self.value(id).data; }
    Tensor sum_of(graph::TensorIds ids) const {
        std::vector<Tensor> all;
        for (const TensorId id : ids) all.push_back(read(id));
        return sum(all);
    }
    // Convolutions of bf16 activations multiply by a bf16 copy of the weights.
    Tensor weights(TensorId w, TensorId x) const {
        return self.is_bf16(x) ? bf16(read(w)) : read(w);
    }
    // Written on the first micro-batch of a step, added to on the others.
    void gradient(TensorId id, Tensor given, bool rounded = false) const {
        if (id == none) return;
        const Tensor exact = given;
        if (rounded) given = bf16(given);
        self.write(id, step.first_micro ? given : sum({read(id), given}));
        if (step.first_micro) self.exact_[index(id)] = exact;
    }
    void gradient(TensorId id, const Values& given) const {
        if (id == none) return;
        Tensor t(self.plan_.tensor(id).shape);
        t.data = given;
        gradient(id, t);
    }

    // x as its convolution reads it.
    Tensor activated(TensorId x, graph::Activation input) const {
        Tensor t = read(x);
        for (double& v : t.data) v = reference::activated(input, v);
        return t;
    }
    void operator()(const graph::Conv2d& op) const {
        const auto o = operands(op, node);
        self.write(
            o.y, conv2d(activated(o.x, op.input), weights(o.w, o.x), vector(o.bias), op.geometry));
    }
    void operator()(const graph::Conv2dGradData& op) const {
        const auto o = operands(op, node);
        Tensor dx = conv2d_grad_data(read(o.y), weights(o.w, o.y), self.plan_.tensor(o.x).shape,
                                     op.geometry);
        if (o.masks != none) {
            const Tensor x = read(o.masks);
            for (std::size_t i = 0; i < dx.data.size(); ++i)
                if (!passes(op.input, x.data[i])) dx.data[i] = 0;
        }
        self.write(o.x, dx);
    }
    void operator()(const graph::Conv2dGradWeights& op) const {
        const auto o = operands(op, node);
        const Tensor x = activated(o.x, op.input), dy = read(o.y);
        const Shape& w = self.plan_.tensor(o.w).shape;
        const bool own_kernels = graph::is_depthwise(op.geometry, w) && o.bias == none;
        gradient(o.w, conv2d_grad_weights(x, dy, w, op.geometry),
                 self.roundings_.weight_gradients && self.is_bf16(o.x) && !own_kernels);
        gradient(o.bias, conv2d_grad_bias(dy));
    }
    void operator()(const graph::BatchNormSums& op) const {
        const auto o = operands(op, node);
        const Tensor x = read(o.x);
        Tensor squares = x;
        for (double& v : squares.data) v *= v;
        Values sums = conv2d_grad_bias(x);
        const Values second = conv2d_grad_bias(squares);
        sums.insert(sums.end(), second.begin(), second.end());
        sums.push_back(static_cast<double>(x.shape.n * x.shape.h * x.shape.w));
        self.write_vector(o.sums, sums);
    }
    void operator()(const graph::ExchangeStart&) const {}  // one rank
    void operator()(const graph::ExchangeFinish&) const {}
    void operator()(const graph::BatchNormAct& op) const {
        const auto o = operands(op, node);
        Tensor residual;
        if (o.residual != none) residual = read(o.residual);
        const BatchNorm r = batch_norm_act(
            read(o.x), {vector(o.gamma), vector(o.beta), vector(o.mean), vector(o.variance)},
            o.residual != none ? &residual : nullptr, op);
        self.write(o.y, r.y);
        self.write_vector(o.mean, r.running_mean);
        self.write_vector(o.variance, r.running_variance);
        if (o.saved == none) return;
        Values saved = r.mean;
        saved.insert(saved.end(), r.invstd.begin(), r.invstd.end());
        self.write_vector(o.saved, saved);
    }
    // `y` tells the ReLU's decision: that of a residual's sum is read, another is made again.
    BatchNormGrad batch_norm_grad(const Tensor& x, TensorId gamma, TensorId beta, TensorId saved,
                                  TensorId y, const Tensor& dy,
                                  const graph::BatchNormAct& op) const {
        const std::size_t c = static_cast<std::size_t>(x.shape.c);
        const Values both = vector(saved);
        const BatchNormParameters p{vector(gamma), vector(beta), Values(c), Values(c)};
        BatchNorm forward;
        forward.mean.assign(both.begin(), both.begin() + x.shape.c);
        forward.invstd.assign(both.begin() + x.shape.c, both.end());
        if (y != none) {
            forward.y = read(y);
        } else {
            forward.y = x;
            const auto area = static_cast<std::size_t>(x.shape.h * x.shape.w);
            for (std::size_t i = 0; i < x.data.size(); ++i) {
                const std::size_t k = i / area % c;
                forward.y.data[i] = p.gamma[k] * (x.data[i] - forward.mean[k]) * forward.invstd[k] +
                                    p.beta[k];
            }
        }
        return batch_norm_act_grad(x, p, forward, dy, op);
    }
    void operator()(const graph::BatchNormGradSums& op) const {
        const auto o = operands(op, node);
        Tensor dy = sum_of(o.dy);
        if (op.residual && self.roundings_.dz_before_sums && self.is_bf16(o.dz)) dy = bf16(dy);
        const BatchNormGrad g = batch_norm_grad(read(o.x), o.gamma, o.beta, o.saved, o.y, dy,
                                                {.activation = op.activation});
        Values gsums = g.dbeta;
        gsums.insert(gsums.end(), g.dgamma.begin(), g.dgamma.end());
        self.write_vector(o.gsums, gsums);
        gradient(o.dgamma, g.dgamma);
        gradient(o.dbeta, g.dbeta);
        if (o.dz == none) return;
        self.write(o.dz, g.dz);
        Tensor& exact = self.exact_[index(o.dz)] = sum_of(o.dy);
        for (std::size_t i = 0; i < exact.data.size(); ++i)
            if (g.dz.data[i] == 0) exact.data[i] = 0;
    }
    void operator()(const graph::BatchNormActGrad& op) const {
        const auto o = operands(op, node);
        const Tensor x = read(o.x);
        // dz has been masked; else the mask is made again.
        const auto masks = op.residual ? graph::Activation::none : op.activation;
        const Tensor dz = batch_norm_grad(x, o.gamma, o.beta, o.saved, none, sum_of(o.dy),
                                          {.activation = masks, .frozen = true})
                              .dz;
        const Values gamma = vector(o.gamma), saved = vector(o.saved), gsums = vector(o.gsums);
        const auto c = static_cast<std::size_t>(x.shape.c),
                   area = static_cast<std::size_t>(x.shape.h * x.shape.w);
        const double count = o.sums == none ? 1 : vector(o.sums).back();
        Tensor dx(x.shape);
        for (std::size_t i = 0; i < x.data.size(); ++i) {
            const std::size_t k = i / area % c;
            const double xhat = (x.data[i] - saved[k]) * saved[c + k];
            double d = dz.data[i];
            if (!op.frozen) d -= gsums[k] / count + xhat * gsums[c + k] / count;
            dx.data[i] = gamma[k] * saved[c + k] * d;
        }
        self.write(o.dx, dx);
    }
    void operator()(const graph::MaxPool& op) const {
        const auto o = operands(op, node);
        const MaxPool m = max_pool(read(o.x), op);
        self.write(o.y, m.y);
        if (o.arg != none) self.write(o.arg, m.arg);
    }
    void operator()(const graph::MaxPoolGrad& op) const {
        const auto o = operands(op, node);
        self.write(o.dx, max_pool_grad(read(o.dy), read(o.arg), self.plan_.tensor(o.dx).shape,
                                       {op.kernel, op.stride, op.pad}));
    }
    void operator()(const graph::GlobalAveragePool& op) const {
        const auto o = operands(op, node);
        self.write(o.y, global_average_pool(read(o.x)));
    }
    void operator()(const graph::GlobalAveragePoolGrad& op) const {
        const auto o = operands(op, node);
        self.write(o.dx, global_average_pool_grad(read(o.dy), self.plan_.tensor(o.dx).shape));
    }
    void operator()(const graph::Upsample& op) const {
        const auto o = operands(op, node);
        const Shape& y = self.plan_.tensor(o.y).shape;
        self.write(o.y, upsample(read(o.x), y.h, y.w, op.align_corners));
    }
    void operator()(const graph::UpsampleGrad& op) const {
        const auto o = operands(op, node);
        const Shape& dx = self.plan_.tensor(o.dx).shape;
        self.write(o.dx, upsample_grad(read(o.dy), dx, op.align_corners));
    }
    Tensor dropped(const Tensor& x, float probability, std::uint32_t layer) const {
        std::vector<math::SampleKey> keys;
        for (const math::SampleKey& id : step.samples) keys.push_back({id.epoch, id.sample});
        return dropout(x, probability, layer, self.seed_, keys);
    }
    void operator()(const graph::Dropout& op) const {
        const auto o = operands(op, node);
        self.write(o.y, dropped(read(o.x), op.probability, op.layer));
    }
    void operator()(const graph::DropoutGrad& op) const {
        const auto o = operands(op, node);
        self.write(o.dx, dropped(read(o.dy), op.probability, op.layer));
    }
    void operator()(const graph::Sum& op) const {
        const auto o = operands(op, node);
        self.write(o.y, sum_of(o.x));
    }
    void operator()(const graph::SegmentationLoss& op) const {
        const auto o = operands(op, node);
        const Shape& truth = self.plan_.tensor(o.labels).shape;
        const Values labels = vector(o.labels);
        const Loss loss = segmentation_loss(read(o.logits), {labels.begin(), labels.end()}, truth.h,
                                            truth.w, op);
        self.write_vector(o.loss, {loss.loss});
        if (o.dlogits != none) self.write(o.dlogits, loss.dlogits);
        self.gradient_scale_ = static_cast<double>(op.gradient_scale);
    }
    void operator()(const graph::AllReduce&) const {}  // one rank
    void operator()(const graph::Update&) const {
        if (step.last_micro) self.update(step);
    }
};

void Interpreter::run(const exec::MicroBatch& step, std::size_t nodes) {
    for (std::size_t i = 0; i < nodes; ++i)
        std::visit(Ops{*this, plan_.nodes[i], step}, plan_.nodes[i].op);
}

// A segment covers whole parameters.
void Interpreter::update(const exec::MicroBatch& step) {
    const double factor = step.valid_pixels > 0 ? 1 / (gradient_scale_ * step.valid_pixels) : 0;
    const double clip = static_cast<double>(plan_.update.clip_norm);
    double squares = 0;
    for (const graph::Parameter& p : plan_.parameters)
        for (const double g : value(p.gradient).data) squares += g * factor * g * factor;
    norm_ = std::sqrt(squares);
    const double clipped = clip > 0 ? std::min(1.0, clip / (norm_ + 1e-6)) : 1.0;
    for (std::size_t i = 0; i < plan_.parameters.size(); ++i) {
        const graph::Parameter& p = plan_.parameters[i];
        Tensor values = value(p.value), gradient = value(p.gradient);
        for (double& g : gradient.data) g *= factor * clipped;
        for (const graph::UpdateSegment& s : plan_.update.segments) {
            if (p.offset < s.offset || p.offset >= s.offset + s.count) continue;
            sgd(values.data, momenta_[i], gradient.data,
                step.learning_rate * static_cast<double>(s.lr_multiplier),
                static_cast<double>(plan_.update.momentum), static_cast<double>(s.weight_decay),
                s.steps, plan_.update.accumulate_decay);
        }
        write(p.value, values);
    }
}

}  // namespace deeplab::reference
