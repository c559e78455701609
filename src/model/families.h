#pragma once
// The families of backbones; private to this folder.

#include "deeplab/model/backbone.h"

namespace deeplab::model {

BackboneFamily resnet_family();
BackboneFamily mobilenet_family();
BackboneFamily xception_family();

// Of the test's widths, that is: ModelConfig::width_divisor. At least one.
constexpr std::int64_t narrowed(std::int64_t channels, std::int64_t divisor) {
    return channels < divisor ? 1 : channels / divisor;
}

// Why a file's tensors are left out.
inline constexpr const char*
    whole_images = "the classifier of whole images: this network has a decoder instead";

}  // namespace deeplab::model
