#include "weight_names.h"

#include <algorithm>
#include <utility>

namespace deeplab::train {

namespace {

constexpr std::string_view parallel = "module.";

// GitHub hualin95/Deeplab-v3plus, graphs/models/{decoder,encoder,ResNet101}.py: its module for each
// of ours. The first that fits counts.
constexpr std::pair<std::string_view, std::string_view> reference_modules[] = {
    {"Resnet101.", "backbone."},
    {"encoder.ASPP._atrous_convolution1.0.", "aspp.branch0.conv."},
    {"encoder.ASPP._atrous_convolution1.1.", "aspp.branch0.bn."},
    {"encoder.ASPP._atrous_convolution2.0.", "aspp.branch1.conv."},
    {"encoder.ASPP._atrous_convolution2.1.", "aspp.branch1.bn."},
    {"encoder.ASPP._atrous_convolution3.0.", "aspp.branch2.conv."},
    {"encoder.ASPP._atrous_convolution3.1.", "aspp.branch2.bn."},
    {"encoder.ASPP._atrous_convolution4.0.", "aspp.branch3.conv."},
    {"encoder.ASPP._atrous_convolution4.1.", "aspp.branch3.bn."},
    {"encoder.ASPP._image_pool.1.", "aspp.pool.conv."},  // 0 is the pooling itself
    {"encoder.ASPP._image_pool.2.", "aspp.pool.bn."},
    {"encoder.conv1.", "aspp.project.conv."},
    {"encoder.bn1.", "aspp.project.bn."},
    {"decoder.conv1.", "decoder.low.conv."},
    {"decoder.bn1.", "decoder.low.bn."},
    {"decoder.conv2.", "decoder.refine1.conv."},
    {"decoder.bn2.", "decoder.refine1.bn."},
    {"decoder.conv3.", "decoder.refine2.conv."},
    {"decoder.bn3.", "decoder.refine2.bn."},
    {"decoder.conv4.", "decoder.classifier."},
};

std::string_view without_parallel(std::string_view name) {
    return name.starts_with(parallel) ? name.substr(parallel.size()) : name;
}

}  // namespace

const char* name(Naming naming) {
    switch (naming) {
        case Naming::ours: return "this program's";
        case Naming::torchvision: return "torchvision's ResNet";
        case Naming::reference: return "the reference implementation's";
    }
    return "";
}

std::optional<Naming> naming_of(const std::vector<std::string>& names) {
    const auto has = [&](std::string_view wanted) {
        return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
            return without_parallel(name) == wanted;
        });
    };
    if (has("backbone.conv1.weight") && has("decoder.classifier.weight")) return Naming::ours;
    if (has("Resnet101.conv1.weight") && has("decoder.conv4.weight")) return Naming::reference;
    if (has("conv1.weight") && has("layer1.0.conv1.weight")) return Naming::torchvision;
    return std::nullopt;
}

std::string our_name(Naming naming, std::string_view theirs, std::string& why) {
    theirs = without_parallel(theirs);
    if (theirs.ends_with("num_batches_tracked")) {
        why = "a counter of PyTorch's batch norm: the momentum here is constant and needs none";
        return "";
    }
    if (naming == Naming::ours) return std::string(theirs);
    if (naming == Naming::torchvision) {
        if (theirs.starts_with("fc.")) {
            why = "the classifier of whole images: this network has a decoder instead";
            return "";
        }
        return "backbone." + std::string(theirs);
    }
    for (const auto& [module, ours] : reference_modules) {
        if (theirs.starts_with(module))
            return std::string(ours) + std::string(theirs.substr(module.size()));
    }
    return std::string(theirs);  // unknown: no tensor of ours is called so
}

}  // namespace deeplab::train
