#pragma once
// The network's settings, each in one row: keys of [model], what weights files say of their
// network, and what a checkpoint's checksum covers.

#include <string>

#include "deeplab/config/fields.h"
#include "deeplab/model/deeplab.h"

namespace deeplab::config {

const Fields<model::ModelConfig>& model_fields();

// Settings that other programs' networks differ in, and with which the same tensors may be another
// function: those of `of` that `other` has not.
struct Switches {
    std::string text;     // "model.dilation = "layer", model.align_corners = false"; "" for none
    std::string options;  // "--set model.dilation=layer --set model.align_corners=false"
};
Switches switches(const model::ModelConfig& of, const model::ModelConfig& other = {});

}  // namespace deeplab::config
