#include "resnet.h"

#include <array>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"

namespace deeplab::model {
namespace {

using graph::Builder;
using graph::ConvGeometry;
using graph::TensorId;

struct Architecture {
    const char* name;
    bool bottleneck;
    std::array<int, 4> blocks;
};

constexpr Architecture architectures[] = {
    {"resnet18", false, {2, 2, 2, 2}},
    {"resnet50", true, {3, 4, 6, 3}},
    {"resnet101", true, {3, 4, 23, 3}},
};

// Output stride 16: layer4 keeps its stride and dilates every block, the first too (no multi-grid);
// 8: layer3 as well.
struct Layer {
    std::int64_t width, stride, dilation;
};

std::array<Layer, 4> layers(int output_stride) {
    if (output_stride == 16) return {{{64, 1, 1}, {128, 2, 1}, {256, 2, 1}, {512, 1, 2}}};
    return {{{64, 1, 1}, {128, 2, 1}, {256, 1, 2}, {512, 1, 4}}};
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

}  // namespace

std::vector<std::string> backbone_names() {
    std::vector<std::string> names;
    for (const Architecture& a : architectures) names.emplace_back(a.name);
    return names;
}

Features build_resnet(Builder& b, TensorId images, const ModelConfig& config) {
    const Architecture* a = nullptr;
    for (const Architecture& candidate : architectures) {
        if (config.backbone == candidate.name) a = &candidate;
    }
    expects(a != nullptr, "the backbone's name was checked");
    const std::int64_t divisor = config.width_divisor;
    TensorId x = b.conv2d(images, "backbone.conv1", 64 / divisor, 7, {2, 3, 1, 1});
    x = b.batch_norm_act({.x = x, .name = "backbone.bn1"});
    x = b.max_pool(x, 3, 2, 1);
    Features features;
    const std::array<Layer, 4> all = layers(config.output_stride);
    for (std::size_t l = 0; l < all.size(); ++l) {
        for (int i = 0; i < a->blocks[l]; ++i) {
            x = block(b, x, cat("backbone.layer", l + 1, ".", i), *a, all[l].width / divisor,
                      i == 0 ? all[l].stride : 1, all[l].dilation);
        }
        if (l == 0) features.low = x;
    }
    features.high = x;
    return features;
}

}  // namespace deeplab::model
