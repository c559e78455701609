#pragma once
// The families of backbones; private to this folder.

#include "deeplab/model/backbone.h"

namespace deeplab::model {

BackboneFamily resnet_family();

}  // namespace deeplab::model
