// Whole networks of other programs, by their names: who is taken, who is refused and why.
// tests/golden/foreign_test.cpp has what the former compute.
#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "deeplab/base/text.h"
#include "made_weights.h"

namespace deeplab::weights {
namespace {

using ::testing::HasSubstr;

class ForeignNames : public MadeWeights {
protected:
    // What becomes of a file of these tensors, of one value each.
    std::string refused_alone(const std::string& place, const std::vector<std::string>& names) {
        tensors_.clear();
        for (const std::string& name : names) tensors_[place + name] = {{1}, {1.0f}};
        return refused();
    }
};

TEST_F(ForeignNames, OtherNetworksAreRefusedWithWhatDiffers) {
    struct Other {
        std::string whose, why;
        std::vector<std::string> names;
    };
    const Other others[] = {
        {"mmsegmentation's DeepLabV3+",
         "its head is 512 channels wide",
         {"backbone.stem.0.weight", "backbone.layer1.0.conv1.weight",
          "decode_head.image_pool.1.conv.weight", "decode_head.aspp_modules.0.conv.weight",
          "decode_head.aspp_modules.1.depthwise_conv.conv.weight",
          "decode_head.c1_bottleneck.conv.weight",
          "decode_head.sep_bottleneck.0.depthwise_conv.conv.weight", "decode_head.conv_seg.weight",
          "auxiliary_head.conv_seg.weight"}},
        {"segmentation_models_pytorch's DeepLabV3+",
         "a separable 3x3 stands behind ASPP's projection",
         {"encoder.conv1.weight", "encoder.layer1.0.conv1.weight",
          "decoder.aspp.0.convs.0.0.weight", "decoder.aspp.0.project.0.weight",
          "decoder.aspp.1.0.weight", "decoder.block1.0.weight", "decoder.block2.0.0.weight",
          "segmentation_head.0.weight"}},
        {"VainF's DeepLabV3+ with separable convolutions",
         "neither batch norm nor ReLU stands between",
         {"backbone.conv1.weight", "backbone.layer1.0.conv1.weight", "classifier.project.0.weight",
          "classifier.aspp.convs.1.0.body.0.weight", "classifier.aspp.convs.4.1.weight",
          "classifier.classifier.0.body.0.weight", "classifier.classifier.3.weight"}},
        {"YudeWang's deeplabv3plus-pytorch",
         "its atrous convolutions have a bias",
         {"backbone.conv1.weight", "backbone.layer1.0.conv1.weight", "aspp.branch1.0.weight",
          "aspp.branch5_conv.weight", "shortcut_conv.0.weight", "cat_conv.0.weight",
          "cls_conv.weight"}},
    };
    for (const Other& other : others) {
        for (const std::string place : {"", "module.", "model."}) {
            const std::string message = refused_alone(place, other.names);
            EXPECT_EQ(message, testing::message_of<DataError>([&] { guess_info(written()); }));
            EXPECT_THAT(message, HasSubstr(cat(" holds ", other.whose, " — ")));
            EXPECT_THAT(message, HasSubstr(other.why));
            EXPECT_THAT(message, HasSubstr("give weights of a plain ResNet-18, -50 or -101"));
        }
    }
}

// Names alone do not make a network of theirs.
TEST_F(ForeignNames, AnotherBackboneIsToldByItsTensors) {
    const std::string message = refused_alone(
        "", {"backbone.conv1.weight", "backbone.layer1.0.conv1.weight",
             "aspp.aspp1.atrous_conv.weight", "decoder.last_conv.8.weight"});
    EXPECT_THAT(message, HasSubstr("no backbone of this program"));
    EXPECT_THAT(refused_alone("", {"backbone.layer0.0.weight", "aspp.aspp1.atrous_conv.weight",
                                   "decoder.last_conv.8.weight"}),
                HasSubstr("holds no network that is known"));
}

}  // namespace
}  // namespace deeplab::weights
