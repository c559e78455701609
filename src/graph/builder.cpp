#include "deeplab/graph/builder.h"

#include <algorithm>
#include <cmath>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"

namespace deeplab::graph {
namespace {

// Parameters start at multiples of this many elements, so that vector loads of any backend are
// aligned.
constexpr std::int64_t parameter_alignment = 32;

std::int64_t align(std::int64_t value) {
    return (value + parameter_alignment - 1) / parameter_alignment * parameter_alignment;
}

std::int64_t convolved(std::int64_t size, std::int64_t kernel, const ConvGeometry& g) {
    const std::int64_t span = g.dilation * (kernel - 1) + 1;
    expects(size + 2 * g.pad >= span, "a convolution's kernel fits its padded input");
    return (size + 2 * g.pad - span) / g.stride + 1;
}

}  // namespace

TensorId Builder::add(Tensor tensor) {
    plan_.tensors.push_back(std::move(tensor));
    return static_cast<TensorId>(plan_.tensors.size() - 1);
}

void Builder::emit(Op op, std::vector<TensorId> in, std::vector<TensorId> out) {
    plan_.nodes.push_back(Node{op, std::move(in), std::move(out)});
}

TensorId Builder::output(const std::string& name, const Shape& shape, TensorId into,
                         std::int64_t channel_offset) {
    Tensor t{.name = name, .shape = shape};
    if (into != none) {
        const Shape& p = this->shape(into);
        expects(
            p.n == shape.n && p.h == shape.h && p.w == shape.w && channel_offset + shape.c <= p.c,
            "a slice fits its concatenation");
        t.parent = into;
        t.channel_offset = channel_offset;
    }
    return add(std::move(t));
}

TensorId Builder::parameter(const std::string& name, const Shape& shape, ParameterKind kind) {
    Parameter p{.name = name, .shape = shape, .kind = kind};
    p.value = add({.name = name, .shape = shape, .space = Space::parameter});
    if (mode_ != Mode::inference)
        p.gradient = add({.name = "d " + name, .shape = shape, .space = Space::gradient});
    plan_.parameters.push_back(p);
    return p.value;
}

TensorId Builder::state(const std::string& name, std::int64_t channels, float initial) {
    const Shape shape{1, channels, 1, 1};
    const TensorId value = add({.name = name, .shape = shape, .space = Space::state});
    plan_.states.push_back({.name = name,
                            .shape = shape,
                            .offset = plan_.state_count,
                            .initial = initial,
                            .value = value});
    plan_.state_count += align(channels);
    return value;
}

TensorId Builder::images(const Shape& shape) {
    return plan_.images = add({.name = "images", .shape = shape, .space = Space::input});
}

TensorId Builder::labels(const Shape& shape) {
    return plan_.labels = add(
               {.name = "labels", .shape = shape, .dtype = DType::u8, .space = Space::input});
}

TensorId Builder::conv2d(TensorId x, const std::string& name, std::int64_t out_channels,
                         std::int64_t kernel, const ConvGeometry& geometry, bool bias,
                         Activation input) {
    const Shape s = shape(x);
    expects(s.c % geometry.groups == 0 && out_channels % geometry.groups == 0,
            "groups divide a convolution's channels");
    const TensorId w = parameter(name + ".weight",
                                 {out_channels, s.c / geometry.groups, kernel, kernel},
                                 ParameterKind::conv_weight);
    std::vector<TensorId> in = {x, w};
    if (bias) in.push_back(parameter(name + ".bias", {1, out_channels, 1, 1}, ParameterKind::bias));
    const TensorId y = add({.name = name + ".y",
                            .shape = {s.n, out_channels, convolved(s.h, kernel, geometry),
                                      convolved(s.w, kernel, geometry)}});
    emit(Conv2d{geometry, input}, std::move(in), {y});
    return y;
}

std::vector<TensorId> Builder::batch_norm_act(std::span<const Norm> group) {
    struct Member {
        std::vector<TensorId> in;  // of the BatchNormAct: parameters, states, sums
        TensorId sums = none;
    };
    const bool exchanged = mode_ == Mode::training;
    std::vector<Member> members;
    std::vector<TensorId> message;
    for (const Norm& norm : group) {
        const std::int64_t c = shape(norm.x).c;
        Member m;
        m.in = {norm.x, parameter(norm.name + ".weight", {1, c, 1, 1}, ParameterKind::bn_gamma),
                parameter(norm.name + ".bias", {1, c, 1, 1}, ParameterKind::bn_beta),
                state(norm.name + ".running_mean", c, 0.0f),
                state(norm.name + ".running_var", c, 1.0f)};
        if (exchanged) {
            m.sums = add({.name = norm.name + ".sums",
                          .shape = {1, 2 * c + 1, 1, 1},
                          .dtype = DType::f64,
                          .space = Space::exchange});
            emit(BatchNormSums{}, {norm.x}, {m.sums});
            m.in.push_back(m.sums);
            message.push_back(m.sums);
        }
        members.push_back(std::move(m));
    }
    if (exchanged) {
        const std::int32_t number = plan_.messages++;
        emit(ExchangeStart{number}, message, message);
        emit(ExchangeFinish{number}, message, message);
    }
    std::vector<TensorId> outputs;
    for (std::size_t i = 0; i < group.size(); ++i) {
        const Norm& norm = group[i];
        const Shape& s = shape(norm.x);
        const TensorId residual = norm.residual_member >= 0
                                      ? outputs.at(static_cast<std::size_t>(norm.residual_member))
                                      : norm.residual;
        if (residual != none) {
            expects(shape(residual) == s, "a residual has the shape it is added to");
            members[i].in.push_back(residual);
        }
        std::vector<TensorId> out = {output(norm.name + ".y", s, norm.into, norm.channel_offset)};
        if (mode_ != Mode::inference) {
            out.push_back(add({.name = norm.name + ".saved", .shape = {1, 2 * s.c, 1, 1}}));
        }
        outputs.push_back(out.front());
        emit(BatchNormAct{.activation = norm.activation,
                          .residual = residual != none,
                          .frozen = !exchanged,
                          .eps = batch_norm_.eps,
                          .momentum = batch_norm_.momentum},
             std::move(members[i].in), std::move(out));
    }
    return outputs;
}

TensorId Builder::max_pool(TensorId x, std::int64_t kernel, std::int64_t stride, std::int64_t pad) {
    const Shape s = shape(x);
    const ConvGeometry g{stride, pad, 1, 1};
    const Shape y_shape{s.n, s.c, convolved(s.h, kernel, g), convolved(s.w, kernel, g)};
    std::vector<TensorId> out = {add({.name = "maxpool.y", .shape = y_shape})};
    if (mode_ != Mode::inference) {
        out.push_back(add({.name = "maxpool.arg", .shape = y_shape, .dtype = DType::u8}));
    }
    emit(MaxPool{kernel, stride, pad}, {x}, out);
    return out.front();
}

TensorId Builder::global_average_pool(TensorId x) {
    const Shape s = shape(x);
    const TensorId y = add({.name = "pool.y", .shape = {s.n, s.c, 1, 1}});
    emit(GlobalAveragePool{}, {x}, {y});
    return y;
}

TensorId Builder::upsample(TensorId x, std::int64_t height, std::int64_t width, TensorId into,
                           std::int64_t channel_offset, bool align_corners) {
    const Shape s = shape(x);
    const TensorId y = output(plan_.tensor(x).name + ".up", {s.n, s.c, height, width}, into,
                              channel_offset);
    emit(Upsample{align_corners}, {x}, {y});
    return y;
}

TensorId Builder::dropout(TensorId x, float probability, std::uint32_t layer) {
    expects(probability >= 0 && probability < 1, "a dropout probability lies in [0, 1)");
    if (mode_ == Mode::inference || probability == 0) return x;
    const TensorId y = add({.name = plan_.tensor(x).name + ".drop", .shape = shape(x)});
    emit(Dropout{probability, layer}, {x}, {y});
    return y;
}

TensorId Builder::concatenation(const std::string& name, const Shape& shape) {
    return add({.name = name, .shape = shape});
}

void Builder::segmentation_loss(TensorId logits, TensorId labels, std::int32_t ignore,
                                bool align_corners) {
    plan_.logits = logits;
    plan_.loss = add({.name = "loss", .shape = {}, .dtype = DType::f64, .space = Space::result});
    std::vector<TensorId> out = {plan_.loss};
    // A power of two near 1/(H W): keeps gradients in range for 16-bit formats, changes no bit in
    // fp32, and is the same for every split of a global batch.
    const double pixels = static_cast<double>(shape(labels).h * shape(labels).w);
    const auto scale = static_cast<float>(std::exp2(-std::floor(std::log2(pixels))));
    if (mode_ != Mode::inference) out.push_back(add({.name = "d logits", .shape = shape(logits)}));
    emit(SegmentationLoss{ignore, scale, align_corners}, {logits, labels}, std::move(out));
}

void Builder::keep(TensorId tensor) {
    plan_.tensors[static_cast<std::size_t>(plan_.root(tensor))].keep = true;
}

void Builder::assign_offsets() {
    std::int64_t offset = 0;
    for (auto p = plan_.parameters.rbegin(); p != plan_.parameters.rend(); ++p) {
        p->offset = offset;
        offset += align(p->shape.elements());
    }
    plan_.parameter_count = offset;
}

Plan Builder::inference_plan() {
    expects(mode_ == Mode::inference, "inference_plan() ends a builder in inference mode");
    assign_offsets();
    validate(plan_);
    return std::move(plan_);
}

Plan Builder::training_plan(std::int64_t bucket_bytes, const UpdateRule& update,
                            const std::function<UpdateSegment(const Parameter&)>& rule) {
    expects(mode_ != Mode::inference && plan_.loss != none,
            "training_plan() ends a builder with a loss");
    assign_offsets();
    append_backward(plan_);
    append_all_reduces(plan_, bucket_bytes);
    plan_.nodes.push_back(update_node(plan_));
    plan_.update = update;
    plan_.update.segments.clear();
    for (auto p = plan_.parameters.rbegin(); p != plan_.parameters.rend(); ++p) {
        UpdateSegment s = rule(*p);
        s.offset = p->offset;
        s.count = align(p->shape.elements());
        std::vector<UpdateSegment>& all = plan_.update.segments;
        if (!all.empty() && all.back().lr_multiplier == s.lr_multiplier &&
            all.back().weight_decay == s.weight_decay && all.back().steps == s.steps) {
            all.back().count += s.count;
        } else {
            all.push_back(s);
        }
    }
    validate(plan_);
    return std::move(plan_);
}

}  // namespace deeplab::graph
