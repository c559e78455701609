#include "deeplab/model/deeplab.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <regex>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/graph/builder.h"
#include "deeplab/math/philox.h"
#include "deeplab/model/backbone.h"

namespace deeplab::model {
namespace {

using graph::Builder;
using graph::ConvGeometry;
using graph::Mode;
using graph::Norm;
using graph::TensorId;

void check(const ModelConfig& c) {
    const std::vector<Dilation>& dilations = family_of(c.backbone).dilations;
    if (std::find(dilations.begin(), dilations.end(), c.dilation) == dilations.end()) {
        std::string known;
        for (const Dilation rule : dilations) known += cat(known.empty() ? "" : ", ", name(rule));
        throw UsageError(cat("model.dilation is \"", name(c.dilation), "\", and the backbone is ",
                             c.backbone,
                             " — layer is a rule of mobilenet_v2 and the Xceptions, torchvision "
                             "and multigrid are rules of ResNets — use one of ",
                             known));
    }
    if (c.output_stride != 8 && c.output_stride != 16) {
        throw UsageError(cat(
            "output stride ", c.output_stride,
            " (model.output_stride) — dilations are defined for 8 and 16 only — use one of these"));
    }
    if (c.decoder_convs != 1 && c.decoder_convs != 2) {
        throw UsageError(cat(c.decoder_convs,
                             " 3x3 in the decoder (model.decoder_convs) — it is known with 1 or "
                             "2 — use one of these"));
    }
    if (c.num_classes < 2 || c.num_classes > 255) {
        throw UsageError(cat(c.num_classes,
                             " classes (model.num_classes) — labels are bytes, and one of the 256 "
                             "is ignored — use 2 to 255"));
    }
    for (const float p : c.dropout) {
        if (!(p >= 0 && p < 1))
            throw UsageError(
                cat("dropout ", p, " (model.dropout) — it is a probability below 1 — use [0, 1)"));
    }
}

// What stands before the 1x1 of a separable 3x3: a depthwise one with batch norm and ReLU.
Norm depthwise(Builder& b, TensorId x, const std::string& name, std::int64_t rate) {
    const std::int64_t channels = b.shape(x).c;
    return {.x = b.conv2d(x, name + ".dw", channels, 3, {1, rate, rate, channels}),
            .name = name + ".dw_bn"};
}

// Atrous spatial pyramid pooling (arXiv 1706.05587, figure 5): 1x1, three atrous 3x3 and image
// pooling, each to 256 channels of one concatenation, then 1x1 and dropout.
TensorId build_aspp(Builder& b, TensorId x, const ModelConfig& config) {
    const Shape s = b.shape(x);
    const std::int64_t width = 256 / config.width_divisor;
    const std::int64_t unit = config.output_stride == 16 ? 6 : 12;
    const TensorId all = b.concatenation("aspp.concat", {s.n, 5 * width, s.h, s.w});
    std::vector<TensorId> atrous;  // of a separable network: behind the depthwise part
    if (config.separable) {
        std::vector<Norm> group;
        for (std::int64_t i = 1; i <= 3; ++i)
            group.push_back(depthwise(b, x, cat("aspp.branch", i), unit * i));
        atrous = b.batch_norm_act(group);
    }
    std::vector<Norm> group;
    group.push_back({.x = b.conv2d(x, "aspp.branch0.conv", width, 1, {}),
                     .name = "aspp.branch0.bn",
                     .into = all});
    for (std::int64_t i = 1; i <= 3; ++i) {
        const std::string name = cat("aspp.branch", i);
        const TensorId y = config.separable
                               ? b.conv2d(atrous[static_cast<std::size_t>(i - 1)], name + ".conv",
                                          width, 1, {})
                               : b.conv2d(x, name + ".conv", width, 3, {1, unit * i, unit * i, 1});
        group.push_back({.x = y, .name = name + ".bn", .into = all, .channel_offset = i * width});
    }
    const TensorId pooled = b.conv2d(b.global_average_pool(x), "aspp.pool.conv", width, 1, {});
    group.push_back({.x = pooled, .name = "aspp.pool.bn"});
    const std::vector<TensorId> outputs = b.batch_norm_act(group);
    b.upsample(outputs.back(), s.h, s.w, all, 4 * width, config.align_corners);
    const TensorId y = b.batch_norm_act(
        {.x = b.conv2d(all, "aspp.project.conv", width, 1, {}), .name = "aspp.project.bn"});
    return b.dropout(y, config.dropout[0], 0);
}

// arXiv 1802.02611, figure 2: low-level features reduced to 48 channels beside the upsampled ASPP,
// 3x3, classifier.
TensorId build_decoder(Builder& b, TensorId low, TensorId aspp, const ModelConfig& config) {
    const Shape s = b.shape(low);
    const std::int64_t width = 256 / config.width_divisor, reduced = 48 / config.width_divisor;
    const TensorId all = b.concatenation("decoder.concat", {s.n, width + reduced, s.h, s.w});
    b.batch_norm_act({.x = b.conv2d(low, "decoder.low.conv", reduced, 1, {}),
                      .name = "decoder.low.bn",
                      .into = all,
                      .channel_offset = width});
    b.upsample(aspp, s.h, s.w, all, 0, config.align_corners);
    TensorId y = all;
    for (std::uint32_t i = 1; i <= static_cast<std::uint32_t>(config.decoder_convs); ++i) {
        const std::string name = cat("decoder.refine", i);
        if (config.separable) y = b.batch_norm_act(depthwise(b, y, name, 1));
        const TensorId x = config.separable ? b.conv2d(y, name + ".conv", width, 1, {})
                                            : b.conv2d(y, name + ".conv", width, 3, {1, 1, 1, 1});
        y = b.batch_norm_act({.x = x, .name = name + ".bn"});
        y = b.dropout(y, config.dropout[i], i);
    }
    return b.conv2d(y, "decoder.classifier", config.num_classes, 1, {}, true);
}

TensorId build_network(Builder& b, TensorId images, const ModelConfig& config) {
    const BackboneFamily& family = family_of(config.backbone);
    b.set_batch_norm({.eps = family.bn_eps.value_or(config.bn_eps),
                      .momentum = family.bn_momentum.value_or(config.bn_momentum)});
    const Features f = family.build(b, images, config);
    const auto on_grid = [&](TensorId features, std::int64_t stride) {
        const Shape &image = b.shape(images), &s = b.shape(features);
        return s.h == (image.h - 1) / stride + 1 && s.w == (image.w - 1) / stride + 1;
    };
    ensures(on_grid(f.low, 4) && on_grid(f.high, config.output_stride),
            "a backbone's features are at stride 4 and at the output stride");
    b.set_batch_norm({.eps = config.bn_eps, .momentum = config.bn_momentum});
    return build_decoder(b, f.low, build_aspp(b, f.high, config), config);
}

}  // namespace

const char* name(Dilation rule) {
    switch (rule) {
        case Dilation::uniform: return "uniform";
        case Dilation::layer: return "layer";
        case Dilation::torchvision: return "torchvision";
        case Dilation::multigrid: return "multigrid";
    }
    return "";
}

graph::Plan training_plan(const ModelConfig& model, const TrainingOptions& t,
                          const OptimizerOptions& optimizer) {
    check(model);
    if (t.batch < 1 || t.height < 17 || t.width < 17) {
        throw UsageError(cat("a crop of ", t.height, "x", t.width, " and batch ", t.batch,
                             " (data.crop, train.global_batch) — the network needs 17x17 and one "
                             "sample — choose larger ones"));
    }
    Builder b(t.freeze_bn ? Mode::frozen : Mode::training);
    const TensorId images = b.images({t.batch, 3, t.height, t.width});
    const TensorId labels = b.labels({t.batch, 1, t.height, t.width});
    const TensorId logits = build_network(b, images, model);
    b.segmentation_loss(logits, labels, t.ignore_label, model.align_corners);
    if (t.keep_logits) b.keep(logits);

    std::vector<std::regex> patterns;
    for (const GroupRule& rule : optimizer.groups) {
        try {
            patterns.emplace_back(rule.match);
        } catch (const std::regex_error& error) {
            throw UsageError(
                cat("\"", rule.match, "\" (optimizer.groups.match) is no regular expression: ",
                    error.what(), " — no parameter can be chosen by it — use ECMAScript syntax"));
        }
    }
    std::vector<bool> used(patterns.size(), false);
    const auto rule_of = [&](const graph::Parameter& p) {
        graph::UpdateSegment s;
        s.weight_decay = optimizer.weight_decay;
        for (std::size_t i = 0; i < patterns.size(); ++i) {
            if (!std::regex_search(p.name, patterns[i])) continue;
            used[i] = true;
            s.lr_multiplier = optimizer.groups[i].lr_multiplier;
            s.weight_decay = optimizer.groups[i].weight_decay;
            s.steps = optimizer.groups[i].steps;
            break;
        }
        return s;
    };
    graph::Plan plan = b.training_plan(t.bucket_bytes,
                                       {.momentum = optimizer.momentum,
                                        .clip_norm = optimizer.clip_norm,
                                        .segments = {},
                                        .accumulate_decay = optimizer.accumulate_decay},
                                       rule_of);
    for (std::size_t i = 0; i < used.size(); ++i) {
        if (!used[i]) {
            throw UsageError(cat("\"", optimizer.groups[i].match,
                                 "\" (optimizer.groups.match) chooses no parameter — its settings "
                                 "would be lost in silence — parameter names look like ",
                                 plan.parameters.front().name));
        }
    }
    return plan;
}

graph::Plan inference_plan(const ModelConfig& model, std::int64_t batch, std::int64_t height,
                           std::int64_t width) {
    check(model);
    Builder b(Mode::inference);
    const TensorId images = b.images({batch, 3, height, width});
    const TensorId logits = build_network(b, images, model);
    b.keep(logits);
    graph::Plan plan = b.inference_plan();
    plan.logits = logits;
    return plan;
}

std::int64_t padded_size(const ModelConfig& model, std::int64_t size) {
    const std::int64_t s = model.output_stride;
    if (!model.align_corners) return std::max(size, s + 1);
    return (std::max<std::int64_t>(size, s + 1) - 1 + s - 1) / s * s + 1;
}

std::vector<float> initial_value(const graph::Parameter& p, const graph::Plan& plan,
                                 std::uint64_t seed) {
    const auto count = static_cast<std::size_t>(p.shape.elements());
    if (p.kind == graph::ParameterKind::bn_gamma) return std::vector<float>(count, 1.0f);
    if (p.kind == graph::ParameterKind::bn_beta) return std::vector<float>(count, 0.0f);

    const auto fan_in = [](const Shape& w) { return static_cast<double>(w.c * w.h * w.w); };
    const std::uint64_t name = fnv1a(p.name.data(), p.name.size());
    const auto random = [&](std::size_t block) {
        return math::philox(
            seed, {{static_cast<std::uint32_t>(block),
                    static_cast<std::uint32_t>(math::Stream::initialisation),
                    static_cast<std::uint32_t>(name), static_cast<std::uint32_t>(name >> 32)}});
    };
    // (0, 1]: its logarithm is finite.
    const auto unit = [](std::uint32_t bits) {
        return (static_cast<double>(bits) + 1.0) / 4294967296.0;
    };
    std::vector<float> values(count);
    if (p.kind == graph::ParameterKind::bias) {
        // torch.nn.Conv2d's: U(+-1/sqrt(fan in)) of the convolution the bias belongs to.
        const std::string weight = p.name.substr(0, p.name.rfind('.')) + ".weight";
        double bound = 0;
        for (const graph::Parameter& other : plan.parameters) {
            if (other.name == weight) bound = 1.0 / std::sqrt(fan_in(other.shape));
        }
        ensures(bound > 0, "a bias has a weight beside it");
        for (std::size_t i = 0; i < count; ++i) {
            values[i] = static_cast<float>((2.0 * unit(random(i / 4).v[i % 4]) - 1.0) * bound);
        }
        return values;
    }
    const double deviation = std::sqrt(2.0 / fan_in(p.shape));  // arXiv 1502.01852
    for (std::size_t i = 0; i < count; i += 2) {                // Box-Muller: two numbers from two
        const math::Philox4 r = random(i / 4);
        const double radius = std::sqrt(-2.0 * std::log(unit(r.v[i % 4])));
        const double angle = 2.0 * std::numbers::pi * unit(r.v[i % 4 + 1]);
        values[i] = static_cast<float>(deviation * radius * std::cos(angle));
        if (i + 1 < count) values[i + 1] = static_cast<float>(deviation * radius * std::sin(angle));
    }
    return values;
}

}  // namespace deeplab::model
