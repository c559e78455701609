// Weights under the names of others, against fixtures that PyTorch made (tests/golden/weights).
#include "deeplab/weights/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <set>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/io/tensor_file.h"
#include "harness/messages.h"
#include "harness/source_dir.h"
#include "harness/temp_dir.h"
#include "made_weights.h"

namespace deeplab::weights {
namespace {

using deeplab::testing::TempDir;
using ::testing::HasSubstr;
using Fate = ImportedWeights::Row::Fate;
using Tensors = std::map<std::string, std::vector<float>>;

std::string golden(const std::string& name) {
    return (testing::source_dir() / "tests/golden/weights" / name).string();
}

Tensors tensors_of(const WeightsFile& file) {
    Tensors all;
    for (std::size_t i = 0; i < file.tensors().size(); ++i)
        all[file.tensors()[i].name] = file.values(i);
    return all;
}
const std::vector<float>& value_of(const Snapshot& s, const std::string& name) {
    const auto found = s.parameters.find(name);
    return found != s.parameters.end() ? found->second : s.states.at(name);
}

// Every tensor of the network and every one of the file stands once in the table.
void expect_whole_table(const ImportedWeights& weights, const graph::Plan& plan,
                        const WeightsFile& file) {
    std::multiset<std::string> ours, theirs, network, in_file;
    for (const auto& row : weights.table) {
        if (!row.ours.empty()) ours.insert(row.ours);
        if (!row.theirs.empty()) theirs.insert(row.theirs);
        EXPECT_EQ(row.note.empty(), row.fate == Fate::loaded) << row.ours << row.theirs;
    }
    for (const auto& p : plan.parameters) network.insert(p.name);
    for (const auto& s : plan.states) network.insert(s.name);
    for (const auto& t : file.tensors()) in_file.insert(t.name);
    EXPECT_EQ(ours, network);
    EXPECT_EQ(theirs, in_file);
}

TEST(Weights, TorchvisionsNamesFillTheBackbone) {
    const WeightsFile file(golden("resnet18_torchvision.pth"));
    const graph::Plan plan = plan_of(tiny(4));
    const ImportedWeights weights = import_weights(file, plan, {.seed = 9});
    EXPECT_EQ(weights.naming, "torchvision's ResNet");
    expect_whole_table(weights, plan, file);
    const Tensors theirs = tensors_of(file);
    const std::string prefix = "backbone.";
    std::size_t taken = 0;
    const auto check = [&](const std::string& name, const std::vector<float>& initial) {
        const bool backbone = name.starts_with(prefix);
        const auto& wanted = backbone ? theirs.at(name.substr(prefix.size())) : initial;
        EXPECT_EQ(value_of(weights.snapshot, name), wanted) << name;
        taken += backbone ? 1 : 0;
    };
    for (const auto& p : plan.parameters) check(p.name, model::initial_value(p, plan, 9));
    for (const auto& s : plan.states)
        check(s.name, std::vector<float>(static_cast<std::size_t>(s.shape.c), s.initial));
    EXPECT_EQ(taken, 100u);
    const std::string text = to_text(weights);
    EXPECT_THAT(text, HasSubstr("fc.weight  (the classifier of whole images"));
    EXPECT_THAT(text, HasSubstr("bn1.num_batches_tracked  (a counter"));
    EXPECT_THAT(text, HasSubstr("(not in the file: He normal, fan in)"));
    EXPECT_THAT(summary(weights), HasSubstr("loaded       100 tensors"));
}

TEST(Weights, TheReferencesNamesFillTheWholeNetwork) {
    const WeightsFile file(golden("reference.pth"));
    const graph::Plan plan = plan_of(tiny(5));
    const ImportedWeights weights = import_weights(file, plan, {});
    EXPECT_EQ(weights.naming, "the reference implementation's");
    expect_whole_table(weights, plan, file);
    const Tensors theirs = tensors_of(file);
    // Modules of one shape are told apart by their values.
    const std::string aspp = "encoder.ASPP._atrous_convolution";
    for (const auto& [ours, reference] : std::map<std::string, std::string>{
             {"backbone.conv1.weight", "Resnet101.conv1.weight"},
             {"backbone.layer2.0.downsample.1.running_var",
              "Resnet101.layer2.0.downsample.1.running_var"},
             {"aspp.branch0.conv.weight", aspp + "1.0.weight"},
             {"aspp.branch0.bn.weight", aspp + "1.1.weight"},
             {"aspp.branch1.conv.weight", aspp + "2.0.weight"},
             {"aspp.branch1.bn.bias", aspp + "2.1.bias"},
             {"aspp.branch2.conv.weight", aspp + "3.0.weight"},
             {"aspp.branch2.bn.running_mean", aspp + "3.1.running_mean"},
             {"aspp.branch3.conv.weight", aspp + "4.0.weight"},
             {"aspp.branch3.bn.running_var", aspp + "4.1.running_var"},
             {"aspp.pool.conv.weight", "encoder.ASPP._image_pool.1.weight"},
             {"aspp.pool.bn.weight", "encoder.ASPP._image_pool.2.weight"},
             {"aspp.project.conv.weight", "encoder.conv1.weight"},
             {"aspp.project.bn.weight", "encoder.bn1.weight"},
             {"decoder.low.conv.weight", "decoder.conv1.weight"},
             {"decoder.low.bn.weight", "decoder.bn1.weight"},
             {"decoder.refine1.conv.weight", "decoder.conv2.weight"},
             {"decoder.refine1.bn.weight", "decoder.bn2.weight"},
             {"decoder.refine2.conv.weight", "decoder.conv3.weight"},
             {"decoder.refine2.bn.running_mean", "decoder.bn3.running_mean"},
             {"decoder.classifier.weight", "decoder.conv4.weight"},
             {"decoder.classifier.bias", "decoder.conv4.bias"}}) {
        EXPECT_EQ(value_of(weights.snapshot, ours), theirs.at("module." + reference)) << ours;
    }
    for (const auto& row : weights.table) EXPECT_NE(row.fate, Fate::initialised) << row.ours;
}

TEST(Weights, WhatANetworkIsIsToldFromItsShapes) {
    const WeightsInfo torchvision = guess_info(WeightsFile(golden("resnet18_torchvision.pth")));
    EXPECT_EQ(torchvision.model.backbone, "resnet18");
    EXPECT_EQ(torchvision.model.width_divisor, 32);
    EXPECT_EQ(torchvision.model.num_classes, 0);
    EXPECT_EQ(guess_info(WeightsFile(golden("reference.pth"))).model.num_classes, 5);
    EXPECT_FALSE(WeightsFile(golden("reference.pth")).info());
    EXPECT_THAT(
        testing::message_of<DataError>([] { guess_info(WeightsFile(golden("types.pth"))); }),
        HasSubstr("named double, float"));
}

// --- Files made here ---

TEST_F(MadeWeights, OurOwnNamesAreTakenAsTheyAre) {
    const ImportedWeights weights = import_weights(written(), plan_, {});
    for (const auto& [name, made] : tensors_)
        EXPECT_EQ(value_of(weights.snapshot, name), made.values) << name;
    EXPECT_EQ(weights.table.size(), tensors_.size());
}

TEST_F(MadeWeights, AnotherNumberOfClassesIsTakenOnlyWhenAsked) {
    const graph::Plan seven = plan_of(tiny(7));
    const WeightsFile file = written();
    const std::string message = testing::message_of<DataError>(
        [&] { import_weights(file, seven, {}); });
    EXPECT_THAT(message, HasSubstr("decoder.classifier.weight is 4x8x1x1 in the file and 7x8x1x1"));
    EXPECT_THAT(message, HasSubstr("--reset-classifier"));

    const ImportedWeights weights = import_weights(file, seven,
                                                   {.seed = 4, .reset_classifier = true});
    expect_whole_table(weights, seven, file);
    for (const auto& p : seven.parameters) {
        const bool fresh = p.name.starts_with("decoder.classifier.");
        EXPECT_EQ(value_of(weights.snapshot, p.name),
                  fresh ? model::initial_value(p, seven, 4) : tensors_.at(p.name).values);
    }
    // The same number may mean other classes.
    EXPECT_NE(value_of(import_weights(file, plan_, {.reset_classifier = true}).snapshot,
                       "decoder.classifier.weight"),
              tensors_.at("decoder.classifier.weight").values);
    // Only the number may differ.
    tensors_.at("decoder.classifier.weight") = {{4, 1, 1, 8}, std::vector<float>(32)};
    EXPECT_EQ(refused().find("--reset-classifier"), std::string::npos);
    EXPECT_THAT(refused(), HasSubstr("4x1x1x8 in the file"));
}

TEST_F(MadeWeights, WhatDoesNotFitIsNamed) {
    const auto whole = tensors_;
    const auto with = [&](const std::function<void()>& change) {
        tensors_ = whole;
        change();
        return refused();
    };
    EXPECT_EQ(with([] {}), "");
    EXPECT_THAT(with([&] { tensors_.erase("aspp.pool.bn.bias"); }),
                HasSubstr("aspp.pool.bn.bias (8) is not in the file"));
    EXPECT_THAT(with([&] { tensors_.erase("backbone.layer3.1.bn2.running_var"); }),
                HasSubstr("backbone.layer3.1.bn2.running_var (8) is not in the file"));
    EXPECT_THAT(
        with([&] {
            tensors_["backbone.layer3.2.conv1.weight"] = {{1}, {0}};
        }),
        HasSubstr("backbone.layer3.2.conv1.weight (1) is in the file and not in this network"));
    EXPECT_THAT(with([&] {
                    tensors_.at("aspp.pool.bn.bias") = {{2, 4}, std::vector<float>(8)};
                }),
                HasSubstr("aspp.pool.bn.bias is 2x4 in the file and 8 in this network"));
    EXPECT_THAT(with([&] {
                    tensors_["module.aspp.pool.bn.bias"] = {{8}, std::vector<float>(8)};
                }),
                HasSubstr("are the same tensor"));
    EXPECT_THAT(
        with([&] {
            tensors_.at("aspp.pool.bn.bias").values[3] = std::numeric_limits<float>::quiet_NaN();
        }),
        HasSubstr("aspp.pool.bn.bias in"));
    EXPECT_THAT(with([&] {
                    tensors_ = {{"classifier.weight", {{1}, {0}}}};
                }),
                HasSubstr("holds no network that is known: 1 tensor, named classifier.weight"));
    type_ = io::ElementType::i32;
    EXPECT_THAT(with([] {}), HasSubstr("holds I32"));
    type_ = io::ElementType::f32;

    tensors_ = whole;
    const WeightsFile file = written();
    EXPECT_THAT(
        testing::message_of<DataError>(
            [&] { import_weights(file, plan_of(tiny(4, "resnet50")), {}); }),
        HasSubstr(
            "backbone.layer1.0.conv1.weight is 2x2x3x3 in the file and 2x2x1x1 in this network"));
    EXPECT_THAT(testing::message_of<DataError>(
                    [&] { import_weights(file, plan_of(tiny(4, "resnet50")), {}); }),
                HasSubstr("the file holds resnet18 of 1/32 width, 4 classes"));
}

// Wrappers put words into the names, scripts a place before them.
TEST_F(MadeWeights, WrappedNamesAreUnderstood) {
    const auto whole = tensors_;
    const auto renamed = [&](const std::function<std::string(const std::string&)>& name) {
        tensors_.clear();
        for (const auto& [ours, made] : whole) tensors_[name(ours)] = made;
        const ImportedWeights weights = import_weights(written(), plan_, {});
        for (const auto& [ours, made] : whole)
            EXPECT_EQ(value_of(weights.snapshot, ours), made.values) << ours;
        return summary(weights);
    };
    for (const char* prefix :
         {"module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.", "model.", "net.",
          "network.", "model._orig_mod.", "_orig_mod.model.", "module.model.", "state_dict.",
          "_forward_module.model.", "module.module.", "_fsdp_wrapped_module."}) {
        SCOPED_TRACE(prefix);
        renamed([&](const std::string& ours) { return prefix + ours; });
    }
    EXPECT_THAT(renamed([](const std::string& ours) { return "_orig_mod.model." + ours; }),
                HasSubstr("left out of the names: _orig_mod\n  taken from model\n"));
    // A part of the network alone was compiled.
    renamed([](const std::string& ours) {
        const std::string part = "backbone.";
        return ours.starts_with(part) ? part + "_orig_mod." + ours.substr(part.size()) : ours;
    });
    const std::string averaged = renamed([](const std::string& ours) { return "ema." + ours; });
    EXPECT_THAT(averaged, HasSubstr("taken from ema, an average of weights"));
}

TEST_F(MadeWeights, AnAverageBesideTheNetworkIsNotTaken) {
    const auto whole = tensors_;
    for (const auto& [ours, made] : whole) {
        Made other = made;
        for (float& v : other.values) v += 1;
        tensors_["model_ema.module." + ours] = other;
    }
    tensors_["model_ema.n_averaged"] = {{1}, {7}};
    const WeightsFile file = written();
    const ImportedWeights weights = import_weights(file, plan_, {});
    for (const auto& [ours, made] : whole)
        EXPECT_EQ(value_of(weights.snapshot, ours), made.values) << ours;
    expect_whole_table(weights, plan_, file);
    EXPECT_THAT(summary(weights), HasSubstr("not taken: model_ema, an average of weights"));
    // AveragedModel's own state dict.
    tensors_.clear();
    for (const auto& [ours, made] : whole) tensors_["module." + ours] = made;
    tensors_["n_averaged"] = {{1}, {7}};
    EXPECT_THAT(to_text(import_weights(written(), plan_, {})),
                HasSubstr("n_averaged  (a counter of PyTorch's AveragedModel)"));
    // Two that might be meant.
    tensors_.clear();
    for (const auto& [ours, made] : whole)
        tensors_["net." + ours] = tensors_["model." + ours] = made;
    EXPECT_THAT(refused(), HasSubstr("holds several networks: model and net"));
}

// Files of networks that look like a ResNet of this program by their names.
TEST_F(MadeWeights, OtherResNetsAreCalledByTheirNames) {
    const model::ModelConfig fifty = tiny(4, "resnet50");
    const graph::Plan plan = plan_of(fifty);
    const auto with = [&](const std::function<void()>& change) {
        tensors_.clear();
        for (const auto& p : plan.parameters) {
            if (!p.name.starts_with("backbone.")) continue;
            const std::string theirs = p.name.substr(std::string("backbone.").size());
            const bool weight = p.kind == graph::ParameterKind::conv_weight;
            tensors_[theirs] = {
                weight ? std::vector<std::int64_t>{p.shape.n, p.shape.c, p.shape.h, p.shape.w}
                       : std::vector<std::int64_t>{p.shape.c},
                model::initial_value(p, plan, 3)};
        }
        change();
        const WeightsFile file = written();
        const std::string guessed = testing::message_of<DataError>([&] { guess_info(file); });
        const std::string told = testing::message_of<DataError>(
            [&] { import_weights(file, plan, {}); });
        EXPECT_THAT(told, HasSubstr("give weights of a plain ResNet-18, -50 or -101"));
        EXPECT_EQ(told.find("the file holds resnet50"), std::string::npos) << told;
        return guessed;
    };
    const auto reshape = [&](const std::string& name, const std::vector<std::int64_t>& extents) {
        std::size_t count = 1;
        for (const auto e : extents) count *= static_cast<std::size_t>(e);
        tensors_[name] = {extents, std::vector<float>(count)};
    };
    EXPECT_THAT(with([&] {
                    reshape("layer1.0.conv1.weight", {4, 2, 1, 1});
                    reshape("layer1.0.conv2.weight", {4, 1, 3, 3});
                }),
                HasSubstr("a ResNeXt-50, whose convolutions have 4 groups"));
    EXPECT_THAT(
        with([&] {
            reshape("layer1.0.conv1.weight", {4, 2, 1, 1});
            reshape("layer1.0.conv2.weight", {4, 4, 3, 3});
        }),
        HasSubstr("a wide ResNet-50, with 4 channels in its first block where a ResNet has 2"));
    EXPECT_THAT(
        with([&] {
            reshape("layer1.0.se.fc1.weight", {1, 8, 1, 1});
        }),
        HasSubstr("a kind of ResNet-50 with parts that no network of this program has, e.g. "
                  "layer1.0.se.fc1.weight"));
    EXPECT_THAT(with([&] {
                    for (int block = 6; block < 36; ++block)
                        for (const char* conv : {"conv1", "conv3"})
                            reshape(cat("layer3.", block, ".", conv, ".weight"), {1, 1, 1, 1});
                }),
                HasSubstr("a ResNet-152, 36 bottlenecks in layer3"));
}

TEST(Weights, OtherFilesAreRefused) {
    TempDir dir;
    std::ofstream(dir / "empty").flush();
    std::ofstream(dir / "noise.h5") << "this is no checkpoint";
    EXPECT_THAT(testing::message_of<DataError>([&] { WeightsFile(dir / "empty"); }),
                HasSubstr("it is empty"));
    EXPECT_THAT(testing::message_of<DataError>([&] { WeightsFile(dir / "noise.h5"); }),
                HasSubstr("not a weights file"));
    EXPECT_THAT(testing::message_of<DataError>([&] { WeightsFile(dir / "absent"); }),
                HasSubstr("absent"));
    EXPECT_THAT(testing::message_of<DataError>([&] { WeightsFile(dir.path()); }),
                HasSubstr("holds no checkpoint"));
}

}  // namespace
}  // namespace deeplab::weights
