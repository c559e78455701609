// Weights under the names of others, against fixtures that PyTorch made (tests/golden/weights).
#include "deeplab/weights/weights.h"

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
#include "harness/source_dir.h"
#include "harness/temp_dir.h"

namespace deeplab::weights {
namespace {

using deeplab::testing::TempDir;
using Fate = ImportedWeights::Row::Fate;
using Tensors = std::map<std::string, std::vector<float>>;

std::string golden(const std::string& name) {
    return (testing::source_dir() / "tests/golden/weights" / name).string();
}

graph::Plan plan_of(model::ModelConfig config) { return model::inference_plan(config, 1, 33, 33); }
model::ModelConfig tiny(int classes, const std::string& backbone = "resnet18") {
    return {.backbone = backbone, .num_classes = classes, .width_divisor = 32};
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

std::string refusal(const std::function<void()>& body) {
    try {
        body();
    } catch (const DataError& error) {
        return error.what();
    }
    return "";
}
void expect_part(const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " is not in: " << text;
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
    expect_part(text, "fc.weight  (the classifier of whole images");
    expect_part(text, "bn1.num_batches_tracked  (a counter");
    expect_part(text, "(not in the file: He normal, fan in)");
    expect_part(summary(weights), "loaded       100 tensors");
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
    expect_part(refusal([] { guess_info(WeightsFile(golden("types.pth"))); }),
                "named double, float");
}

// --- Files made here ---

class MadeWeights : public ::testing::Test {
protected:
    struct Made {
        std::vector<std::int64_t> extents;
        std::vector<float> values;
    };
    void SetUp() override {
        for (const auto& p : plan_.parameters) {
            tensors_[p.name] = {
                p.kind == graph::ParameterKind::conv_weight
                    ? std::vector<std::int64_t>{p.shape.n, p.shape.c, p.shape.h, p.shape.w}
                    : std::vector<std::int64_t>{p.shape.c},
                model::initial_value(p, plan_, 3)};
        }
        for (const auto& s : plan_.states)
            tensors_[s.name] = {{s.shape.c},
                                std::vector<float>(static_cast<std::size_t>(s.shape.c), 0.5f)};
    }

    WeightsFile written(const std::string& name = "made.safetensors") {
        std::vector<io::TensorToWrite> list;
        for (const auto& [tensor, made] : tensors_) {
            list.push_back({tensor,
                            type_,
                            made.extents,
                            {reinterpret_cast<const unsigned char*>(made.values.data()),
                             4 * made.values.size()}});
        }
        io::write_safetensors(dir_ / name, list, {});
        return WeightsFile(dir_ / name);
    }
    std::string refused(const ImportOptions& options = {}) {
        return refusal([&] { import_weights(written(), plan_, options); });
    }

    TempDir dir_;
    graph::Plan plan_ = plan_of(tiny(4));
    std::map<std::string, Made> tensors_;
    io::ElementType type_ = io::ElementType::f32;
};

TEST_F(MadeWeights, OurOwnNamesAreTakenAsTheyAre) {
    const ImportedWeights weights = import_weights(written(), plan_, {});
    for (const auto& [name, made] : tensors_)
        EXPECT_EQ(value_of(weights.snapshot, name), made.values) << name;
    EXPECT_EQ(weights.table.size(), tensors_.size());
}

TEST_F(MadeWeights, AnotherNumberOfClassesIsTakenOnlyWhenAsked) {
    const graph::Plan seven = plan_of(tiny(7));
    const WeightsFile file = written();
    const std::string message = refusal([&] { import_weights(file, seven, {}); });
    expect_part(message, "decoder.classifier.weight is 4x8x1x1 in the file and 7x8x1x1");
    expect_part(message, "--reset-classifier");

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
    expect_part(refused(), "4x1x1x8 in the file");
}

TEST_F(MadeWeights, WhatDoesNotFitIsNamed) {
    const auto whole = tensors_;
    const auto with = [&](const std::function<void()>& change) {
        tensors_ = whole;
        change();
        return refused();
    };
    EXPECT_EQ(with([] {}), "");
    expect_part(with([&] { tensors_.erase("aspp.pool.bn.bias"); }),
                "aspp.pool.bn.bias (8) is not in the file");
    expect_part(with([&] { tensors_.erase("backbone.layer3.1.bn2.running_var"); }),
                "backbone.layer3.1.bn2.running_var (8) is not in the file");
    expect_part(with([&] {
                    tensors_["backbone.layer3.2.conv1.weight"] = {{1}, {0}};
                }),
                "backbone.layer3.2.conv1.weight (1) is in the file and not in this network");
    expect_part(with([&] {
                    tensors_.at("aspp.pool.bn.bias") = {{2, 4}, std::vector<float>(8)};
                }),
                "aspp.pool.bn.bias is 2x4 in the file and 8 in this network");
    expect_part(with([&] {
                    tensors_["module.aspp.pool.bn.bias"] = {{8}, std::vector<float>(8)};
                }),
                "are the same tensor");
    expect_part(
        with([&] {
            tensors_.at("aspp.pool.bn.bias").values[3] = std::numeric_limits<float>::quiet_NaN();
        }),
        "aspp.pool.bn.bias in");
    expect_part(with([&] {
                    tensors_ = {{"classifier.weight", {{1}, {0}}}};
                }),
                "holds no network that is known: 1 tensor, named classifier.weight");
    type_ = io::ElementType::i32;
    expect_part(with([] {}), "holds I32");
    type_ = io::ElementType::f32;

    tensors_ = whole;
    const WeightsFile file = written();
    expect_part(
        refusal([&] { import_weights(file, plan_of(tiny(4, "resnet50")), {}); }),
        "backbone.layer1.0.conv1.weight is 2x2x3x3 in the file and 2x2x1x1 in this network");
    expect_part(refusal([&] { import_weights(file, plan_of(tiny(4, "resnet50")), {}); }),
                "the file holds resnet18 of 1/32 width, 4 classes");
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
    expect_part(renamed([](const std::string& ours) { return "_orig_mod.model." + ours; }),
                "left out of the names: _orig_mod\n  taken from model\n");
    // A part of the network alone was compiled.
    renamed([](const std::string& ours) {
        const std::string part = "backbone.";
        return ours.starts_with(part) ? part + "_orig_mod." + ours.substr(part.size()) : ours;
    });
    const std::string averaged = renamed([](const std::string& ours) { return "ema." + ours; });
    expect_part(averaged, "taken from ema, an average of weights");
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
    expect_part(summary(weights), "not taken: model_ema, an average of weights");
    // AveragedModel's own state dict.
    tensors_.clear();
    for (const auto& [ours, made] : whole) tensors_["module." + ours] = made;
    tensors_["n_averaged"] = {{1}, {7}};
    expect_part(to_text(import_weights(written(), plan_, {})),
                "n_averaged  (a counter of PyTorch's AveragedModel)");
    // Two that might be meant.
    tensors_.clear();
    for (const auto& [ours, made] : whole)
        tensors_["net." + ours] = tensors_["model." + ours] = made;
    expect_part(refused(), "holds several networks: model and net");
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
        const std::string guessed = refusal([&] { guess_info(file); });
        const std::string told = refusal([&] { import_weights(file, plan, {}); });
        expect_part(told, "give weights of a plain ResNet-18, -50 or -101");
        EXPECT_EQ(told.find("the file holds resnet50"), std::string::npos) << told;
        return guessed;
    };
    const auto reshape = [&](const std::string& name, const std::vector<std::int64_t>& extents) {
        std::size_t count = 1;
        for (const auto e : extents) count *= static_cast<std::size_t>(e);
        tensors_[name] = {extents, std::vector<float>(count)};
    };
    expect_part(with([&] {
                    reshape("layer1.0.conv1.weight", {4, 2, 1, 1});
                    reshape("layer1.0.conv2.weight", {4, 1, 3, 3});
                }),
                "a ResNeXt-50, whose convolutions have 4 groups");
    expect_part(with([&] {
                    reshape("layer1.0.conv1.weight", {4, 2, 1, 1});
                    reshape("layer1.0.conv2.weight", {4, 4, 3, 3});
                }),
                "a wide ResNet-50, with 4 channels in its first block where a ResNet has 2");
    expect_part(with([&] {
                    reshape("layer1.0.se.fc1.weight", {1, 8, 1, 1});
                }),
                "a kind of ResNet-50 with parts that no network of this program has, e.g. "
                "layer1.0.se.fc1.weight");
    expect_part(with([&] {
                    for (int block = 6; block < 36; ++block)
                        for (const char* conv : {"conv1", "conv3"})
                            reshape(cat("layer3.", block, ".", conv, ".weight"), {1, 1, 1, 1});
                }),
                "a ResNet-152, 36 bottlenecks in layer3");
}

class SavedWeights : public MadeWeights {
protected:
    void SetUp() override {
        MadeWeights::SetUp();
        snapshot_ = import_weights(written(), plan_, {}).snapshot;
        WeightsInfo& info = snapshot_.info;
        info.model = tiny(4);
        info.model.output_stride = 8;
        info.model.dropout = {0.1f, 0, 0.25f};
        info.model.bn_eps = 1e-3f;
        info.classes.classes = {{"background", {0, 0, 0}},
                                {"a", {1, 2, 3}},
                                {"b", {4, 5, 255}},
                                {"c, with \"quotes\" and \xc3\xa4", {7, 8, 9}}};
        info.classes.ignore = 254;
        info.normalisation.mean = {0.1f, 0.2f, 1.0f / 3};
        info.step = 1234567890123;
        info.best_miou = 0.1234567890123;
        info.config_toml = "[train]\nseed = 3\n";
        info.train_list_hash = "0123456789abcdef";
    }
    Snapshot snapshot_;
};

TEST_F(SavedWeights, DescribeThemselves) {
    save_weights(dir_ / "a.safetensors", snapshot_, "");
    const WeightsFile file(dir_ / "a.safetensors");
    ASSERT_TRUE(file.info());
    const WeightsInfo &got = *file.info(), &put = snapshot_.info;
    EXPECT_EQ(got.model.backbone, put.model.backbone);
    EXPECT_EQ(got.model.output_stride, 8);
    EXPECT_EQ(got.model.num_classes, 4);
    EXPECT_EQ(got.model.width_divisor, 32);
    EXPECT_EQ(got.model.dropout, put.model.dropout);
    EXPECT_EQ(got.model.bn_eps, put.model.bn_eps);
    EXPECT_EQ(got.model.bn_momentum, put.model.bn_momentum);
    EXPECT_EQ(got.normalisation.mean, put.normalisation.mean);
    EXPECT_EQ(got.normalisation.std, put.normalisation.std);
    ASSERT_EQ(got.classes.classes.size(), 4u);
    EXPECT_EQ(got.classes.classes[3].name, put.classes.classes[3].name);
    EXPECT_EQ(got.classes.classes[2].color, put.classes.classes[2].color);
    EXPECT_EQ(got.classes.ignore, 254);
    EXPECT_EQ(got.step, put.step);
    EXPECT_EQ(got.best_miou, put.best_miou);
    EXPECT_EQ(got.config_toml, put.config_toml);
    EXPECT_EQ(got.train_list_hash, put.train_list_hash);
    EXPECT_EQ(file.untrained(), "");
    const Snapshot again = import_weights(file, plan_, {}).snapshot;
    EXPECT_EQ(again.parameters, snapshot_.parameters);
    EXPECT_EQ(again.states, snapshot_.states);

    save_weights(dir_ / "b.safetensors", snapshot_, "");
    EXPECT_EQ(read_bytes(dir_ / "a.safetensors"), read_bytes(dir_ / "b.safetensors"));
    save_weights(dir_ / "b.safetensors", snapshot_, "ASPP and decoder");
    EXPECT_EQ(WeightsFile(dir_ / "b.safetensors").untrained(), "ASPP and decoder");
}

TEST_F(SavedWeights, ACheckpointHasTheSameTensors) {
    snapshot_.info.classes.ignore = 255;
    for (const auto& [name, values] : snapshot_.parameters)
        snapshot_.momentum[name].assign(values.size(), 0.0f);
    save_checkpoint(dir_ / "a.h5", snapshot_);
    const WeightsFile file(dir_ / "a.h5");
    EXPECT_EQ(file.kind(), "a checkpoint of this program");
    ASSERT_TRUE(file.info());
    EXPECT_EQ(file.info()->step, snapshot_.info.step);
    const Snapshot again = import_weights(file, plan_, {}).snapshot;
    EXPECT_EQ(again.parameters, snapshot_.parameters);
    EXPECT_EQ(again.states, snapshot_.states);
}

TEST_F(SavedWeights, MetadataThatDescribesNoNetworkIsRefused) {
    save_weights(dir_ / "a.safetensors", snapshot_, "");
    const WeightsFile whole(dir_ / "a.safetensors");
    const auto with = [&](const std::string& key, const std::string& value) {
        auto metadata = whole.metadata();
        for (auto& entry : metadata) {
            if (entry.first == key) entry.second = value;
        }
        io::write_safetensors(dir_ / "b.safetensors", {}, metadata);
        return refusal([&] { WeightsFile(dir_ / "b.safetensors"); });
    };
    EXPECT_EQ(with("backbone", "resnet50"), "");
    for (const auto& [key, value] :
         std::vector<std::pair<std::string, std::string>>{{"deeplab_hpc", "2"},
                                                          {"backbone", "vgg16"},
                                                          {"output_stride", "12"},
                                                          {"output_stride", "x"},
                                                          {"num_classes", "0"},
                                                          {"num_classes", "4 "},
                                                          {"width_divisor", "0"},
                                                          {"width_divisor", "-1"},
                                                          {"dropout", "[1, 0, 0]"},
                                                          {"dropout", "[0, 0]"},
                                                          {"dropout", "[0, 0, \"a\"]"},
                                                          {"bn_eps", "0"},
                                                          {"bn_eps", "nan"},
                                                          {"bn_momentum", "inf"},
                                                          {"mean", "[0, 0, null]"},
                                                          {"std", "[0, 0, 0]"},
                                                          {"std", "[1, 1, 1e999]"},
                                                          {"classes", "[]"},
                                                          {"classes", "{"},
                                                          {"classes", "[1, 2, 3, 4]"},
                                                          {"ignore", "256"},
                                                          {"ignore", "3"},
                                                          {"step", "-1"},
                                                          {"step", "99999999999999999999"},
                                                          {"best_miou", "2"}}) {
        expect_part(with(key, value), cat("metadata \"", key, "\""));
    }
    expect_part(with("num_classes", "5"), "metadata \"classes\" has not 5 entries");
    io::write_safetensors(dir_ / "c.safetensors", {}, {{"deeplab_hpc", "1"}});
    expect_part(refusal([&] { WeightsFile(dir_ / "c.safetensors"); }), "is missing");
}

TEST(Weights, OtherFilesAreRefused) {
    TempDir dir;
    std::ofstream(dir / "empty").flush();
    std::ofstream(dir / "noise.h5") << "this is no checkpoint";
    expect_part(refusal([&] { WeightsFile(dir / "empty"); }), "it is empty");
    expect_part(refusal([&] { WeightsFile(dir / "noise.h5"); }), "not a weights file");
    expect_part(refusal([&] { WeightsFile(dir / "absent"); }), "absent");
    expect_part(refusal([&] { WeightsFile(dir.path()); }), "holds no checkpoint");
}

}  // namespace
}  // namespace deeplab::weights
