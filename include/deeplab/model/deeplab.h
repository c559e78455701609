#pragma once
// DeepLabV3+ (Chen et al., arXiv 1802.02611) on the backbones of model/backbone.h, as a plan.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "deeplab/graph/plan.h"

namespace deeplab::model {

// Where the output stride takes the place of a backbone's stride, what follows is dilated instead.
// uniform: the layer (of a ResNet: the block) that gave its stride up, too. layer: that one not
// yet, as in the TensorFlow code. Of ResNets alone: torchvision, the block that gave its stride up
// not yet, as in torchvision's code and what is built on it; multigrid, all blocks, and those of
// the last stage by 1, 2 and 4 times its rate (arXiv 1706.05587, section 4.1).
enum class Dilation : std::uint8_t { uniform, layer, torchvision, multigrid };
const char* name(Dilation rule);  // "uniform": of model.dilation

struct ModelConfig {
    std::string backbone = "resnet101";  // one of backbone_names()
    int output_stride = 16;              // 8 | 16
    int num_classes = 21;
    std::array<float, 3> dropout = {0.5f, 0.5f,
                                    0.1f};  // after the ASPP projection, and after each decoder 3x3
    float bn_eps = 1e-5f, bn_momentum = 0.1f;
    int width_divisor = 1;  // test only: all widths divided by this
    // ASPP's atrous 3x3 and the decoder's two as a depthwise 3x3 and a 1x1, each with batch norm
    // and ReLU.
    bool separable = false;
    Dilation dilation = Dilation::uniform;
    // Of all bilinear resizes: of the pooled image, of ASPP's output and of the logits.
    bool align_corners = true;
    int decoder_convs = 2;  // 1 | 2: the decoder's 3x3, each with batch norm and ReLU
    // Of the images, by channel (red, green, blue), on a scale of 0 to 1: the network sees
    // (value - mean) / std.
    std::array<float, 3> mean = {0.485f, 0.456f, 0.406f}, std = {0.229f, 0.224f, 0.225f};
};

struct TrainingOptions {
    std::int64_t batch = 1, height = 513, width = 513;  // of one micro-batch on one rank
    bool freeze_bn = false;
    int ignore_label = 255;
    std::int64_t bucket_bytes = 32 << 20;
    bool keep_logits = false;  // download() works on the logits after a training step
};

// What the optimizer does with the parameters whose name matches; the first match counts, else the
// default.
struct GroupRule {
    std::string match;  // ECMAScript regular expression, searched in the name
    float lr_multiplier = 1.0f, weight_decay = 0.0f;
    int steps = 1;
};

struct OptimizerOptions {
    float momentum = 0.9f, weight_decay = 0.0f, clip_norm = 0.0f;
    std::vector<GroupRule> groups;
    bool accumulate_decay = false;  // over the steps of an iteration (math/sgd.h)
};

std::vector<std::string> backbone_names();

// Forward, backward, all-reduces and update of one micro-batch. UsageError when the configuration
// is impossible.
graph::Plan training_plan(const ModelConfig& model, const TrainingOptions& training,
                          const OptimizerOptions& optimizer);

// Forward only, running statistics, no dropout; plan.logits (N,classes,ceil(H/4),ceil(W/4)) is
// kept. Same parameters and states as the training plan of the same ModelConfig.
graph::Plan inference_plan(const ModelConfig& model, std::int64_t batch, std::int64_t height,
                           std::int64_t width);

// Input size that keeps the feature grid aligned (513 -> 129 -> 33): the next 16k+1 (output stride
// 16) or 8k+1. Without align_corners no size does, and it is the image's own, where that is at
// least 17 or 9.
std::int64_t padded_size(const ModelConfig& model, std::int64_t size);

// Fresh values: He normal (fan in) for convolutions, classifier bias U(+-1/sqrt(fan in)), batch
// norm 1 and 0. A pure function of seed and parameter name.
std::vector<float> initial_value(const graph::Parameter& parameter, const graph::Plan& plan,
                                 std::uint64_t seed);

}  // namespace deeplab::model
