// Compiling: where tensors lie, and every node as a prepared step.

#include <algorithm>

#include "batch_norm.h"
#include "deeplab/base/error.h"
#include "deeplab/graph/builder.h"
#include "elementwise.h"
#include "executable.h"
#include "gradient_rows.h"
#include "loss.h"
#include "pooling.h"
#include "resize.h"
#include "update.h"

namespace deeplab::cpu {
namespace {

// A bf16 tensor is kept as floats that hold bf16 values.
DType stored_type(const graph::Tensor& t) { return t.dtype == DType::bf16 ? DType::f32 : t.dtype; }

std::int64_t bytes_of(const graph::Tensor& t) {
    return t.shape.elements() * static_cast<std::int64_t>(size_of(stored_type(t)));
}

constexpr std::int64_t align(std::int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

CpuExecutable::CpuExecutable(std::shared_ptr<Model> model, const graph::Plan& plan,
                             const exec::Communicators& communicators,
                             const exec::CompileOptions& options)
    : model_(std::move(model)),
      plan_(plan),
      communicators_(communicators),
      options_(options),
      memory_(graph::plan_memory(plan, bytes_of)) {
    expects(communicators.gradients != nullptr && communicators.batch_norm != nullptr &&
                communicators.gradients != communicators.batch_norm,
            "two distinct communicators");
    graph::validate(plan_);
    model_->threads.prepare();
    place_tensors();
    exchanges_.resize(static_cast<std::size_t>(plan_.messages));
    all_reduces_.reserve(plan_.buckets.size());
    for (const graph::Node& node : plan_.nodes) {
        steps_.push_back(
            rounding(std::visit([&](const auto& op) { return lower(op, node); }, node.op), node));
    }
    if (options_.time_nodes) node_seconds_.resize(plan_.nodes.size());
    dying_.resize(plan_.nodes.size());
    for (std::size_t t = 0; t < memory_.placements.size(); ++t) {
        const graph::Placement& p = memory_.placements[t];
        if (p.last >= 0 && !plan_.tensors[t].keep) {
            dying_[static_cast<std::size_t>(p.last)].push_back(static_cast<graph::TensorId>(t));
        }
    }
    model_->arena.reserve(memory_.arena_bytes);
    model_->scratch.reserve(scratch_bytes_);
}

// The tensors of one message lie side by side, in its order: the exchange needs no packing.
void CpuExecutable::place_exchanges(std::vector<std::int64_t>& offsets) {
    std::int64_t end = 0;
    const auto place = [&](graph::TensorId id) {
        offsets[static_cast<std::size_t>(id)] = end;
        end += bytes_of(plan_.tensor(id));
    };
    const auto placed = [&](graph::TensorId id) {
        return offsets[static_cast<std::size_t>(id)] >= 0;
    };
    for (const graph::Node& node : plan_.nodes) {
        if (!std::holds_alternative<graph::ExchangeStart>(node.op)) continue;
        for (const graph::TensorId id : node.in) {
            expects(!placed(id), "an exchange tensor belongs to one message");
            place(id);
        }
        end = align(end);
    }
    for (std::size_t t = 0; t < plan_.tensors.size(); ++t) {
        const auto id = static_cast<graph::TensorId>(t);
        if (plan_.tensors[t].space == graph::Space::exchange && !placed(id)) {
            place(id);
            end = align(end);
        }
    }
    exchange_.reserve(end);
}

void CpuExecutable::place_tensors() {
    const std::size_t count = plan_.tensors.size();
    std::vector<std::int64_t> offsets(count, -1);  // bytes, outside the arena
    place_exchanges(offsets);
    for (const graph::Parameter& p : plan_.parameters) {
        const std::int64_t offset = p.offset * static_cast<std::int64_t>(sizeof(float));
        offsets[static_cast<std::size_t>(p.value)] = offset;
        if (p.gradient != graph::none) offsets[static_cast<std::size_t>(p.gradient)] = offset;
    }
    for (const graph::State& s : plan_.states) {
        offsets[static_cast<std::size_t>(s.value)] = s.offset *
                                                     static_cast<std::int64_t>(sizeof(float));
    }
    std::int64_t inputs = 0, results = 0;
    views_.resize(count);
    for (std::size_t t = 0; t < count; ++t) {
        const graph::Tensor& tensor = plan_.tensors[t];
        View& v = views_[t];
        v.shape = tensor.shape;
        v.pitch = tensor.shape.c;
        v.dtype = stored_type(tensor);
        v.offset = offsets[t];
        switch (tensor.space) {
            case graph::Space::arena: {
                const graph::TensorId root = plan_.root(static_cast<graph::TensorId>(t));
                std::int64_t channel = 0;
                for (auto id = static_cast<graph::TensorId>(t); id != root;
                     id = plan_.tensor(id).parent) {
                    channel += plan_.tensor(id).channel_offset;
                }
                v.buffer = &model_->arena;
                v.pitch = plan_.tensor(root).shape.c;
                v.offset = memory_.placements[static_cast<std::size_t>(root)].offset +
                           channel * static_cast<std::int64_t>(size_of(v.dtype));
                break;
            }
            case graph::Space::input:
                v.buffer = &inputs_;
                v.offset = inputs;
                inputs += align(bytes_of(tensor));
                (v.dtype == DType::f32 ? image_elements_
                                       : label_elements_) += tensor.shape.elements();
                break;
            case graph::Space::result:
                v.buffer = &results_;
                v.offset = results;
                results += align(bytes_of(tensor));
                break;
            case graph::Space::parameter: v.buffer = &model_->values; break;
            case graph::Space::gradient: v.buffer = &model_->gradients; break;
            case graph::Space::state: v.buffer = &model_->states; break;
            case graph::Space::exchange: v.buffer = &exchange_; break;
        }
        const bool needs_offset = tensor.space == graph::Space::parameter ||
                                  tensor.space == graph::Space::gradient ||
                                  tensor.space == graph::Space::state;
        ensures(!needs_offset || v.offset >= 0,
                "every parameter, gradient and state tensor belongs to one of the plan's");
    }
    inputs_.reserve(inputs);
    results_.reserve(results);
}

std::vector<View> CpuExecutable::views(const graph::Node& node, std::size_t first) const {
    std::vector<View> all;
    for (std::size_t i = first; i < node.in.size(); ++i) all.push_back(view(node.in[i]));
    expects(!all.empty() && all.size() <= GradientRows::limit,
            "one to eight tensors meet in one op");
    return all;
}

void CpuExecutable::need_scratch(std::int64_t bytes) {
    scratch_bytes_ = std::max(scratch_bytes_, bytes);
}

// The action, and then the rounding of what it wrote into bf16 tensors.
CpuExecutable::Action CpuExecutable::rounding(Action action, const graph::Node& node) const {
    std::vector<View> out;
    for (const graph::TensorId id : node.out) {
        if (plan_.tensor(id).dtype == DType::bf16) out.push_back(view(id));
    }
    if (out.empty()) return action;
    return [this, action = std::move(action), out = std::move(out)] {
        action();
        for (const View& v : out) round_to_bf16(model_->threads, v, v);
    };
}

// `type` is that of the activations.
CpuExecutable::Action CpuExecutable::convolution(Pass pass, const graph::ConvGeometry& geometry,
                                                 ConvolutionTensors tensors, DType type) {
    const View weights = tensors.w;
    const bool copied = type == DType::bf16 && pass != Pass::weights;
    if (copied) {
        const std::int64_t bytes = weights.shape.elements() *
                                   static_cast<std::int64_t>(sizeof(float));
        weights_.reserve(std::max(bytes, weights_.bytes()));
        tensors.w.buffer = &weights_;
        tensors.w.offset = 0;
    }
    const std::shared_ptr<Convolution> prepared = make_convolution(model_->threads, pass, geometry,
                                                                   tensors, model_->scratch);
    need_scratch(prepared->scratch_bytes());
    return [this, prepared, copied, weights, copy = tensors.w] {
        if (copied) round_to_bf16(model_->threads, weights, copy);
        prepared->run(!step_->first_micro);
    };
}

CpuExecutable::Action CpuExecutable::lower(const graph::Conv2d& op, const graph::Node& node) {
    return convolution(Pass::forward, op.geometry,
                       {view(node.in[0]), view(node.in[1]), view(node.out[0]),
                        view(node.in.size() > 2 ? node.in[2] : graph::none)},
                       plan_.tensor(node.in[0]).dtype);
}

CpuExecutable::Action CpuExecutable::lower(const graph::Conv2dGradData& op,
                                           const graph::Node& node) {
    return convolution(Pass::data, op.geometry,
                       {view(node.out[0]), view(node.in[1]), view(node.in[0]), {}},
                       plan_.tensor(node.in[0]).dtype);
}

CpuExecutable::Action CpuExecutable::lower(const graph::Conv2dGradWeights& op,
                                           const graph::Node& node) {
    return convolution(Pass::weights, op.geometry,
                       {view(node.in[0]), view(node.out[0]), view(node.in[1]),
                        view(node.out.size() > 1 ? node.out[1] : graph::none)},
                       plan_.tensor(node.in[0]).dtype);
}

CpuExecutable::Action CpuExecutable::lower(const graph::BatchNormSums&, const graph::Node& node) {
    const View x = view(node.in[0]), sums = view(node.out[0]);
    need_scratch(batch_norm_scratch_bytes(model_->threads, x.shape.c));
    return [this, x, sums] { batch_norm_sums(model_->threads, x, sums, model_->scratch); };
}

CpuExecutable::Action CpuExecutable::lower(const graph::ExchangeStart& op,
                                           const graph::Node& node) {
    const View first = view(node.in.front());
    const auto message = static_cast<std::size_t>(op.message);
    std::int64_t count = 0;
    for (const graph::TensorId id : node.in) count += view(id).shape.elements();
    return [this, first, message, count] {
        exchanges_[message] = communicators_.batch_norm->start_all_reduce(
            first.f64(), static_cast<std::size_t>(count), DType::f64, comm::ReduceOp::sum,
            "batch-norm sums");
        ++open_exchanges_;
    };
}

CpuExecutable::Action CpuExecutable::lower(const graph::ExchangeFinish& op, const graph::Node&) {
    const auto message = static_cast<std::size_t>(op.message);
    return [this, message] {
        --open_exchanges_;
        wait(*communicators_.batch_norm, exchanges_[message]);
    };
}

CpuExecutable::Action CpuExecutable::lower(const graph::BatchNormAct& op, const graph::Node& node) {
    BatchNormTensors t;
    t.x = view(node.in[0]), t.gamma = view(node.in[1]), t.beta = view(node.in[2]);
    t.mean = view(node.in[3]), t.variance = view(node.in[4]);
    if (!op.frozen) t.sums = view(node.in[5]);
    if (op.residual) t.residual = view(node.in.back());
    t.y = view(node.out[0]);
    if (node.out.size() > 1) t.saved = view(node.out[1]);
    need_scratch(batch_norm_scratch_bytes(model_->threads, t.x.shape.c));
    return [this, op, t] { batch_norm_act(model_->threads, op, t, model_->scratch); };
}

CpuExecutable::Action CpuExecutable::lower(const graph::BatchNormGradSums& op,
                                           const graph::Node& node) {
    BatchNormGradTensors t;
    t.x = view(node.in[0]), t.gamma = view(node.in[1]), t.beta = view(node.in[2]),
    t.saved = view(node.in[3]);
    if (op.residual) t.y = view(node.in[4]);
    t.dy = views(node, op.residual ? 5 : 4);
    t.gsums = view(node.out[0]), t.dgamma = view(node.out[1]), t.dbeta = view(node.out[2]);
    if (op.residual) t.dz = view(node.out[3]);
    need_scratch(batch_norm_scratch_bytes(model_->threads, t.x.shape.c));
    return [this, op, t] {
        batch_norm_grad_sums(model_->threads, op, t, !step_->first_micro, model_->scratch);
    };
}

CpuExecutable::Action CpuExecutable::lower(const graph::BatchNormActGrad& op,
                                           const graph::Node& node) {
    BatchNormGradTensors t;
    t.x = view(node.in[0]), t.gamma = view(node.in[1]), t.beta = view(node.in[2]),
    t.saved = view(node.in[3]);
    t.gsums = view(node.in[4]);
    if (!op.frozen) t.sums = view(node.in[5]);
    t.dy = views(node, op.frozen ? 5 : 6);
    t.dx = view(node.out[0]);
    need_scratch(batch_norm_scratch_bytes(model_->threads, t.x.shape.c));
    return [this, op, t] { batch_norm_act_grad(model_->threads, op, t, model_->scratch); };
}

CpuExecutable::Action CpuExecutable::lower(const graph::MaxPool& op, const graph::Node& node) {
    const View x = view(node.in[0]), y = view(node.out[0]),
               arg = view(node.out.size() > 1 ? node.out[1] : graph::none);
    need_scratch(pooling_scratch_bytes(model_->threads, x.shape.c));
    return [this, op, x, y, arg] { max_pool(model_->threads, op, x, y, arg, model_->scratch); };
}

CpuExecutable::Action CpuExecutable::lower(const graph::MaxPoolGrad& op, const graph::Node& node) {
    const View dy = view(node.in[0]), arg = view(node.in[1]), dx = view(node.out[0]);
    return [this, op, dy, arg, dx] { max_pool_grad(model_->threads, op, dy, arg, dx); };
}

CpuExecutable::Action CpuExecutable::lower(const graph::GlobalAveragePool&,
                                           const graph::Node& node) {
    const View x = view(node.in[0]), y = view(node.out[0]);
    need_scratch(pooling_scratch_bytes(model_->threads, x.shape.c));
    return [this, x, y] { global_average_pool(model_->threads, x, y, model_->scratch); };
}

CpuExecutable::Action CpuExecutable::lower(const graph::GlobalAveragePoolGrad&,
                                           const graph::Node& node) {
    const View dy = view(node.in[0]), dx = view(node.out[0]);
    return [this, dy, dx] { global_average_pool_grad(model_->threads, dy, dx); };
}

CpuExecutable::Action CpuExecutable::lower(const graph::Upsample&, const graph::Node& node) {
    const View x = view(node.in[0]), y = view(node.out[0]);
    return [this, x, y, rows = Axis(x.shape.h, y.shape.h), columns = Axis(x.shape.w, y.shape.w)] {
        upsample(model_->threads, rows, columns, x, y);
    };
}

CpuExecutable::Action CpuExecutable::lower(const graph::UpsampleGrad&, const graph::Node& node) {
    const View dy = view(node.in[0]), dx = view(node.out[0]);
    return [this, dy, dx, rows = Axis(dx.shape.h, dy.shape.h),
            columns = Axis(dx.shape.w, dy.shape.w)] {
        upsample_grad(model_->threads, rows, columns, dy, dx);
    };
}

CpuExecutable::Action CpuExecutable::dropout(float probability, std::uint32_t layer,
                                             const graph::Node& node) {
    const View x = view(node.in[0]), y = view(node.out[0]);
    const DropoutRule rule{options_.seed, probability, layer};
    expects(dropout_samples_ == 0 || dropout_samples_ == x.shape.n,
            "all dropouts of a plan have its batch");
    dropout_samples_ = x.shape.n;
    keys_.resize(static_cast<std::size_t>(x.shape.n));
    need_scratch(dropout_scratch_bytes(model_->threads, x.shape));
    return
        [this, rule, x, y] { cpu::dropout(model_->threads, rule, keys_, x, y, model_->scratch); };
}

CpuExecutable::Action CpuExecutable::lower(const graph::Dropout& op, const graph::Node& node) {
    return dropout(op.probability, op.layer, node);
}

CpuExecutable::Action CpuExecutable::lower(const graph::DropoutGrad& op, const graph::Node& node) {
    return dropout(op.probability, op.layer, node);
}

CpuExecutable::Action CpuExecutable::lower(const graph::Sum&, const graph::Node& node) {
    return [this, in = views(node, 0), out = view(node.out[0])] { sum(model_->threads, in, out); };
}

CpuExecutable::Action CpuExecutable::lower(const graph::SegmentationLoss& op,
                                           const graph::Node& node) {
    const View logits = view(node.in[0]), labels = view(node.in[1]), loss = view(node.out[0]);
    const View dlogits = view(node.out.size() > 1 ? node.out[1] : graph::none);
    expects(logits.pitch == logits.shape.c, "logits are a whole tensor");
    ignore_ = op.ignore;
    classes_ = logits.shape.c;
    label_pixels_ = labels.shape.h * labels.shape.w;
    gradient_scale_ = static_cast<double>(op.gradient_scale);
    const SegmentationLossKernel kernel(op, logits.shape, labels.shape);
    need_scratch(kernel.scratch_bytes(model_->threads));
    return [this, kernel, logits, labels, loss, dlogits] {
        kernel.run(model_->threads, logits, labels, loss, dlogits, model_->scratch);
    };
}

CpuExecutable::Action CpuExecutable::lower(const graph::AllReduce& op, const graph::Node&) {
    const graph::Bucket bucket = plan_.buckets[static_cast<std::size_t>(op.bucket)];
    return [this, bucket] {
        if (!step_->last_micro) return;
        round_traffic(bucket);
        all_reduces_.emplace_back(
            communicators_.gradients->start_all_reduce(
                reinterpret_cast<float*>(model_->gradients.data()) + bucket.offset,
                static_cast<std::size_t>(bucket.count), DType::f32, comm::ReduceOp::sum,
                "gradients"),
            bucket);
        if (!options_.overlap) finish_all_reduces();
    };
}

CpuExecutable::Action CpuExecutable::lower(const graph::Update&, const graph::Node&) {
    need_scratch(update_scratch_bytes(plan_.parameter_count));
    return [this] {
        if (!step_->last_micro) return;
        finish_all_reduces();
        const double scale = step_->valid_pixels > 0 ? 1.0 / (gradient_scale_ * step_->valid_pixels)
                                                     : 0.0;
        const UpdateResult updated = update(
            model_->threads, plan_.update, plan_.parameter_count, step_->learning_rate, scale,
            reinterpret_cast<float*>(model_->values.data()),
            reinterpret_cast<const float*>(model_->gradients.data()),
            reinterpret_cast<float*>(model_->momenta.data()), model_->scratch);
        result_.finite = updated.finite;
        result_.gradient_norm = updated.norm;
    };
}

}  // namespace deeplab::cpu
