// A run's start and the weights that it begins from: what belongs together is told by content.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/data/split_content.h"
#include "deeplab/train/run_training.h"
#include "deeplab/weights/checkpoint.h"
#include "deeplab/weights/class_names.h"
#include "deeplab/weights/weights.h"
#include "harness/fake_backend.h"
#include "harness/source_dir.h"
#include "harness/temp_dir.h"
#include "io/edited_hdf5.h"
#include "tiny_run.h"

namespace deeplab::train {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;
using deeplab::testing::FakeBackend;
using deeplab::testing::TempDir;
using Names = std::vector<std::string>;

class Continuity : public ::testing::Test {
protected:
    void SetUp() override {
        pack("train", 1);
        options_ = testing::tiny_run(dir_.path(), "train = {iterations = 2, global_batch = 2}");
    }

    void pack(const std::string& split, std::uint64_t seed, int shards = 2) {
        testing::write_tiny_dataset(dir_ / "data",
                                    {.split = split, .images = 6, .shards = shards, .seed = seed});
    }
    void rename(const Names& names) {
        data::Manifest manifest = data::load_manifest(dir_ / "data", "train");
        for (std::size_t i = 0; i < names.size(); ++i) manifest.classes.classes[i].name = names[i];
        data::save_manifest(dir_ / "data", manifest);
    }

    // What the run said and "CODE MESSAGE" of its Error.
    std::pair<std::string, std::string> outcome(const TrainOptions& options) {
        ::testing::internal::CaptureStderr();
        std::string refusal;
        try {
            FakeBackend backend;
            const auto world = comm::make_self();
            run_training(options, backend, *world, *world);
        } catch (const Error& error) {
            refusal = cat(static_cast<int>(error.code()), " ", error.what());
        }
        return {::testing::internal::GetCapturedStderr(), refusal};
    }
    std::string refused(const TrainOptions& options) { return outcome(options).second; }

    // The run of options_ goes on for one more step.
    TrainOptions next() {
        ++options_.config.train.iterations;
        options_.resume = true;
        return options_;
    }

    TempDir dir_;
    TrainOptions options_;
};

TEST_F(Continuity, MasksPackedAnewAreNotThoseOfTheRun) {
    ASSERT_EQ(refused(options_), "");
    pack("train", 1);  // the same content once more
    ASSERT_EQ(refused(next()), "");
    pack("train", 9);  // the same ids, other masks
    TrainOptions changed = next();
    const std::string message = refused(changed);
    EXPECT_THAT(message, HasSubstr("3 the data is not that of the run's start"));
    EXPECT_THAT(message, HasSubstr("the shards of split train had "));
    EXPECT_THAT(message, HasSubstr("--allow-changed-data"));
    changed.allow_changed_data = true;
    const auto [said, refusal] = outcome(changed);
    EXPECT_EQ(refusal, "");
    EXPECT_THAT(said, HasSubstr("going on with changed data"));
    EXPECT_EQ(refused(next()), "") << "the checkpoint is of the new data now";
}

TEST_F(Continuity, OtherFilesOfTheSameMasksAreTold) {
    ASSERT_EQ(refused(options_), "");
    pack("train", 1, 3);
    EXPECT_THAT(refused(next()),
                HasSubstr("as many pixels of each class, but 2 shards of source bytes and now 3"));
}

TEST_F(Continuity, ClassesAreComparedOnResume) {
    ASSERT_EQ(refused(options_), "");
    rename({"class0", "class2", "class1", "class3"});
    EXPECT_THAT(
        refused(next()),
        HasSubstr("class 1 is \"class1\" in the weights and \"class2\" in the data, and 1 more "
                  "differs (the same classes in another order)"));
    rename({"sky", "class1", "class2", "class3"});
    TrainOptions renamed = next();
    EXPECT_THAT(refused(renamed),
                HasSubstr("class 0 is \"class0\" in the weights and \"sky\" in the data"));
    renamed.allow_changed_data = true;
    EXPECT_EQ(refused(renamed), "");
}

// Each piece of advice, followed, leads to a run.
TEST_F(Continuity, AClassMoreNeedsANewRun) {
    ASSERT_EQ(refused(options_), "");
    data::Manifest manifest = data::load_manifest(dir_ / "data", "train");
    manifest.classes.classes.push_back({"one more", {}});
    manifest.class_pixels.push_back(0);
    manifest.class_images.push_back(0);
    data::save_manifest(dir_ / "data", manifest);
    TrainOptions more = next();
    for (const bool allowed : {false, true}) {
        more.allow_changed_data = allowed;
        const std::string message = refused(more);
        EXPECT_THAT(message, HasSubstr("3 the run has learned 4 classes, the data has 5"));
        EXPECT_EQ(message.find("--allow-changed-data"), std::string::npos) << message;
        EXPECT_THAT(message, HasSubstr(".h5 --reset-classifier"));
    }
    more.init = options_.run / "checkpoints/latest.h5";
    more.run = dir_ / "another";
    more.resume = more.allow_changed_data = false;
    more.reset_classifier = true;
    EXPECT_EQ(refused(more), "");
}

// A checkpoint of a newer program ends the start, and the run's folder stays as it is.
TEST_F(Continuity, WhatTakesANewerProgramIsNamed) {
    ASSERT_EQ(refused(options_), "");
    const fs::path file = fs::canonical(options_.run / "checkpoints/latest.h5");
    const auto refused_as_is = [&](const std::string& part) {
        const std::string bytes = read_text(file),
                          metrics = read_text(options_.run / "metrics.jsonl");
        TrainOptions options = options_;
        options.resume = true;
        EXPECT_THAT(refused(options), HasSubstr(part));
        EXPECT_EQ(read_text(file), bytes);
        EXPECT_EQ(read_text(options_.run / "metrics.jsonl"), metrics);
    };
    weights::Snapshot snapshot = weights::load_checkpoint(file);
    snapshot.info.config_toml += "\n[something]\nnew = 1\n";
    weights::save_checkpoint(file, snapshot);
    refused_as_is(
        "3 the run's configuration is not one that this program knows: unknown key something");
    testing::Hdf5Editor(file).replace("requires", testing::text_attribute(R"(["something_new"])"));
    refused_as_is("needs a program that knows \"something_new\"");
}

// Written before contents were kept.
TEST_F(Continuity, AnOldCheckpointIsGoneOnWithAndThatIsSaid) {
    ASSERT_EQ(refused(options_), "");
    const fs::path file = fs::canonical(options_.run / "checkpoints/latest.h5");
    weights::Snapshot snapshot = weights::load_checkpoint(file);
    EXPECT_NE(snapshot.info.train_content, "");
    snapshot.info.train_content.clear();
    weights::save_checkpoint(file, snapshot);
    EXPECT_EQ(weights::load_checkpoint(file).info.train_content, "");
    pack("train", 9);
    const auto [said, refusal] = outcome(next());
    EXPECT_EQ(refusal, "");
    EXPECT_THAT(said, HasSubstr("kept no checksums of the shards"));
}

TEST_F(Continuity, ADamagedContentIsNoticed) {
    const data::SplitContent content = data::content_of(
        data::load_manifest(options_.data, "train"));
    const std::string text = data::to_text(content);
    EXPECT_EQ(data::content_difference(content, data::parse_content(text)), "");
    EXPECT_EQ(data::to_text(data::parse_content(text)), text);
    for (const char* broken : {"", "{}", "[]", "{\"checksum\":\"12\"}"})
        EXPECT_THROW(data::parse_content(broken), DataError) << broken;
}

TEST_F(Continuity, RenamedClassesAreNotTakenFromInit) {
    ASSERT_EQ(refused(options_), "");
    TrainOptions second = options_;
    second.run = dir_ / "second";
    second.init = options_.run;
    ASSERT_EQ(refused(second), "");

    second.run = dir_ / "third";
    rename({"class0", "class2", "class1", "class3"});
    std::string message = refused(second);
    EXPECT_THAT(message,
                HasSubstr("2 class 1 is \"class1\" in the weights and \"class2\" in the data"));
    EXPECT_THAT(message, HasSubstr("the same classes in another order"));
    EXPECT_THAT(message, HasSubstr("--reset-classifier"));
    EXPECT_EQ(message.find("--keep-classifier"), std::string::npos) << "no rename explains it";
    rename({"class0", "one", "class2", "class3"});
    message = refused(second);
    EXPECT_THAT(message, HasSubstr("--keep-classifier when they are the same under other names"));

    second.keep_classifier = true;
    const auto [said, refusal] = outcome(second);
    EXPECT_EQ(refusal, "");
    EXPECT_THAT(said, HasSubstr("the classifier is kept"));
    second.keep_classifier = false;
    second.reset_classifier = true;
    second.run = dir_ / "fourth";
    EXPECT_EQ(refused(second), "");
}

// The same in safetensors; a head that no training has touched knows no classes.
TEST_F(Continuity, WeightsOfSafetensorsToo) {
    ASSERT_EQ(refused(options_), "");
    const weights::Snapshot trained = weights::load_checkpoint(options_.run /
                                                               "checkpoints/latest.h5");
    weights::save_weights(dir_ / "trained.safetensors", trained, "");
    weights::save_weights(dir_ / "backbone.safetensors", trained, "ASPP and decoder");
    rename({"class0", "one", "class2", "class3"});
    options_.run = dir_ / "second";
    options_.init = dir_ / "trained.safetensors";
    EXPECT_THAT(refused(options_), HasSubstr("class 1 is \"class1\""));
    options_.init = dir_ / "backbone.safetensors";
    EXPECT_EQ(refused(options_), "");
}

// A network sees images as those that it was trained on.
TEST_F(Continuity, WeightsDemandTheirMeanAndDeviation) {
    const std::string lines = "train = {iterations = 2, global_batch = 2}";
    options_ = testing::tiny_run(dir_.path(), lines,
                                 {"model.mean=[0.5, 0.5, 0.25]", "model.std=[0.5, 0.5, 0.5]"});
    ASSERT_EQ(refused(options_), "");
    const weights::Snapshot trained = weights::load_checkpoint(options_.run /
                                                               "checkpoints/latest.h5");
    EXPECT_EQ(trained.info.model.mean[2], 0.25f);
    weights::save_weights(dir_ / "trained.safetensors", trained, "");
    for (const fs::path& init : {options_.run, dir_ / "trained.safetensors"}) {
        TrainOptions second = testing::tiny_run(dir_.path(), lines);
        second.run = dir_ / cat("second", init.extension().string());
        second.init = init;
        const std::string message = refused(second);
        EXPECT_THAT(message, HasSubstr("2 model.mean and model.std are [0.485, 0.456, 0.406] and"));
        EXPECT_THAT(message, HasSubstr("were trained with [0.5, 0.5, 0.25] and [0.5, 0.5, 0.5]"));
        EXPECT_THAT(message, HasSubstr("--set model.mean=\"[0.5, 0.5, 0.25]\""));
        second.config.model.mean = options_.config.model.mean;
        EXPECT_THAT(refused(second), HasSubstr("model.std"));
        second.config.model.std = options_.config.model.std;
        EXPECT_EQ(refused(second), "");
    }
}

TEST_F(Continuity, WeightsDemandTheirDilation) {
    const auto mobilenet = [&](const std::string& dilation) {
        return testing::tiny_run(dir_.path(), "train = {iterations = 2, global_batch = 2}",
                                 {"model.backbone=mobilenet_v2", "model.dilation=" + dilation});
    };
    options_ = mobilenet("layer");
    ASSERT_EQ(refused(options_), "");
    TrainOptions second = mobilenet("uniform");
    second.run = dir_ / "second";
    second.init = options_.run;
    const std::string message = refused(second);
    EXPECT_THAT(message, HasSubstr("were trained with model.dilation = \"layer\""));
    EXPECT_THAT(message, HasSubstr("give --set model.dilation=layer"));
    second.config.model.dilation = model::Dilation::layer;
    EXPECT_EQ(refused(second), "");
}

// The checkpoint and what is converted from it keep the setting.
TEST_F(Continuity, WeightsDemandTheirCorners) {
    const std::string lines = "train = {iterations = 2, global_batch = 2}";
    options_ = testing::tiny_run(dir_.path(), lines,
                                 {"model.align_corners=false", "model.dilation=torchvision"});
    ASSERT_EQ(refused(options_), "");
    const weights::Snapshot trained = weights::load_checkpoint(options_.run /
                                                               "checkpoints/latest.h5");
    EXPECT_FALSE(trained.info.model.align_corners);
    weights::save_weights(dir_ / "trained.safetensors", trained, "");
    for (const fs::path& init : {options_.run, dir_ / "trained.safetensors"}) {
        TrainOptions second = testing::tiny_run(dir_.path(), lines);
        second.run = dir_ / cat("second", init.extension().string());
        second.init = init;
        const std::string message = refused(second);
        EXPECT_THAT(message, HasSubstr("were trained with model.dilation = \"torchvision\", "
                                       "model.align_corners = false, which this run has not"));
        EXPECT_THAT(message, HasSubstr("give --set model.dilation=torchvision --set "
                                       "model.align_corners=false, or"));
        second.config.model.dilation = model::Dilation::torchvision;
        EXPECT_THAT(refused(second), HasSubstr("were trained with model.align_corners = false,"));
        second.config.model.align_corners = false;
        EXPECT_EQ(refused(second), "");
    }
}

// What weights of another program do not say, its names do.
TEST_F(Continuity, NetworksOfOthersDemandTheirSettings) {
    for (const auto& [name, settings] :
         {std::pair{"vainf",
                    "--set model.dilation=torchvision --set model.align_corners=false "
                    "--set model.decoder_convs=1, or"},
          {"jfzhang", "--set model.dilation=multigrid, or"}}) {
        TrainOptions begun = testing::tiny_run(
            dir_.path(), "train = {iterations = 2, global_batch = 2}", {"model.backbone=resnet50"});
        begun.config.model.width_divisor = 32;
        begun.run = dir_ / name;
        begun.init = testing::source_dir() / "tests/golden/foreign" / cat(name, ".pth");
        begun.reset_classifier = true;
        EXPECT_THAT(refused(begun), HasSubstr(cat("give ", settings)));
        const bool jfzhang = std::string(name) == "jfzhang";
        begun.config.model.dilation = jfzhang ? model::Dilation::multigrid
                                              : model::Dilation::torchvision;
        begun.config.model.align_corners = jfzhang;
        begun.config.model.decoder_convs = jfzhang ? 2 : 1;
        const auto [said, refusal] = outcome(begun);
        EXPECT_EQ(refusal, "");
        EXPECT_THAT(said, HasSubstr("its network computes with model.dilation"));
        begun.run = dir_ / cat(name, "-again");
        begun.config.model.mean[0] = 0.5f;
        EXPECT_THAT(refused(begun), HasSubstr("model.mean and model.std are [0.5,"));
    }
}

TEST(ClassNames, MovedAndRenamed) {
    const auto table = [](const Names& names) {
        data::ClassTable made;
        for (const auto& name : names) made.classes.push_back({name, {0, 0, 0}});
        return made;
    };
    EXPECT_FALSE(weights::compare_classes(table({"a", "b"}), table({"a", "b"})));
    const weights::ClassDifference renamed = weights::compare_classes(table({"a", "b"}),
                                                                      table({"a", "c"}));
    EXPECT_TRUE(renamed);
    EXPECT_FALSE(renamed.moved);
    EXPECT_TRUE(weights::compare_classes(table({"a", "b"}), table({"c", "a"})).moved);
    EXPECT_TRUE(weights::compare_classes(table({"a", "b", "c"}), table({"a", "c", "d"})).moved);
    EXPECT_THAT(weights::compare_classes(table({"a"}), table({"a", "b"})).text,
                HasSubstr("1 classes, the data has 2"));
}

}  // namespace
}  // namespace deeplab::train
