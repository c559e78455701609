#pragma once
// What DeepLabV3+ and the import of weights know of a backbone. A family of backbones is one file
// of src/model and one line of src/model/backbone.cpp.

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "deeplab/graph/builder.h"
#include "deeplab/model/deeplab.h"

namespace deeplab::model {

// What a backbone gives. Numbers of channels are the tensors' own.
struct Features {
    graph::TensorId low = graph::none;   // for the decoder, which works at its size: stride 4
    graph::TensorId high = graph::none;  // for ASPP, at the output stride
};

// Somebody else's names of a backbone's tensors, in files of a backbone alone.
struct ForeignNames {
    // Tensors whose names begin so have no place here.
    struct LeftOut {
        std::string beginning, why;  // "fc.", "the classifier of whole images: …"
    };
    std::string whose;               // "torchvision's ResNet"
    std::vector<std::string> marks;  // tensors that these files have, and no others have all of
    std::vector<LeftOut> left_out;
    // Of the images that they were trained on, as ModelConfig has it.
    std::array<float, 3> mean = ModelConfig().mean, std = ModelConfig().std;
    std::string (*ours)(const std::string& theirs);  // without "backbone."
};

// Files whose tensors fit a backbone of the family, or are called like them, and that hold another
// function. They are refused.
struct Lookalike {
    std::string whose;
    std::vector<std::string> marks;  // as ForeignNames has them; "backbone." may stand before
    std::string why;                 // "batch norm stands before its convolution there"
};

// A file's tensors of the backbone by our names, without "backbone.".
using TensorExtents = std::map<std::string, std::vector<std::int64_t>>;

// The backbone that a file holds.
struct Recognised {
    std::string name;       // of model.backbone; "" for none of this program's
    std::string text;       // what it is, in words
    int width_divisor = 1;  // ModelConfig's
};

struct BackboneFamily {
    std::vector<std::string> names;  // of model.backbone
    std::string wanted;              // "a plain ResNet-18, -50 or -101"
    std::string stem;                // our name of a tensor that all of the family have
    std::vector<ForeignNames> foreign;
    std::vector<Lookalike> lookalikes;
    // That it can be built with. The first: that of files that do not say it.
    std::vector<Dilation> dilations;
    // Of the family's batch norms, where not ModelConfig's, which are the head's in any case.
    std::optional<float> bn_eps, bn_momentum;
    // Tensors are named backbone.<…>.
    Features (*build)(graph::Builder& builder, graph::TensorId images, const ModelConfig& config);
    Recognised (*recognise)(const TensorExtents& tensors);  // the stem is among them
};

const std::vector<BackboneFamily>& backbone_families();

// UsageError when there is none of this name.
const BackboneFamily& family_of(const std::string& backbone);

}  // namespace deeplab::model
