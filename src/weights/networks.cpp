#include "networks.h"

#include <algorithm>

namespace deeplab::weights {

namespace {

using model::Dilation;

// GitHub hualin95/Deeplab-v3plus, graphs/models/{decoder,encoder,ResNet101}.py.
ForeignNetwork reference() {
    return {.whose = "the reference implementation's",
            .marks = {"Resnet101.conv1.weight", "decoder.conv4.weight"},
            .modules = {{"Resnet101.", "backbone."},
                        {"encoder.ASPP._atrous_convolution1.0.", "aspp.branch0.conv."},
                        {"encoder.ASPP._atrous_convolution1.1.", "aspp.branch0.bn."},
                        {"encoder.ASPP._atrous_convolution2.0.", "aspp.branch1.conv."},
                        {"encoder.ASPP._atrous_convolution2.1.", "aspp.branch1.bn."},
                        {"encoder.ASPP._atrous_convolution3.0.", "aspp.branch2.conv."},
                        {"encoder.ASPP._atrous_convolution3.1.", "aspp.branch2.bn."},
                        {"encoder.ASPP._atrous_convolution4.0.", "aspp.branch3.conv."},
                        {"encoder.ASPP._atrous_convolution4.1.", "aspp.branch3.bn."},
                        {"encoder.ASPP._image_pool.1.", "aspp.pool.conv."},  // 0 is the pooling
                        {"encoder.ASPP._image_pool.2.", "aspp.pool.bn."},
                        {"encoder.conv1.", "aspp.project.conv."},
                        {"encoder.bn1.", "aspp.project.bn."},
                        {"decoder.conv1.", "decoder.low.conv."},
                        {"decoder.bn1.", "decoder.low.bn."},
                        {"decoder.conv2.", "decoder.refine1.conv."},
                        {"decoder.bn2.", "decoder.refine1.bn."},
                        {"decoder.conv3.", "decoder.refine2.conv."},
                        {"decoder.bn3.", "decoder.refine2.bn."},
                        {"decoder.conv4.", "decoder.classifier."}},
            .settings = {}};
}

// GitHub VainF/DeepLabV3Plus-Pytorch, its ResNets. Image pooling has the pooling at 0, a ReLU
// stands at 2 of each pair.
ForeignNetwork vainf() {
    return {
        .whose = "VainF's DeepLabV3Plus-Pytorch's",
        .marks = {"backbone.conv1.weight", "backbone.layer1.0.conv1.weight",
                  "classifier.project.0.weight", "classifier.aspp.convs.4.1.weight",
                  "classifier.classifier.3.weight"},
        .modules = {{"backbone.", "backbone."},
                    {"classifier.project.0.", "decoder.low.conv."},
                    {"classifier.project.1.", "decoder.low.bn."},
                    {"classifier.aspp.convs.0.0.", "aspp.branch0.conv."},
                    {"classifier.aspp.convs.0.1.", "aspp.branch0.bn."},
                    {"classifier.aspp.convs.1.0.", "aspp.branch1.conv."},
                    {"classifier.aspp.convs.1.1.", "aspp.branch1.bn."},
                    {"classifier.aspp.convs.2.0.", "aspp.branch2.conv."},
                    {"classifier.aspp.convs.2.1.", "aspp.branch2.bn."},
                    {"classifier.aspp.convs.3.0.", "aspp.branch3.conv."},
                    {"classifier.aspp.convs.3.1.", "aspp.branch3.bn."},
                    {"classifier.aspp.convs.4.1.", "aspp.pool.conv."},
                    {"classifier.aspp.convs.4.2.", "aspp.pool.bn."},
                    {"classifier.aspp.project.0.", "aspp.project.conv."},
                    {"classifier.aspp.project.1.", "aspp.project.bn."},
                    {"classifier.classifier.0.", "decoder.refine1.conv."},
                    {"classifier.classifier.1.", "decoder.refine1.bn."},
                    {"classifier.classifier.3.", "decoder.classifier."}},
        .settings = {.dilation = Dilation::torchvision, .align_corners = false, .decoder_convs = 1},
        .normalised = true,
        .low_level_first = true};
}

// GitHub jfzhang95/pytorch-deeplab-xception, its ResNets.
ForeignNetwork jfzhang() {
    return {.whose = "jfzhang95's pytorch-deeplab-xception's",
            .marks = {"backbone.conv1.weight", "backbone.layer1.0.conv1.weight",
                      "aspp.aspp1.atrous_conv.weight", "decoder.last_conv.8.weight"},
            .modules = {{"backbone.", "backbone."},
                        {"aspp.aspp1.atrous_conv.", "aspp.branch0.conv."},
                        {"aspp.aspp1.bn.", "aspp.branch0.bn."},
                        {"aspp.aspp2.atrous_conv.", "aspp.branch1.conv."},
                        {"aspp.aspp2.bn.", "aspp.branch1.bn."},
                        {"aspp.aspp3.atrous_conv.", "aspp.branch2.conv."},
                        {"aspp.aspp3.bn.", "aspp.branch2.bn."},
                        {"aspp.aspp4.atrous_conv.", "aspp.branch3.conv."},
                        {"aspp.aspp4.bn.", "aspp.branch3.bn."},
                        {"aspp.global_avg_pool.1.", "aspp.pool.conv."},
                        {"aspp.global_avg_pool.2.", "aspp.pool.bn."},
                        {"aspp.conv1.", "aspp.project.conv."},
                        {"aspp.bn1.", "aspp.project.bn."},
                        {"decoder.conv1.", "decoder.low.conv."},
                        {"decoder.bn1.", "decoder.low.bn."},
                        {"decoder.last_conv.0.", "decoder.refine1.conv."},
                        {"decoder.last_conv.1.", "decoder.refine1.bn."},
                        {"decoder.last_conv.4.", "decoder.refine2.conv."},
                        {"decoder.last_conv.5.", "decoder.refine2.bn."},
                        {"decoder.last_conv.8.", "decoder.classifier."}},
            .settings = {.dilation = Dilation::multigrid},
            .normalised = true};
}

}  // namespace

const std::vector<ForeignNetwork>& foreign_networks() {
    static const std::vector<ForeignNetwork> all = {reference(), vainf(), jfzhang()};
    return all;
}

const std::vector<model::Lookalike>& foreign_lookalikes() {
    static const std::vector<model::Lookalike> all = {
        {.whose = "mmsegmentation's DeepLabV3+",
         .marks = {"decode_head.c1_bottleneck.conv.weight",
                   "decode_head.sep_bottleneck.0."
                   "depthwise_conv.conv.weight",
                   "decode_head.conv_seg.weight"},
         .why = "its stem is three 3x3, and its head is 512 channels wide, with a 3x3 where a 1x1 "
                "projects ASPP's branches here"},
        {.whose = "segmentation_models_pytorch's DeepLabV3+",
         .marks = {"decoder.aspp.0.convs.0.0.weight", "decoder.block2.0.0.weight",
                   "segmentation_head.0.weight"},
         .why = "a separable 3x3 stands behind ASPP's projection, no batch norm between the two "
                "parts of a separable convolution, and ASPP's rates are 12, 24 and 36 at output "
                "stride 16, too"},
        {.whose = "VainF's DeepLabV3+ with separable convolutions",
         .marks = {"classifier.project.0.weight", "classifier.aspp.convs.1.0.body.0.weight"},
         .why = "neither batch norm nor ReLU stands between the two parts of a separable "
                "convolution"},
        {.whose = "YudeWang's deeplabv3plus-pytorch",
         .marks = {"aspp.branch5_conv.weight", "cat_conv.0.weight", "cls_conv.weight"},
         .why = "its atrous convolutions have a bias, and its backbones' rates are others"},
    };
    return all;
}

void to_our_concatenation(std::vector<float>& weights, std::size_t rows, std::size_t plane,
                          std::size_t low_level) {
    const std::size_t row = weights.size() / rows;
    for (std::size_t r = 0; r < rows; ++r) {
        const auto first = weights.begin() + static_cast<std::ptrdiff_t>(r * row);
        std::rotate(first, first + static_cast<std::ptrdiff_t>(low_level * plane),
                    first + static_cast<std::ptrdiff_t>(row));
    }
}

}  // namespace deeplab::weights
