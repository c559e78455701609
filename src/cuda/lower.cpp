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
    : model_(std::move(model)),
      plan_(exec::checked(plan, communicators)),
      communicators_(communicators),
      options_(options),
      placement_(exec::place_tensors(plan_, storage)),
      batch_(plan_) {
    for (const graph::Tensor& t : plan_.tensors) {
        needs_bf16_ = needs_bf16_ || t.dtype == DType::bf16;
    }
    if (needs_bf16_ && model_->bf16.bytes() == 0)
        model_->bf16 = DeviceBuffer(size(2 * model_->parameter_count), "bf16 weights");
    capturable_ = options_.graph && !options_.time_nodes;
    open_traffic();
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
        "a step's scalars");
    sent_ = PinnedBuffer(received_.bytes(), "a step's scalars on the host");
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

std::vector<View> CudaExecutable::views(const graph::Node& node, std::size_t first) const {
    std::vector<View> all;
    for (std::size_t i = first; i < node.in.size(); ++i) all.push_back(view(node.in[i]));
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

ConvolutionProblem CudaExecutable::problem(Pass pass, const graph::ConvGeometry& geometry,
                                           graph::TensorId x, graph::TensorId w,
                                           graph::TensorId y) const {
    ConvolutionProblem p;
    p.pass = pass;
    p.geometry = geometry;
    p.x = plan_.tensor(x).shape, p.w = plan_.tensor(w).shape, p.y = plan_.tensor(y).shape;
    p.x_pitch = view(x).pitch, p.y_pitch = view(y).pitch;
    p.in = p.out = view(x).type;
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
    ConvolutionProblem p = problem(Pass::forward, op.geometry, node.in[0], node.in[1], node.out[0]);
    p.bias = node.in.size() > 2;
    const Convolution& c = convolution(p);
    need_scratch(c.workspace_bytes());
    return [this, &c, x = view(node.in[0]).data, w = parameter(node.in[1], p.in),
            y = view(node.out[0]).data, bias = parameter(p.bias ? node.in[2] : graph::none, p.in)] {
        c.run(model_->cudnn, {x, w, y, bias, workspace()});
    };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::Conv2dGradData& op,
                                             const graph::Node& node) {
    const ConvolutionProblem p = problem(Pass::data, op.geometry, node.out[0], node.in[1],
                                         node.in[0]);
    const Convolution& c = convolution(p);
    need_scratch(c.workspace_bytes());
    return [this, &c, x = view(node.out[0]).data, w = parameter(node.in[1], p.in),
            y = view(node.in[0]).data] {
        c.run(model_->cudnn, {x, w, y, nullptr, workspace()});
    };
}

// The gradient comes in the activations' type, at the start of the scratch memory; the workspace
// follows it.
template <>
CudaExecutable::Action CudaExecutable::lower(const graph::Conv2dGradWeights& op,
                                             const graph::Node& node) {
    const ConvolutionProblem p = problem(Pass::weights, op.geometry, node.in[0], node.out[0],
                                         node.in[1]);
    const Convolution& c = convolution(p);
    const std::int64_t count = p.w.elements(),
                       own = storage.align(count * static_cast<std::int64_t>(size_of(p.out)));
    need_scratch(own + c.workspace_bytes());
    const View dy = view(node.in[1]), dbias = view(node.out.size() > 1 ? node.out[1] : graph::none);
    if (dbias) need_scratch(bias_grad_scratch_bytes(dy.shape, dy.type));
    return [this, &c, own, count, type = p.out, x = view(node.in[0]).data, dy, dbias,
            dw = view(node.out[0]).as<float>()] {
        char* given = workspace();
        c.run(model_->cudnn, {x, given, dy.data, nullptr, given + own});
        cudaStream_t stream = model_->stream.get();
        accumulate(stream, type, given, dw, count, !first_micro_);
        if (dbias) bias_grad(stream, dy, dbias, !first_micro_, scratch(stream));
    };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::BatchNormSums&, const graph::Node& node) {
    const View x = view(node.in[0]), sums = view(node.out[0]);
    need_scratch(batch_norm_scratch_bytes(x.shape, x.type));
    return [this, x, sums] {
        cudaStream_t stream = model_->stream.get();
        batch_norm_sums(stream, x, sums, scratch(stream));
    };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::BatchNormAct& op,
                                             const graph::Node& node) {
    BatchNormTensors t;
    t.x = view(node.in[0]), t.gamma = view(node.in[1]), t.beta = view(node.in[2]);
    t.mean = view(node.in[3]), t.variance = view(node.in[4]);
    if (!op.frozen) t.sums = view(node.in[5]);
    if (op.residual) t.residual = view(node.in.back());
    t.y = view(node.out[0]);
    if (node.out.size() > 1) t.saved = view(node.out[1]);
    return [this, op, t] { batch_norm_act(model_->stream.get(), op, t); };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::BatchNormGradSums& op,
                                             const graph::Node& node) {
    BatchNormGradTensors t;
    t.x = view(node.in[0]), t.gamma = view(node.in[1]), t.beta = view(node.in[2]);
    t.saved = view(node.in[3]);
    if (op.residual) t.y = view(node.in[4]);
    t.dy = views(node, op.residual ? 5 : 4);
    t.gsums = view(node.out[0]), t.dgamma = view(node.out[1]), t.dbeta = view(node.out[2]);
    if (op.residual) t.dz = view(node.out[3]);
    need_scratch(batch_norm_scratch_bytes(t.x.shape, t.x.type));
    return [this, op, t] {
        cudaStream_t stream = model_->stream.get();
        batch_norm_grad_sums(stream, op, t, !first_micro_, scratch(stream));
    };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::BatchNormActGrad& op,
                                             const graph::Node& node) {
    BatchNormGradTensors t;
    t.x = view(node.in[0]), t.gamma = view(node.in[1]), t.beta = view(node.in[2]);
    t.saved = view(node.in[3]);
    t.gsums = view(node.in[4]);
    if (!op.frozen) t.sums = view(node.in[5]);
    t.dy = views(node, op.frozen ? 5 : 6);
    t.dx = view(node.out[0]);
    return [this, op, t] { batch_norm_act_grad(model_->stream.get(), op, t); };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::MaxPool& op, const graph::Node& node) {
    return [this, op, x = view(node.in[0]), y = view(node.out[0]),
            arg = view(node.out.size() > 1 ? node.out[1] : graph::none)] {
        max_pool(model_->stream.get(), op, x, y, arg);
    };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::MaxPoolGrad& op,
                                             const graph::Node& node) {
    return [this, op, dy = view(node.in[0]), arg = view(node.in[1]), dx = view(node.out[0])] {
        max_pool_grad(model_->stream.get(), op, dy, arg, dx);
    };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::GlobalAveragePool&,
                                             const graph::Node& node) {
    return [this, x = view(node.in[0]), y = view(node.out[0])] {
        global_average_pool(model_->stream.get(), x, y);
    };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::GlobalAveragePoolGrad&,
                                             const graph::Node& node) {
    return [this, dy = view(node.in[0]), dx = view(node.out[0])] {
        global_average_pool_grad(model_->stream.get(), dy, dx);
    };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::Upsample&, const graph::Node& node) {
    return [this, x = view(node.in[0]), y = view(node.out[0])] {
        upsample(model_->stream.get(), x, y);
    };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::UpsampleGrad&, const graph::Node& node) {
    return [this, dy = view(node.in[0]), dx = view(node.out[0])] {
        upsample_grad(model_->stream.get(), dy, dx);
    };
}

CudaExecutable::Action CudaExecutable::dropout(float probability, std::uint32_t layer,
                                               const graph::Node& node) {
    const auto* keys = reinterpret_cast<const math::SampleKey*>(received_.as<char>() + keys_at_);
    const DropoutRule rule{options_.seed, probability, layer};
    return [this, rule, keys, x = view(node.in[0]), y = view(node.out[0])] {
        cuda::dropout(model_->stream.get(), rule, keys, x, y);
    };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::Dropout& op, const graph::Node& node) {
    return dropout(op.probability, op.layer, node);
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::DropoutGrad& op,
                                             const graph::Node& node) {
    return dropout(op.probability, op.layer, node);
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::Sum&, const graph::Node& node) {
    return [this, in = views(node, 0), out = view(node.out[0])] {
        sum(model_->stream.get(), in, out);
    };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::SegmentationLoss& op,
                                             const graph::Node& node) {
    const View logits = view(node.in[0]), labels = view(node.in[1]), loss = view(node.out[0]);
    const View dlogits = view(node.out.size() > 1 ? node.out[1] : graph::none);
    gradient_scale_ = static_cast<double>(op.gradient_scale);
    need_scratch(segmentation_loss_scratch_bytes(logits.shape, labels.shape));
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
    steps_.clear();
    for (const graph::Node& node : plan_.nodes)
        steps_.push_back(std::visit([&](const auto& op) { return lower(op, node); }, node.op));
}

}  // namespace deeplab::cuda
