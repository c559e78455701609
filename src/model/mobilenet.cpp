// MobileNetV2 (Sandler et al., arXiv 1801.04381) with torchvision's names; without the last 1x1 to
// 1280 channels, as DeepLab has it. In files: other widths are told by their shapes.

#include "deeplab/base/text.h"
#include "families.h"
#include "strides.h"

namespace deeplab::model {
namespace {

using graph::Activation;
using graph::Builder;
using graph::TensorId;

// Blocks that follow each other: the first has the stride, the others add their input.
struct Row {
    std::int64_t expansion, channels, repeats, stride;
};
constexpr Row rows[] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                        {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
constexpr std::int64_t stem_width = 32;
constexpr int low_block = 3;  // the last of stride 4

struct Block {
    std::int64_t hidden, channels;
    Strides::Layer layer;
    bool expands, adds_input;
};

// `name`: backbone.features.<i>.conv. An expansion of 1 is left out, and the others move up.
TensorId block(Builder& b, TensorId x, const std::string& name, const Block& block) {
    const auto [stride, dilation] = block.layer;
    int i = 0;
    TensorId y = x;
    if (block.expands) {
        y = b.conv2d(y, cat(name, i, ".0"), block.hidden, 1, {});
        y = b.batch_norm_act({.x = y, .name = cat(name, i, ".1"), .activation = Activation::relu6});
        ++i;
    }
    y = b.conv2d(y, cat(name, i, ".0"), block.hidden, 3,
                 {stride, dilation, dilation, block.hidden});
    y = b.batch_norm_act({.x = y, .name = cat(name, i, ".1"), .activation = Activation::relu6});
    ++i;
    y = b.conv2d(y, cat(name, i), block.channels, 1, {});
    return b.batch_norm_act({.x = y,
                             .name = cat(name, i + 1),
                             .activation = Activation::none,
                             .residual = block.adds_input ? x : graph::none});
}

Features build(Builder& b, TensorId images, const ModelConfig& config) {
    const std::int64_t divisor = config.width_divisor;
    Strides strides(config.output_stride, config.dilation);
    const std::int64_t stem_stride = strides.next(2).stride;
    TensorId x = b.conv2d(images, "backbone.features.0.0", narrowed(stem_width, divisor), 3,
                          {stem_stride, 1, 1, 1});
    x = b.batch_norm_act(
        {.x = x, .name = "backbone.features.0.1", .activation = Activation::relu6});
    Features features;
    int index = 1;
    for (const Row& row : rows) {
        for (std::int64_t i = 0; i < row.repeats; ++i, ++index) {
            x = block(b, x, cat("backbone.features.", index, ".conv."),
                      {.hidden = b.shape(x).c * row.expansion,
                       .channels = narrowed(row.channels, divisor),
                       .layer = strides.next(i == 0 ? row.stride : 1),
                       .expands = row.expansion != 1,
                       .adds_input = i > 0});
            if (index == low_block) features.low = x;
        }
    }
    features.high = x;
    return features;
}

// The channels of every block's output tell a width multiplier, which rounds them to multiples of
// 8, from widths that are all divided.
Recognised recognise(const TensorExtents& tensors) {
    const auto channels = [&](const std::string& name) {
        const auto found = tensors.find(name);
        return found == tensors.end() || found->second.empty() ? 0 : found->second[0];
    };
    const std::int64_t width = channels("features.0.0.weight");
    if (!tensors.contains("features.1.conv.0.0.weight"))
        return {"", "no MobileNetV2, though its first convolution is called as that one's"};
    if (width < 1 || width > stem_width || stem_width % width != 0) {
        return {"", cat("a MobileNetV2 of other widths, with ", width,
                        " channels behind the first convolution where this program's has ",
                        stem_width)};
    }
    const std::int64_t divisor = stem_width / width;
    int index = 1;
    for (const Row& row : rows) {
        for (std::int64_t i = 0; i < row.repeats; ++i, ++index) {
            const std::string project = cat("features.", index, ".conv.",
                                            row.expansion != 1 ? 2 : 1, ".weight");
            const std::int64_t has = channels(project), wanted = narrowed(row.channels, divisor);
            if (has == wanted) continue;
            return {"", cat("a MobileNetV2 of other widths: ", project, " has ", has,
                            " channels where this program's has ", wanted)};
        }
    }
    return {"mobilenet_v2",
            divisor == 1 ? "mobilenet_v2" : cat("mobilenet_v2 of 1/", divisor, " width"),
            static_cast<int>(divisor)};
}

std::vector<Lookalike> lookalikes() {
    const char* const padded =
        "a block's input is padded before it is expanded, so that batch norm and ReLU6 fill the "
        "border, and its first convolution is padded in another way";
    return {
        {.whose = "a MobileNetV2 of VainF's DeepLabV3Plus-Pytorch",
         .marks = {"low_level_features.0.0.weight", "high_level_features.4.conv.0.0.weight"},
         .why = padded},
        {.whose = "a MobileNetV2 of jfzhang95's pytorch-deeplab-xception",
         .marks = {"features.1.conv.3.weight", "features.17.conv.7.weight"},
         .why = "a block's input is padded before it is expanded, so that batch norm and ReLU6 "
                "fill the border, and its dilations are others"},
    };
}

}  // namespace

BackboneFamily mobilenet_family() {
    return {
        .names = {"mobilenet_v2"},
        .wanted = "torchvision's MobileNetV2",
        .stem = "features.0.0.weight",
        .foreign = {{.whose = "torchvision's MobileNetV2",
                     .marks = {"features.0.0.weight", "features.1.conv.0.0.weight",
                               "features.17.conv.3.weight"},
                     .left_out = {{"features.18.",
                                   "the 1x1 to 1280 channels: DeepLab takes the 320 "
                                   "before it"},
                                  {"classifier.", whole_images}},
                     .ours = [](const std::string& theirs) { return theirs; }}},
        .lookalikes = lookalikes(),
        .dilations = {Dilation::layer, Dilation::uniform},
        .bn_eps = {},
        .bn_momentum = {},
        .build = build,
        .recognise = recognise,
    };
}

}  // namespace deeplab::model
