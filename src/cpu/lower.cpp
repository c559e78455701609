// Compiling: where tensors lie, and every node as a prepared action.

#include <algorithm>

#include "batch_norm.h"
#include "deeplab/base/error.h"
#include "elementwise.h"
#include "executable.h"
#include "gradient_rows.h"
#include "loss.h"
#include "pooling.h"
#include "resize.h"
#include "update.h"

namespace deeplab::cpu {

CpuExecutable::CpuExecutable(std::shared_ptr<Model> model, const graph::Plan& plan,
                             const exec::Communicators& communicators,
                             const exec::CompileOptions& options)
    : PlanExecutable(plan, communicators, options, {.alignment = 64, .bf16_as_f32 = true}),
      model_(std::move(model)) {
    model_->threads.prepare();
    place_tensors();
    exchanges_.resize(static_cast<std::size_t>(plan_.messages));
    all_reduces_.reserve(plan_.buckets.size());
    keys_.resize(static_cast<std::size_t>(batch_.samples()));
    lower_nodes();
    if (options_.time_nodes) node_seconds_.resize(plan_.nodes.size());
    dying_.resize(plan_.nodes.size());
    for (std::size_t t = 0; t < plan_.tensors.size(); ++t) {
        const graph::Placement& p = placement_.memory.placements[t];
        if (p.last >= 0 && !plan_.tensors[t].keep) {
            dying_[static_cast<std::size_t>(p.last)].push_back(static_cast<graph::TensorId>(t));
        }
    }
    model_->arena.reserve(placement_.memory.arena_bytes);
    model_->scratch.reserve(scratch_bytes_);
}

void CpuExecutable::place_tensors() {
    const exec::BySpace<const Buffer*> buffers{.arena = &model_->arena,
                                               .input = &inputs_,
                                               .parameter = &model_->values,
                                               .gradient = &model_->gradients,
                                               .state = &model_->states,
                                               .exchange = &exchange_,
                                               .result = &results_};
    for (std::size_t t = 0; t < plan_.tensors.size(); ++t) {
        const graph::Tensor& tensor = plan_.tensors[t];
        const exec::TensorPlace& place = placement_.tensors[t];
        views_.push_back(
            {buffers.of(tensor.space), place.offset, tensor.shape, place.pitch, place.type});
    }
    exchange_.reserve(placement_.exchanges);
    inputs_.reserve(placement_.inputs);
    results_.reserve(placement_.results);
}

std::vector<View> CpuExecutable::views(graph::TensorIds ids) const {
    std::vector<View> all;
    for (const graph::TensorId id : ids) all.push_back(view(id));
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

template <class Op>
CpuExecutable::Action CpuExecutable::convolution(Pass pass, const Op& op,
                                                 const graph::ConvolutionOperands& t) {
    ConvolutionTensors tensors{view(t.x),    view(t.w),     view(t.y),
                               view(t.bias), view(t.masks), op.input};
    const DType type = plan_.tensor(t.x).dtype;  // of the activations
    const View weights = tensors.w;
    const bool copied = type == DType::bf16 && pass != Pass::weights;
    if (copied) {
        const std::int64_t bytes = weights.shape.elements() *
                                   static_cast<std::int64_t>(sizeof(float));
        weights_.reserve(std::max(bytes, weights_.bytes()));
        tensors.w.buffer = &weights_;
        tensors.w.offset = 0;
    }
    const std::shared_ptr<Convolution> prepared = make_convolution(
        model_->threads, pass, op.geometry, tensors, model_->scratch);
    need_scratch(prepared->scratch_bytes());
    return [this, prepared, copied, weights, copy = tensors.w] {
        if (copied) round_to_bf16(model_->threads, weights, copy);
        prepared->run(!micro_batch_->first_micro);
    };
}

template <>
CpuExecutable::Action CpuExecutable::lower(const graph::Conv2d& op, const graph::Node& node) {
    return convolution(Pass::forward, op, operands(op, node));
}

template <>
CpuExecutable::Action CpuExecutable::lower(const graph::Conv2dGradData& op,
                                           const graph::Node& node) {
    return convolution(Pass::data, op, operands(op, node));
}

template <>
CpuExecutable::Action CpuExecutable::lower(const graph::Conv2dGradWeights& op,
                                           const graph::Node& node) {
    return convolution(Pass::weights, op, operands(op, node));
}

template <>
CpuExecutable::Action CpuExecutable::lower(const graph::BatchNormSums& op,
                                           const graph::Node& node) {
    const auto ids = operands(op, node);
    const View x = view(ids.x), sums = view(ids.sums);
    need_scratch(batch_norm_scratch_bytes(model_->threads, x.shape.c));
    return [this, x, sums] { batch_norm_sums(model_->threads, x, sums, model_->scratch); };
}

template <>
CpuExecutable::Action CpuExecutable::lower(const graph::ExchangeStart& op,
                                           const graph::Node& node) {
    const graph::TensorIds ids = operands(op, node).message;
    const View first = view(ids.front());
    const auto message = static_cast<std::size_t>(op.message);
    std::int64_t count = 0;
    for (const graph::TensorId id : ids) count += view(id).shape.elements();
    return [this, first, message, count] {
        exchanges_[message] = communicators_.batch_norm->start_all_reduce(
            first.f64(), static_cast<std::size_t>(count), DType::f64, comm::ReduceOp::sum,
            "batch-norm sums");
        ++open_exchanges_;
    };
}

template <>
CpuExecutable::Action CpuExecutable::lower(const graph::ExchangeFinish& op, const graph::Node&) {
    const auto message = static_cast<std::size_t>(op.message);
    return [this, message] {
        --open_exchanges_;
        wait(*communicators_.batch_norm, exchanges_[message]);
    };
}

template <>
CpuExecutable::Action CpuExecutable::lower(const graph::BatchNormAct& op, const graph::Node& node) {
    const auto ids = operands(op, node);
    const BatchNormTensors t{
        .x = view(ids.x),
        .gamma = view(ids.gamma),
        .beta = view(ids.beta),
        .mean = view(ids.mean),
        .variance = view(ids.variance),
        .sums = view(ids.sums),
        .residual = view(ids.residual),
        .y = view(ids.y),
        .saved = view(ids.saved),
    };
    need_scratch(batch_norm_scratch_bytes(model_->threads, t.x.shape.c));
    return [this, op, t] { batch_norm_act(model_->threads, op, t, model_->scratch); };
}

template <>
CpuExecutable::Action CpuExecutable::lower(const graph::BatchNormGradSums& op,
                                           const graph::Node& node) {
    const auto ids = operands(op, node);
    BatchNormGradTensors t;
    t.x = view(ids.x), t.gamma = view(ids.gamma), t.beta = view(ids.beta);
    t.saved = view(ids.saved), t.y = view(ids.y), t.dy = views(ids.dy);
    t.gsums = view(ids.gsums), t.dgamma = view(ids.dgamma), t.dbeta = view(ids.dbeta);
    t.dz = view(ids.dz);
    need_scratch(batch_norm_scratch_bytes(model_->threads, t.x.shape.c));
    return [this, op, t] {
        batch_norm_grad_sums(model_->threads, op, t, !micro_batch_->first_micro, model_->scratch);
    };
}

template <>
CpuExecutable::Action CpuExecutable::lower(const graph::BatchNormActGrad& op,
                                           const graph::Node& node) {
    const auto ids = operands(op, node);
    BatchNormGradTensors t;
    t.x = view(ids.x), t.gamma = view(ids.gamma), t.beta = view(ids.beta);
    t.saved = view(ids.saved), t.gsums = view(ids.gsums), t.sums = view(ids.sums);
    t.dy = views(ids.dy), t.dx = view(ids.dx);
    need_scratch(batch_norm_scratch_bytes(model_->threads, t.x.shape.c));
    return [this, op, t] { batch_norm_act_grad(model_->threads, op, t, model_->scratch); };
}

template <>
CpuExecutable::Action CpuExecutable::lower(const graph::MaxPool& op, const graph::Node& node) {
    const auto ids = operands(op, node);
    const View x = view(ids.x), y = view(ids.y), arg = view(ids.arg);
    need_scratch(pooling_scratch_bytes(model_->threads, x.shape.c));
    return [this, op, x, y, arg] { max_pool(model_->threads, op, x, y, arg, model_->scratch); };
}

template <>
CpuExecutable::Action CpuExecutable::lower(const graph::MaxPoolGrad& op, const graph::Node& node) {
    const auto ids = operands(op, node);
    const View dy = view(ids.dy), arg = view(ids.arg), dx = view(ids.dx);
    return [this, op, dy, arg, dx] { max_pool_grad(model_->threads, op, dy, arg, dx); };
}

template <>
CpuExecutable::Action CpuExecutable::lower(const graph::GlobalAveragePool& op,
                                           const graph::Node& node) {
    const auto ids = operands(op, node);
    const View x = view(ids.x), y = view(ids.y);
    need_scratch(pooling_scratch_bytes(model_->threads, x.shape.c));
    return [this, x, y] { global_average_pool(model_->threads, x, y, model_->scratch); };
}

template <>
CpuExecutable::Action CpuExecutable::lower(const graph::GlobalAveragePoolGrad& op,
                                           const graph::Node& node) {
    const auto ids = operands(op, node);
    const View dy = view(ids.dy), dx = view(ids.dx);
    return [this, dy, dx] { global_average_pool_grad(model_->threads, dy, dx); };
}

template <>
CpuExecutable::Action CpuExecutable::lower(const graph::Upsample& op, const graph::Node& node) {
    const auto ids = operands(op, node);
    const View x = view(ids.x), y = view(ids.y);
    return [this, x, y, rows = Axis(x.shape.h, y.shape.h, op.align_corners),
            columns = Axis(x.shape.w, y.shape.w, op.align_corners)] {
        upsample(model_->threads, rows, columns, x, y);
    };
}

template <>
CpuExecutable::Action CpuExecutable::lower(const graph::UpsampleGrad& op, const graph::Node& node) {
    const auto ids = operands(op, node);
    const View dy = view(ids.dy), dx = view(ids.dx);
    return [this, dy, dx, rows = Axis(dx.shape.h, dy.shape.h, op.align_corners),
            columns = Axis(dx.shape.w, dy.shape.w, op.align_corners)] {
        upsample_grad(model_->threads, rows, columns, dy, dx);
    };
}

CpuExecutable::Action CpuExecutable::dropout(float probability, std::uint32_t layer, const View& x,
                                             const View& y) {
    const DropoutRule rule{options_.seed, probability, layer};
    need_scratch(dropout_scratch_bytes(model_->threads, x.shape));
    return
        [this, rule, x, y] { cpu::dropout(model_->threads, rule, keys_, x, y, model_->scratch); };
}

template <>
CpuExecutable::Action CpuExecutable::lower(const graph::Dropout& op, const graph::Node& node) {
    const auto ids = operands(op, node);
    return dropout(op.probability, op.layer, view(ids.x), view(ids.y));
}

template <>
CpuExecutable::Action CpuExecutable::lower(const graph::DropoutGrad& op, const graph::Node& node) {
    const auto ids = operands(op, node);
    return dropout(op.probability, op.layer, view(ids.dy), view(ids.dx));
}

template <>
CpuExecutable::Action CpuExecutable::lower(const graph::Sum& op, const graph::Node& node) {
    const auto ids = operands(op, node);
    return [this, x = views(ids.x), y = view(ids.y)] { sum(model_->threads, x, y); };
}

template <>
CpuExecutable::Action CpuExecutable::lower(const graph::SegmentationLoss& op,
                                           const graph::Node& node) {
    const auto ids = operands(op, node);
    const View logits = view(ids.logits), labels = view(ids.labels), loss = view(ids.loss),
               dlogits = view(ids.dlogits);
    expects(logits.pitch == logits.shape.c, "logits are a whole tensor");
    gradient_scale_ = static_cast<double>(op.gradient_scale);
    const SegmentationLossKernel kernel(op, logits.shape, labels.shape);
    need_scratch(kernel.scratch_bytes(model_->threads));
    return [this, kernel, logits, labels, loss, dlogits] {
        kernel.run(model_->threads, logits, labels, loss, dlogits, model_->scratch);
    };
}

template <>
CpuExecutable::Action CpuExecutable::lower(const graph::AllReduce& op, const graph::Node&) {
    const graph::Bucket bucket = plan_.buckets[static_cast<std::size_t>(op.bucket)];
    return [this, bucket] {
        if (!micro_batch_->last_micro) return;
        round_gradients(bucket);
        all_reduces_.emplace_back(
            communicators_.gradients->start_all_reduce(
                reinterpret_cast<float*>(model_->gradients.data()) + bucket.offset,
                static_cast<std::size_t>(bucket.count), DType::f32, comm::ReduceOp::sum,
                "gradients"),
            bucket);
        if (!options_.overlap) finish_all_reduces();
    };
}

template <>
CpuExecutable::Action CpuExecutable::lower(const graph::Update&, const graph::Node&) {
    need_scratch(update_scratch_bytes(plan_.parameter_count));
    return [this] {
        if (!micro_batch_->last_micro) return;
        finish_all_reduces();
        const double scale = micro_batch_->valid_pixels > 0
                                 ? 1.0 / (gradient_scale_ * micro_batch_->valid_pixels)
                                 : 0.0;
        const UpdateResult updated = update(
            model_->threads, plan_.update, plan_.parameter_count, micro_batch_->learning_rate,
            scale, reinterpret_cast<float*>(model_->values.data()),
            reinterpret_cast<const float*>(model_->gradients.data()),
            reinterpret_cast<float*>(model_->momenta.data()), model_->scratch);
        result_.finite = updated.finite;
        result_.gradient_norm = updated.norm;
    };
}

void CpuExecutable::lower_nodes() {
    for (const graph::Node& node : plan_.nodes) {
        actions_.push_back(
            rounding(std::visit([&](const auto& op) { return lower(op, node); }, node.op), node));
    }
}

}  // namespace deeplab::cpu
