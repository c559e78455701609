// Compiling a plan: where its tensors lie, and what each node enqueues.

#include "batch_norm.h"
#include "bias.h"
#include "deeplab/base/text.h"
#include "elementwise.h"
#include "executable.h"
#include "layout.h"
#include "loss.h"
#include "pooling.h"
#include "resize.h"

namespace deeplab::cuda {
namespace {

// What vector accesses and cuDNN want.
constexpr exec::Storage storage{.alignment = 256};
std::size_t size(std::int64_t bytes) { return static_cast<std::size_t>(bytes); }

}  // namespace

CudaExecutable::CudaExecutable(std::shared_ptr<Model> model, const graph::Plan& plan,
                               const exec::Communicators& communicators,
                               const exec::CompileOptions& options)
    : PlanExecutable(plan, communicators, options, storage), model_(std::move(model)) {
    for (const graph::Tensor& t : plan_.tensors) {
        needs_bf16_ = needs_bf16_ || t.dtype == DType::bf16;
    }
    if (needs_bf16_ && model_->bf16.bytes() == 0)
        model_->bf16 = DeviceBuffer(size(2 * model_->parameter_count), "bf16 weights");
    capturable_ = options_.cuda_graph && !options_.time_nodes;
    open_channels();
    if (options_.time_nodes) {
        for (std::size_t i = 0; i <= plan_.nodes.size(); ++i)
            node_events_.push_back(std::make_unique<Event>());
    }
    if (options_.tune)
        model_->engines.tuned([this] { build(); });
    else
        build();
}

// Again after memory that plans share has moved: the launches hold addresses. What takes long, the
// choice of engines, is kept.
void CudaExecutable::build() {
    destroy_graphs();
    runs_ = {};
    scratch_ = {};  // until all is made: what throws leaves a plan that is to be made again
    const bool with_sums = gradients_ || batch_norm_;
    arena_ = model_->arena.take(placement_.memory.arena_bytes, with_sums);
    allocate_buffers();
    place_tensors();
    if (plan_.images != graph::none && plan_.labels != graph::none)
        need_scratch(augment_scratch_bytes(plan_.tensor(plan_.images).shape));
    lower_nodes();
    scratch_ = model_->scratch.take(scratch_bytes_, with_sums);
}

void CudaExecutable::place_tensors() {
    const exec::BySpace<void*> buffers{.arena = arena_.data(),
                                       .input = inputs_.data(),
                                       .parameter = model_->values.data(),
                                       .gradient = model_->gradients.data(),
                                       .state = model_->states.data(),
                                       .exchange = exchange_.data(),
                                       .result = results_.data()};
    views_.clear();
    for (std::size_t t = 0; t < plan_.tensors.size(); ++t) {
        const graph::Tensor& tensor = plan_.tensors[t];
        const exec::TensorPlace& place = placement_.tensors[t];
        void* const data = place.offset < 0
                               ? nullptr
                               : static_cast<char*>(buffers.of(tensor.space)) + place.offset;
        views_.push_back({tensor.shape, place.pitch, place.type, data});
    }
}

// The plan's own buffers, and what goes to and fro each run, as the header says.
void CudaExecutable::allocate_buffers() {
    if (received_.bytes() > 0) return;
    keys_at_ = storage.align(sizeof(StepScalars));
    sources_at_ = storage.align(keys_at_ + batch_.samples() *
                                               static_cast<std::int64_t>(sizeof(math::SampleKey)));
    const std::int64_t batch = plan_.images == graph::none ? 0 : plan_.tensor(plan_.images).shape.n;
    received_ = DeviceBuffer(
        size(storage.align(sources_at_ + batch * static_cast<std::int64_t>(sizeof(CropSource)))),
        "a micro-batch's scalars");
    sent_ = PinnedBuffer(received_.bytes(), "a micro-batch's scalars on the host");
    inputs_ = DeviceBuffer(size(placement_.inputs), "inputs");
    exchange_ = DeviceBuffer(size(placement_.exchanges), "batch-norm sums");
    outcome_at_ = placement_.results;
    waits_at_ = outcome_at_ + storage.align(sizeof(UpdateOutcome));
    const auto waits = std::count_if(
        plan_.nodes.begin(), plan_.nodes.end(), [](const graph::Node& node) {
            return std::holds_alternative<graph::ExchangeStart>(node.op) ||
                   std::holds_alternative<graph::AllReduce>(node.op);
        });
    results_ = DeviceBuffer(size(waits_at_) + static_cast<std::size_t>(waits) * sizeof(Wait),
                            "results");
    answered_ = PinnedBuffer(results_.bytes(), "results on the host");
}

std::vector<View> CudaExecutable::views(graph::TensorIds ids) const {
    std::vector<View> all;
    for (const graph::TensorId id : ids) all.push_back(view(id));
    return all;
}

// What a convolution of activations of this type reads as its weights or bias: the parameter
// itself, or its bf16 copy.
void* CudaExecutable::parameter(graph::TensorId id, DType type) const {
    const View v = view(id);
    if (!v || type != DType::bf16) return v.data;
    const std::int64_t offset = v.as<float>() - model_->values.as<float>();
    return static_cast<char*>(model_->bf16.data()) + 2 * offset;
}

// What a depthwise convolution's kernels read and write; nothing where there are none for it. The
// weights come in the activations' type, their gradient goes straight into the flat f32 one.
template <class Op>
std::optional<DepthwiseTensors> CudaExecutable::depthwise_tensors(
    const Op& op, const graph::ConvolutionOperands& t) const {
    const Shape& w = plan_.tensor(t.w).shape;
    if (!has_depthwise_kernels(op.geometry, w, t.bias != graph::none)) {
        if (op.input == math::Activation::none) return std::nullopt;
        throw DeviceError(cat("a depthwise convolution of ", w.h, "x", w.w,
                              " taps that activates its input — the GPU's kernels take up to 81 "
                              "taps — use a smaller window, or train on the CPU"));
    }
    DepthwiseTensors d{view(t.x), view(t.w), view(t.y), view(t.masks)};
    if (std::is_same_v<Op, graph::Conv2dGradWeights>) return d;
    d.w.type = d.x.type;
    d.w.data = parameter(t.w, d.x.type);
    return d;
}

ConvolutionProblem CudaExecutable::problem(Pass pass, const graph::ConvGeometry& geometry,
                                           const graph::ConvolutionOperands& t) const {
    ConvolutionProblem p;
    p.pass = pass;
    p.geometry = geometry;
    p.x = plan_.tensor(t.x).shape, p.w = plan_.tensor(t.w).shape, p.y = plan_.tensor(t.y).shape;
    p.x_pitch = view(t.x).pitch, p.y_pitch = view(t.y).pitch;
    p.in = p.out = view(t.x).type;
    p.tf32 = model_->options.tf32 && p.in == DType::f32;
    p.deterministic = options_.deterministic;
    return p;
}

const Convolution& CudaExecutable::convolution(const ConvolutionProblem& wanted) {
    const auto known = std::find_if(convolutions_.begin(), convolutions_.end(),
                                    [&](const auto& entry) { return entry.first == wanted; });
    if (known != convolutions_.end()) return *known->second;
    convolutions_.emplace_back(wanted, std::make_unique<Convolution>(
                                           wanted, model_->cudnn, model_->target, model_->engines));
    return *convolutions_.back().second;
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::Conv2d& op, const graph::Node& node) {
    const auto ids = operands(op, node);
    if (const auto own = depthwise_tensors(op, ids))
        return [this, op, t = *own] { depthwise(model_->stream.get(), op, t); };
    ConvolutionProblem p = problem(Pass::forward, op.geometry, ids);
    p.bias = ids.bias != graph::none;
    const Convolution& c = convolution(p);
    need_scratch(c.workspace_bytes());
    return [this, &c, x = view(ids.x).data, w = parameter(ids.w, p.in), y = view(ids.y).data,
            bias = parameter(ids.bias, p.in)] {
        c.run(model_->cudnn, {x, w, y, bias, workspace()});
    };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::Conv2dGradData& op,
                                             const graph::Node& node) {
    const auto ids = operands(op, node);
    if (const auto own = depthwise_tensors(op, ids))
        return [this, op, t = *own] { depthwise_grad_data(model_->stream.get(), op, t); };
    const ConvolutionProblem p = problem(Pass::data, op.geometry, ids);
    const Convolution& c = convolution(p);
    need_scratch(c.workspace_bytes());
    return [this, &c, x = view(ids.x).data, w = parameter(ids.w, p.in), y = view(ids.y).data] {
        c.run(model_->cudnn, {x, w, y, nullptr, workspace()});
    };
}

// cuDNN's gradient comes in the activations' type, at the start of the scratch memory; the
// workspace follows it.
template <>
CudaExecutable::Action CudaExecutable::lower(const graph::Conv2dGradWeights& op,
                                             const graph::Node& node) {
    const auto ids = operands(op, node);
    if (const auto own = depthwise_tensors(op, ids)) {
        need_scratch(depthwise_grad_weights_scratch_bytes(own->y.shape, own->w.shape, own->x.type));
        return [this, op, t = *own] {
            cudaStream_t stream = model_->stream.get();
            depthwise_grad_weights(stream, op, t, !first_micro_, scratch(stream));
        };
    }
    const ConvolutionProblem p = problem(Pass::weights, op.geometry, ids);
    const Convolution& c = convolution(p);
    const std::int64_t count = p.w.elements(),
                       own = storage.align(count * static_cast<std::int64_t>(size_of(p.out)));
    need_scratch(own + c.workspace_bytes());
    const View dy = view(ids.y), dbias = view(ids.bias);
    if (dbias) need_scratch(bias_grad_scratch_bytes(dy.shape, dy.type));
    return [this, &c, own, count, type = p.out, x = view(ids.x).data, dy, dbias,
            dw = view(ids.w).as<float>()] {
        char* given = workspace();
        c.run(model_->cudnn, {x, given, dy.data, nullptr, given + own});
        cudaStream_t stream = model_->stream.get();
        accumulate(stream, type, given, dw, count, !first_micro_);
        if (dbias) bias_grad(stream, dy, dbias, !first_micro_, scratch(stream));
    };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::BatchNormSums& op,
                                             const graph::Node& node) {
    const auto ids = operands(op, node);
    const View x = view(ids.x), sums = view(ids.sums);
    need_scratch(batch_norm_scratch_bytes(x.shape, x.type));
    return [this, x, sums] {
        cudaStream_t stream = model_->stream.get();
        batch_norm_sums(stream, x, sums, scratch(stream));
    };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::BatchNormAct& op,
                                             const graph::Node& node) {
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
    return [this, op, t] { batch_norm_act(model_->stream.get(), op, t); };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::BatchNormGradSums& op,
                                             const graph::Node& node) {
    const auto ids = operands(op, node);
    BatchNormGradTensors t;
    t.x = view(ids.x), t.gamma = view(ids.gamma), t.beta = view(ids.beta);
    t.saved = view(ids.saved), t.y = view(ids.y), t.dy = views(ids.dy);
    t.gsums = view(ids.gsums), t.dgamma = view(ids.dgamma), t.dbeta = view(ids.dbeta);
    t.dz = view(ids.dz);
    need_scratch(batch_norm_scratch_bytes(t.x.shape, t.x.type));
    return [this, op, t] {
        cudaStream_t stream = model_->stream.get();
        batch_norm_grad_sums(stream, op, t, !first_micro_, scratch(stream));
    };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::BatchNormActGrad& op,
                                             const graph::Node& node) {
    const auto ids = operands(op, node);
    BatchNormGradTensors t;
    t.x = view(ids.x), t.gamma = view(ids.gamma), t.beta = view(ids.beta);
    t.saved = view(ids.saved), t.gsums = view(ids.gsums), t.sums = view(ids.sums);
    t.dy = views(ids.dy), t.dx = view(ids.dx);
    return [this, op, t] { batch_norm_act_grad(model_->stream.get(), op, t); };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::MaxPool& op, const graph::Node& node) {
    const auto ids = operands(op, node);
    return [this, op, x = view(ids.x), y = view(ids.y), arg = view(ids.arg)] {
        max_pool(model_->stream.get(), op, x, y, arg);
    };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::MaxPoolGrad& op,
                                             const graph::Node& node) {
    const auto ids = operands(op, node);
    return [this, op, dy = view(ids.dy), arg = view(ids.arg), dx = view(ids.dx)] {
        max_pool_grad(model_->stream.get(), op, dy, arg, dx);
    };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::GlobalAveragePool& op,
                                             const graph::Node& node) {
    const auto ids = operands(op, node);
    return [this, x = view(ids.x), y = view(ids.y)] {
        global_average_pool(model_->stream.get(), x, y);
    };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::GlobalAveragePoolGrad& op,
                                             const graph::Node& node) {
    const auto ids = operands(op, node);
    return [this, dy = view(ids.dy), dx = view(ids.dx)] {
        global_average_pool_grad(model_->stream.get(), dy, dx);
    };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::Upsample& op, const graph::Node& node) {
    const auto ids = operands(op, node);
    return
        [this, op, x = view(ids.x), y = view(ids.y)] { upsample(model_->stream.get(), op, x, y); };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::UpsampleGrad& op,
                                             const graph::Node& node) {
    const auto ids = operands(op, node);
    return [this, op, dy = view(ids.dy), dx = view(ids.dx)] {
        upsample_grad(model_->stream.get(), op, dy, dx);
    };
}

CudaExecutable::Action CudaExecutable::dropout(float probability, std::uint32_t layer,
                                               const View& x, const View& y) {
    const auto* keys = reinterpret_cast<const math::SampleKey*>(received_.as<char>() + keys_at_);
    const DropoutRule rule{options_.seed, probability, layer};
    return [this, rule, keys, x, y] { cuda::dropout(model_->stream.get(), rule, keys, x, y); };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::Dropout& op, const graph::Node& node) {
    const auto ids = operands(op, node);
    return dropout(op.probability, op.layer, view(ids.x), view(ids.y));
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::DropoutGrad& op,
                                             const graph::Node& node) {
    const auto ids = operands(op, node);
    return dropout(op.probability, op.layer, view(ids.dy), view(ids.dx));
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::Sum& op, const graph::Node& node) {
    const auto ids = operands(op, node);
    return [this, x = views(ids.x), y = view(ids.y)] { sum(model_->stream.get(), x, y); };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::SegmentationLoss& op,
                                             const graph::Node& node) {
    const auto ids = operands(op, node);
    const View logits = view(ids.logits), labels = view(ids.labels), loss = view(ids.loss),
               dlogits = view(ids.dlogits);
    gradient_scale_ = static_cast<double>(op.gradient_scale);
    need_scratch(segmentation_loss_scratch_bytes(op, logits.shape, labels.shape));
    return [this, op, logits, labels, loss, dlogits] {
        cudaStream_t stream = model_->stream.get();
        segmentation_loss(stream, op, logits, labels, loss, dlogits, scratch(stream));
    };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::Update&, const graph::Node&) {
    const std::vector<UpdatePiece> pieces = update_pieces(plan_.update);
    if (pieces_.bytes() == 0) {
        pieces_ = DeviceBuffer(pieces.size() * sizeof(UpdatePiece), "the optimizer's pieces");
        cuda::check(cudaMemcpyAsync(pieces_.data(), pieces.data(), pieces_.bytes(),
                                    cudaMemcpyDefault, model_->stream.get()),
                    "the optimizer's pieces");
        model_->stream.synchronize();  // the host's copy goes away
    }
    need_scratch(gradient_norm_scratch_bytes());
    updates_ = true;
    return [this, count = static_cast<std::int64_t>(pieces.size())] {
        if (!last_micro_) return;
        finish_all_reduces();
        cudaStream_t stream = model_->stream.get();
        const auto* step = received_.as<StepScalars>();
        auto* outcome = reinterpret_cast<UpdateOutcome*>(results_.as<char>() + outcome_at_);
        gradient_norm(stream, model_->gradients.as<float>(), model_->parameter_count,
                      gradient_scale_, plan_.update.clip_norm, step, outcome, scratch(stream));
        sgd(stream,
            {model_->values.as<float>(), model_->gradients.as<float>(), model_->momenta.as<float>(),
             needs_bf16_ ? model_->bf16.data() : nullptr},
            pieces_.as<UpdatePiece>(), count, plan_.update.momentum, step, outcome);
    };
}

void CudaExecutable::lower_nodes() {
    actions_.clear();
    for (const graph::Node& node : plan_.nodes)
        actions_.push_back(std::visit([&](const auto& op) { return lower(op, node); }, node.op));
}

}  // namespace deeplab::cuda
