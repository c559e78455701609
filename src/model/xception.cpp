// Aligned Xception (arXiv 1802.02611, figure 4, and its TensorFlow code), timm's names. Batch norms
// have TensorFlow's eps. In files: networks that are called alike are told by their names.

#include <algorithm>
#include <array>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "families.h"
#include "strides.h"

namespace deeplab::model {
namespace {

using graph::Activation;
using graph::Builder;
using graph::TensorId;

// Three separable convolutions, of which the third has the stride, beside a shortcut. Pre: a ReLU
// before each, none between the depthwise part's batch norm and the 1x1, none behind the sum.
// Post: a ReLU behind every batch norm.
struct Unit {
    enum class Shortcut { convolution, identity, none };
    std::array<std::int64_t, 3> depths;
    std::int64_t stride;
    Shortcut shortcut;
    bool pre = true;
    bool tapped = false;  // its second convolution's output is the decoder's, before the ReLU
};

struct Architecture {
    int depth;
    int middle;  // units of the middle flow
    bool long_entry;

    std::string name() const { return cat("xception", depth); }
};
constexpr Architecture architectures[] = {{41, 8, false}, {65, 16, false}, {71, 16, true}};

constexpr std::int64_t stem_width = 32;

std::vector<Unit> units_of(const Architecture& a) {
    using Shortcut = Unit::Shortcut;
    std::vector<Unit> units = {{{128, 128, 128}, 2, Shortcut::convolution}};
    if (a.long_entry) units.push_back({{256, 256, 256}, 1, Shortcut::convolution});
    units.push_back({{256, 256, 256}, 2, Shortcut::convolution, true, true});
    if (a.long_entry) units.push_back({{728, 728, 728}, 1, Shortcut::convolution});
    units.push_back({{728, 728, 728}, 2, Shortcut::convolution});
    units.insert(units.end(), static_cast<std::size_t>(a.middle),
                 {{728, 728, 728}, 1, Shortcut::identity});
    units.push_back({{728, 1024, 1024}, 2, Shortcut::convolution});
    units.push_back({{1536, 1536, 2048}, 1, Shortcut::none, false});
    return units;
}

struct UnitOutputs {
    TensorId tap, sum;  // the second separable convolution's output; the unit's
};

// `raw`: x has no ReLU behind it.
UnitOutputs build_unit(Builder& b, TensorId x, const std::string& name, const Unit& unit,
                       Strides::Layer layer, std::int64_t divisor, bool raw) {
    const Activation inner = unit.pre ? Activation::none : Activation::relu;
    const std::int64_t out_channels = narrowed(unit.depths[2], divisor);
    UnitOutputs outputs{graph::none, graph::none};
    TensorId y = x;
    Activation input = unit.pre && raw ? Activation::relu : Activation::none;
    for (std::size_t k = 0; k < 3; ++k) {
        const std::string part = cat(name, ".stack.conv", k + 1);
        const std::int64_t channels = b.shape(y).c;
        y = b.conv2d(y, part + ".conv_dw", channels, 3,
                     {.stride = k == 2 ? layer.stride : 1,
                      .pad = layer.dilation,
                      .dilation = layer.dilation,
                      .groups = channels},
                     false, input);
        y = b.batch_norm_act({.x = y, .name = part + ".bn_dw", .activation = inner});
        y = b.conv2d(y, part + ".conv_pw", narrowed(unit.depths[k], divisor), 1, {});
        if (k == 2) break;
        // A tapped output stays as it is, and its reader has the ReLU.
        const bool tap = unit.tapped && k == 1;
        y = b.batch_norm_act({.x = y,
                              .name = part + ".bn_pw",
                              .activation = tap ? Activation::none : Activation::relu});
        input = tap ? Activation::relu : Activation::none;
        if (tap) outputs.tap = y;
    }
    graph::Norm last{.x = y, .name = name + ".stack.conv3.bn_pw", .activation = inner};
    if (unit.shortcut != Unit::Shortcut::convolution) {
        if (unit.shortcut == Unit::Shortcut::identity) last.residual = x;
        outputs.sum = b.batch_norm_act(last);
        return outputs;
    }
    const TensorId shortcut = b.conv2d(x, name + ".shortcut.conv", out_channels, 1,
                                       {layer.stride, 0, 1, 1});
    last.residual_member = 0;
    const std::array<graph::Norm, 2> pair = {
        {{.x = shortcut, .name = name + ".shortcut.bn", .activation = Activation::none}, last}};
    outputs.sum = b.batch_norm_act(pair).back();
    return outputs;
}

Features build(Builder& b, TensorId images, const ModelConfig& config) {
    const auto a = std::find_if(
        std::begin(architectures), std::end(architectures),
        [&](const Architecture& candidate) { return candidate.name() == config.backbone; });
    expects(a != std::end(architectures), "the backbone's name was checked");
    Strides strides(config.output_stride, config.dilation);
    TensorId x = images;
    for (const std::int64_t i : {0, 1}) {
        const std::string name = cat("backbone.stem.", i);
        x = b.conv2d(x, name + ".conv", narrowed(stem_width * (i + 1), config.width_divisor), 3,
                     {strides.next(i == 0 ? 2 : 1).stride, 1, 1, 1});
        x = b.batch_norm_act({.x = x, .name = name + ".bn"});
    }
    Features features;
    int index = 0;
    for (const Unit& unit : units_of(*a)) {
        const auto [tap, sum] = build_unit(b, x, cat("backbone.blocks.", index), unit,
                                           strides.next(unit.stride), config.width_divisor,
                                           index > 0);
        ++index;
        if (unit.tapped) features.low = tap;
        x = sum;
    }
    features.high = x;
    return features;
}

// By the number of units, which tells all of them apart.
Recognised recognise(const TensorExtents& tensors) {
    const auto found = tensors.find("stem.0.conv.weight");
    const std::int64_t width = found == tensors.end() || found->second.empty() ? 0
                                                                               : found->second[0];
    const auto part = [](std::size_t unit) {
        return cat("blocks.", unit, ".stack.conv1.conv_pw.weight");
    };
    std::size_t units = 0;
    while (tensors.contains(part(units))) ++units;
    const auto a = std::find_if(
        std::begin(architectures), std::end(architectures),
        [&](const Architecture& candidate) { return units_of(candidate).size() == units; });
    if (a == std::end(architectures) || width < 1 || width > stem_width ||
        stem_width % width != 0 || !tensors.contains("blocks.0.stack.conv1.bn_dw.weight")) {
        return {"", cat("no Xception of this program, with ", units, " units and ", width,
                        " channels behind the first convolution")};
    }
    const auto divisor = static_cast<int>(stem_width / width);
    return {a->name(), divisor == 1 ? a->name() : cat(a->name(), " of 1/", divisor, " width"),
            divisor};
}

std::vector<Lookalike> lookalikes() {
    return {
        {.whose = "timm's xception41p or xception65p",
         .marks = {"stem.1.weight", "blocks.0.norm.weight", "blocks.0.stack.conv2.norm.weight"},
         .why = "batch norm stands before its convolution there, and the depthwise part has none"},
        {.whose = "an Xception of YudeWang's deeplabv3plus-pytorch",
         .marks = {"block1.sepconv1.depthwise.weight", "block20.sepconv1.depthwise.weight"},
         .why = "a unit's first ReLU works in place there, so that the shortcut has it, too, its "
                "eps is 1e-5 and its rates are others"},
        {.whose = "an Xception of jfzhang95's pytorch-deeplab-xception",
         .marks = {"block20.rep.1.conv1.weight", "conv3.conv1.weight"},
         .why = "shortcuts have a ReLU there, and so has the last unit's input, whose depthwise "
                "parts have none"},
        {.whose = "Chollet's Xception",
         .marks = {"block12.rep.1.conv1.weight", "conv3.conv1.weight"},
         .why = "it has max pools in place of strides, and no batch norm behind a depthwise part"},
    };
}

}  // namespace

BackboneFamily xception_family() {
    BackboneFamily family{
        .names = {},
        .wanted = "timm's xception41, xception65 or xception71",
        .stem = "stem.0.conv.weight",
        .foreign = {{.whose = "timm's aligned Xception",
                     .marks = {"stem.0.conv.weight", "stem.1.conv.weight",
                               "blocks.0.stack.conv1.bn_dw.weight"},
                     .left_out = {{"head.", whole_images}},
                     .mean = {0.5f, 0.5f, 0.5f},
                     .std = {0.5f, 0.5f, 0.5f},
                     .ours = [](const std::string& theirs) { return theirs; }}},
        .lookalikes = lookalikes(),
        .dilations = {Dilation::layer, Dilation::uniform},
        .bn_eps = 1e-3f,
        .bn_momentum = {},
        .build = build,
        .recognise = recognise,
    };
    for (const Architecture& a : architectures) family.names.push_back(a.name());
    return family;
}

}  // namespace deeplab::model
