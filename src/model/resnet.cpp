// ResNet backbones (He et al., arXiv 1512.03385) with torchvision's names; v1.5: a bottleneck's
// stride is in its 3x3. In files: what else there is of the kind is told by name.

#include <algorithm>
#include <array>
#include <iterator>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "families.h"

namespace deeplab::model {
namespace {

using graph::Builder;
using graph::ConvGeometry;
using graph::TensorId;

struct Architecture {
    int depth;
    bool bottleneck;
    std::array<int, 4> blocks;
    bool offered = true;  // else known by name only

    std::string name() const { return cat("resnet", depth); }
};

constexpr Architecture architectures[] = {
    {18, false, {2, 2, 2, 2}},  {34, false, {3, 4, 6, 3}, false},  {50, true, {3, 4, 6, 3}},
    {101, true, {3, 4, 23, 3}}, {152, true, {3, 8, 36, 3}, false},
};

constexpr std::int64_t stem_width = 64;

// Output stride 16: layer4 gives its stride up and is dilated instead; 8: layer3 as well.
struct Layer {
    std::int64_t width, stride, dilation;
};

std::array<Layer, 4> layers(int output_stride) {
    if (output_stride == 16) return {{{64, 1, 1}, {128, 2, 1}, {256, 2, 1}, {512, 1, 2}}};
    return {{{64, 1, 1}, {128, 2, 1}, {256, 1, 2}, {512, 1, 4}}};
}

// Of a block of all[layer].
std::int64_t dilation_of(Dilation rule, const std::array<Layer, 4>& all, std::size_t layer,
                         int block) {
    if (rule == Dilation::torchvision && layer > 0 && block == 0) return all[layer - 1].dilation;
    if (rule == Dilation::multigrid && layer == 3) return all[layer].dilation << block;
    return all[layer].dilation;
}

constexpr std::int64_t expansion(const Architecture& a) { return a.bottleneck ? 4 : 1; }

// One residual block: x -> relu(branch(x) + shortcut(x)).
TensorId block(Builder& b, TensorId x, const std::string& name, const Architecture& a,
               std::int64_t width, std::int64_t stride, std::int64_t dilation) {
    const std::int64_t out_channels = width * expansion(a);
    const ConvGeometry wide{stride, dilation, dilation, 1};  // 3x3 that carries stride and dilation
    const ConvGeometry point{1, 0, 1, 1};
    TensorId y;
    std::string last;
    if (a.bottleneck) {
        y = b.batch_norm_act(
            {.x = b.conv2d(x, name + ".conv1", width, 1, point), .name = name + ".bn1"});
        y = b.batch_norm_act(
            {.x = b.conv2d(y, name + ".conv2", width, 3, wide), .name = name + ".bn2"});
        y = b.conv2d(y, name + ".conv3", out_channels, 1, point);
        last = ".bn3";
    } else {
        y = b.batch_norm_act(
            {.x = b.conv2d(x, name + ".conv1", width, 3, wide), .name = name + ".bn1"});
        y = b.conv2d(y, name + ".conv2", out_channels, 3, {1, dilation, dilation, 1});
        last = ".bn2";
    }
    if (stride == 1 && b.shape(x).c == out_channels) {
        return b.batch_norm_act({.x = y, .name = name + last, .residual = x});
    }
    const TensorId shortcut = b.conv2d(x, name + ".downsample.0", out_channels, 1,
                                       {stride, 0, 1, 1});
    const std::array<graph::Norm, 2> pair = {{
        {.x = shortcut, .name = name + ".downsample.1", .activation = graph::Activation::none},
        {.x = y, .name = name + last, .residual_member = 0},
    }};
    return b.batch_norm_act(pair).back();
}

Features build(Builder& b, TensorId images, const ModelConfig& config) {
    const auto a = std::find_if(
        std::begin(architectures), std::end(architectures),
        [&](const Architecture& candidate) { return candidate.name() == config.backbone; });
    expects(a != std::end(architectures), "the backbone's name was checked");
    const std::int64_t divisor = config.width_divisor;
    TensorId x = b.conv2d(images, "backbone.conv1", stem_width / divisor, 7, {2, 3, 1, 1});
    x = b.batch_norm_act({.x = x, .name = "backbone.bn1"});
    x = b.max_pool(x, 3, 2, 1);
    Features features;
    const std::array<Layer, 4> all = layers(config.output_stride);
    for (std::size_t l = 0; l < all.size(); ++l) {
        for (int i = 0; i < a->blocks[l]; ++i) {
            x = block(b, x, cat("backbone.layer", l + 1, ".", i), *a, all[l].width / divisor,
                      i == 0 ? all[l].stride : 1, dilation_of(config.dilation, all, l, i));
        }
        if (l == 0) features.low = x;
    }
    features.high = x;
    return features;
}

// A part of a block that a plain ResNet does not have: "layer1.0.se.fc.weight"; "" when all are
// known.
std::string unknown_part(const TensorExtents& tensors) {
    constexpr std::string_view known[] = {"conv1", "conv2", "conv3",     "bn1",
                                          "bn2",   "bn3",   "downsample"};
    for (const auto& [name, extents] : tensors) {
        const auto parts = split(name, '.');
        if (parts.size() < 4 || !parts[0].starts_with("layer")) continue;
        if (std::find(std::begin(known), std::end(known), parts[2]) == std::end(known)) return name;
    }
    return "";
}

// By the blocks of layer3, which tell all of them apart.
Recognised recognise(const TensorExtents& tensors) {
    const auto extents = [&](const char* name) {
        const auto found = tensors.find(name);
        return found == tensors.end() ? std::vector<std::int64_t>() : found->second;
    };
    const bool bottleneck = tensors.contains("layer1.0.conv3.weight");
    int blocks = 0;
    while (tensors.contains(cat("layer3.", blocks, ".conv1.weight"))) ++blocks;
    const auto a = std::find_if(
        std::begin(architectures), std::end(architectures), [&](const Architecture& candidate) {
            return candidate.bottleneck == bottleneck && candidate.blocks[2] == blocks;
        });
    const bool known = a != std::end(architectures);
    const std::string size = known ? cat("-", a->depth) : "";
    const auto stem = extents("conv1.weight"), first = extents("layer1.0.conv1.weight"),
               second = extents("layer1.0.conv2.weight");
    const std::int64_t width = stem.empty() ? 0 : stem[0];
    if (bottleneck && first.size() == 4 && second.size() == 4 && second[1] > 0) {
        if (const std::int64_t groups = first[0] / second[1]; groups > 1) {
            return {"", cat("a ResNeXt", size, ", whose convolutions have ", groups,
                            " groups, as no network of this program has")};
        }
        if (first[0] != width) {
            return {"", cat("a wide ResNet", size, ", with ", first[0],
                            " channels in its first block where a ResNet has ", width)};
        }
    }
    if (const std::string part = unknown_part(tensors); !part.empty()) {
        return {"", cat("a kind of ResNet", size,
                        " with parts that no network of this program has, ", "e.g. ", part)};
    }
    if (!known || !a->offered || width < 2 || width > stem_width || stem_width % width != 0) {
        return {"", cat("no backbone of this program: ",
                        size.empty() ? "" : cat("a ResNet", size, ", "), blocks,
                        bottleneck ? " bottlenecks" : " basic blocks", " in layer3, ", width,
                        " channels behind the first convolution")};
    }
    const auto divisor = static_cast<int>(stem_width / width);
    return {a->name(), divisor == 1 ? a->name() : cat(a->name(), " of 1/", divisor, " width"),
            divisor};
}

}  // namespace

BackboneFamily resnet_family() {
    BackboneFamily family{
        .names = {},
        .wanted = "a plain ResNet-18, -50 or -101",
        .stem = "conv1.weight",
        .foreign = {{.whose = "torchvision's ResNet",
                     .marks = {"conv1.weight", "layer1.0.conv1.weight"},
                     .left_out = {{"fc.", whole_images}},
                     .ours = [](const std::string& theirs) { return theirs; }}},
        .lookalikes = {},
        .dilations = {Dilation::uniform, Dilation::torchvision, Dilation::multigrid},
        .bn_eps = {},
        .bn_momentum = {},
        .build = build,
        .recognise = recognise,
    };
    for (const Architecture& a : architectures) {
        if (a.offered) family.names.push_back(a.name());
    }
    return family;
}

}  // namespace deeplab::model
