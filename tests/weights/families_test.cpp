// ImageNet weights of MobileNetV2 and Xception under torchvision's and timm's names, and files that
// look like them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <set>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "made_weights.h"

namespace deeplab::weights {
namespace {

using ::testing::HasSubstr;
using Fate = ImportedWeights::Row::Fate;

class OtherFamilies : public MadeWeights {
protected:
    static model::ModelConfig narrow(const std::string& backbone) {
        return {.backbone = backbone,
                .num_classes = 4,
                .width_divisor = 8,
                .separable = true,
                .dilation = model::Dilation::layer};
    }

    // The whole network.
    void make(const std::string& backbone) {
        plan_ = plan_of(narrow(backbone));
        tensors_.clear();
        SetUp();
    }
    // The backbone alone, as its trainer writes it.
    void make_backbone(const std::string& backbone) {
        make(backbone);
        const std::string place = "backbone.";
        std::map<std::string, Made> alone;
        for (const auto& [name, made] : tensors_) {
            if (!name.starts_with(place)) continue;
            const std::string theirs = name.substr(place.size());
            alone[theirs] = made;
            if (theirs.ends_with("running_mean"))
                alone[theirs.substr(0, theirs.rfind('.')) + ".num_batches_tracked"] = {{1}, {7.0f}};
        }
        tensors_ = alone;
    }
    void add(const std::string& name) { tensors_[name] = {{1}, {1.0f}}; }

    std::string refused_alone(const std::vector<std::string>& names) {
        tensors_.clear();
        for (const std::string& name : names) add(name);
        const std::string message = refused();
        EXPECT_EQ(message, testing::message_of<DataError>([&] { guess_info(written()); }));
        return message;
    }
};

TEST_F(OtherFamilies, FillTheBackboneByTheirTrainersNames) {
    struct Origin {
        std::string backbone, naming;
        std::vector<std::string> left_out;
        std::array<float, 3> mean;
    };
    constexpr std::array<float, 3> imagenet = {0.485f, 0.456f, 0.406f}, half = {0.5f, 0.5f, 0.5f};
    for (const Origin& origin : std::vector<Origin>{
             {"mobilenet_v2",
              "torchvision's MobileNetV2",
              {"features.18.0.weight", "features.18.1.running_var", "classifier.1.weight"},
              imagenet},
             {"xception41", "timm's aligned Xception", {"head.fc.weight", "head.fc.bias"}, half},
             {"xception65", "timm's aligned Xception", {"head.fc.weight"}, half},
             {"xception71", "timm's aligned Xception", {"head.fc.weight"}, half}}) {
        make_backbone(origin.backbone);
        const std::size_t own = tensors_.size();
        for (const std::string& name : origin.left_out) add(name);
        const WeightsFile file = written();
        const ImportedWeights weights = import_weights(file, plan_, {.seed = 5});
        EXPECT_EQ(weights.naming, origin.naming);
        std::set<std::string> theirs, ignored;
        std::size_t loaded = 0;
        for (const auto& row : weights.table) {
            if (!row.theirs.empty()) theirs.insert(row.theirs);
            if (row.fate == Fate::ignored) ignored.insert(row.theirs);
            if (row.fate == Fate::initialised) {
                EXPECT_FALSE(row.ours.starts_with("backbone.")) << row.ours;
            }
            if (row.fate != Fate::loaded) continue;
            ++loaded;
            EXPECT_EQ(row.ours, "backbone." + row.theirs);
        }
        EXPECT_EQ(theirs.size(), tensors_.size()) << "every tensor of the file is accounted for";
        EXPECT_EQ(loaded, own - own / 6) << "of six a batch norm and its convolution have";
        for (const std::string& name : origin.left_out) EXPECT_TRUE(ignored.contains(name)) << name;

        const auto seen = normalisation_of(file);
        ASSERT_TRUE(seen);
        EXPECT_EQ(seen->mean, origin.mean);
        const WeightsInfo info = guess_info(file);
        EXPECT_EQ(info.model.backbone, origin.backbone);
        EXPECT_EQ(info.model.width_divisor, 8);
        EXPECT_EQ(info.model.mean, origin.mean);
        EXPECT_EQ(info.model.dilation, model::Dilation::layer);
        EXPECT_FALSE(info.model.separable) << "no head is in the file";
    }
}

TEST_F(OtherFamilies, AWholeNetworkTellsItsDecoder) {
    for (const int convs : {1, 2}) {
        model::ModelConfig config = narrow("mobilenet_v2");
        config.decoder_convs = convs;
        plan_ = plan_of(config);
        tensors_.clear();
        SetUp();
        EXPECT_EQ(guess_info(written()).model.decoder_convs, convs);
    }
}

TEST_F(OtherFamilies, AWholeNetworkTellsItsHead) {
    make("mobilenet_v2");
    const WeightsInfo info = guess_info(written());
    EXPECT_EQ(info.model.backbone, "mobilenet_v2");
    EXPECT_TRUE(info.model.separable);
    EXPECT_FALSE(normalisation_of(written())) << "the file does not say";
    // A plain head does not take it.
    model::ModelConfig plain = narrow("mobilenet_v2");
    plain.separable = false;
    plan_ = plan_of(plain);
    EXPECT_THAT(refused(), HasSubstr("aspp.branch1.conv.weight is"));
}

TEST_F(OtherFamilies, OtherWidthsAreTold) {
    make_backbone("mobilenet_v2");
    tensors_["features.4.conv.2.weight"] = {{3, 18, 1, 1}, std::vector<float>(54)};
    EXPECT_THAT(refused(), HasSubstr("a MobileNetV2 of other widths: features.4.conv.2.weight has "
                                     "3 channels where this program's has 4"));
    make_backbone("xception41");
    tensors_.erase("blocks.12.stack.conv1.conv_pw.weight");
    EXPECT_THAT(refused(), HasSubstr("no Xception of this program, with 12 units"));
}

// Names as these programs write them (the design notes list them; whose weights are whose was run).
TEST_F(OtherFamilies, LookalikesAreRefusedWithTheReason) {
    const auto told = [](const std::string& message, const std::string& whose,
                         const std::string& why) {
        EXPECT_THAT(message, HasSubstr(whose));
        EXPECT_THAT(message, HasSubstr(why));
        EXPECT_THAT(message, HasSubstr("give weights of a plain ResNet-18, -50 or -101, or "
                                       "torchvision's MobileNetV2, or timm's xception41"));
    };
    told(refused_alone({"stem.0.conv.weight", "stem.0.bn.weight", "stem.1.weight",
                        "blocks.0.norm.weight", "blocks.0.shortcut.weight",
                        "blocks.0.stack.conv1.conv_dw.weight", "blocks.0.stack.conv2.norm.weight",
                        "blocks.0.stack.conv1.conv_pw.weight"}),
         "timm's xception41p or xception65p", "batch norm stands before its convolution");
    for (const std::string place : {"backbone.", "module.backbone.", ""}) {
        told(refused_alone({place + "conv1.weight", place + "block1.sepconv1.depthwise.weight",
                            place + "block1.skip.weight",
                            place + "block20.sepconv1.depthwise.weight", "cat_conv.0.weight"}),
             "YudeWang", "first ReLU works in place");
        told(refused_alone({place + "conv1.weight", place + "block1.rep.0.conv1.weight",
                            place + "block12.rep.1.conv1.weight",
                            place + "block20.rep.1.conv1.weight", place + "conv3.conv1.weight",
                            "decoder.last_conv.8.weight"}),
             "an Xception of jfzhang95's", "shortcuts have a ReLU");
        told(refused_alone({place + "conv1.weight", place + "block1.rep.0.conv1.weight",
                            place + "block12.rep.1.conv1.weight", place + "conv3.conv1.weight",
                            "fc.weight"}),
             "Chollet's Xception", "max pools");
        told(refused_alone({place + "low_level_features.0.0.weight",
                            place + "low_level_features.1.conv.0.0.weight",
                            place + "high_level_features.4.conv.0.0.weight",
                            "classifier.classifier.3.weight"}),
             "VainF", "padded before it is expanded");
        told(refused_alone({place + "features.0.0.weight", place + "features.1.conv.0.weight",
                            place + "features.1.conv.3.weight", place + "features.17.conv.7.weight",
                            place + "low_level_features.0.0.weight",
                            place + "high_level_features.4.conv.0.weight"}),
             "a MobileNetV2 of jfzhang95's", "padded before it is expanded");
    }
}

// The shared weights, which are torchvision's in name, of a backbone and its last 1x1.
TEST_F(OtherFamilies, PublishedTensorsAreAllAccountedFor) {
    const char* data = std::getenv("DEEPLAB_TEST_DATA");
    const auto path = std::filesystem::path(data == nullptr ? "" : data) / "weights" /
                      "mobilenet_v2_imagenet_dogs.safetensors";
    if (data == nullptr || !std::filesystem::exists(path)) GTEST_SKIP() << "skipped: no data";
    const WeightsFile file(path);
    const graph::Plan plan = plan_of(
        {.backbone = "mobilenet_v2", .separable = true, .dilation = model::Dilation::layer});
    const ImportedWeights weights = import_weights(file, plan, {});
    std::map<std::string, int> notes;  // of the ignored ones, and "" of the loaded ones
    std::set<std::string> theirs;
    for (const auto& row : weights.table) {
        if (row.theirs.empty()) continue;
        ++notes[row.note];
        theirs.insert(row.theirs);
    }
    EXPECT_EQ(theirs.size(), file.tensors().size());
    EXPECT_EQ(notes[""], 255);  // 51 convolutions, 51 batch norms of four
    std::vector<int> ignored;
    for (const auto& [note, count] : notes)
        if (!note.empty()) ignored.push_back(count);
    EXPECT_THAT(ignored, ::testing::UnorderedElementsAre(52, 5)) << summary(weights);
    const WeightsInfo info = guess_info(file);
    EXPECT_EQ(info.model.backbone, "mobilenet_v2");
    EXPECT_EQ(info.model.width_divisor, 1);
}

}  // namespace
}  // namespace deeplab::weights
