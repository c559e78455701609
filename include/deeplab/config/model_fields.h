#pragma once
// The network's settings, each in one row: keys of [model], what weights files say of their
// network, and what a checkpoint's checksum covers. private to this folder.

#include "deeplab/config/fields.h"
#include "deeplab/model/deeplab.h"

namespace deeplab::config {

const Fields<model::ModelConfig>& model_fields();

}  // namespace deeplab::config
