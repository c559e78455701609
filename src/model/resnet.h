#pragma once
// ResNet backbones (He et al., arXiv 1512.03385) with torchvision's names; v1.5: a bottleneck's
// stride is in its 3x3.

#include <string>

#include "deeplab/graph/builder.h"
#include "deeplab/model/deeplab.h"

namespace deeplab::model {

struct Features {
    graph::TensorId low = graph::none;   // layer1, stride 4
    graph::TensorId high = graph::none;  // layer4, at the output stride
};

// Parameters are named backbone.conv1.weight, backbone.layer1.0.bn1.bias, ….
Features build_resnet(graph::Builder& builder, graph::TensorId images, const ModelConfig& config);

}  // namespace deeplab::model
