// Weights as this program writes them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <limits>
#include <map>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "harness/messages.h"
#include "made_weights.h"

namespace deeplab::weights {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

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
        info.model.mean = {0.1f, 0.2f, 1.0f / 3};
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
    EXPECT_EQ(got.model.mean, put.model.mean);
    EXPECT_EQ(got.model.std, put.model.std);
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

TEST_F(SavedWeights, KeepTheDataSetsLabels) {
    save_weights(dir_ / "a.safetensors", snapshot_, "");
    auto& classes = snapshot_.info.classes.classes;
    for (int c = 0; c < 4; ++c) classes[static_cast<std::size_t>(c)].labels = {9 - c};
    save_weights(dir_ / "b.safetensors", snapshot_, "");
    const auto got = WeightsFile(dir_ / "b.safetensors").info()->classes.classes;
    for (int c = 0; c < 4; ++c)
        EXPECT_EQ(got.at(static_cast<std::size_t>(c)).labels, std::vector<int>{9 - c});
    const auto without = WeightsFile(dir_ / "a.safetensors").info()->classes.classes;
    for (const auto& info : without) EXPECT_TRUE(info.labels.empty());
    auto metadata = WeightsFile(dir_ / "b.safetensors").metadata();
    for (auto& [key, value] : metadata)
        if (key == "class_labels") value.replace(value.find("[9"), 2, "[8");
    io::write_safetensors(dir_ / "c.safetensors", {}, metadata);
    EXPECT_THAT(testing::message_of<DataError>([&] { WeightsFile(dir_ / "c.safetensors"); }),
                HasSubstr("metadata \"class_labels\" is damaged"));
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
        return testing::message_of<DataError>([&] { WeightsFile(dir_ / "b.safetensors"); });
    };
    EXPECT_EQ(with("backbone", "resnet50"), "");
    for (const auto& [key, value] :
         std::vector<std::pair<std::string, std::string>>{{"deeplab_hpc", "2"},
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
        EXPECT_THAT(with(key, value), HasSubstr(cat("metadata \"", key, "\"")));
    }
    EXPECT_THAT(with("num_classes", "5"), HasSubstr("metadata \"classes\" is not a list of 5"));
    EXPECT_THAT(with("backbone", "vgg16"),
                HasSubstr("needs a program that knows model.backbone = \"vgg16\""));
    io::write_safetensors(dir_ / "c.safetensors", {}, {{"deeplab_hpc", "1"}});
    EXPECT_THAT(testing::message_of<DataError>([&] { WeightsFile(dir_ / "c.safetensors"); }),
                HasSubstr("is missing"));
}

TEST_F(SavedWeights, OfANewerProgramAreReadUnlessTheyNeedIt) {
    save_weights(dir_ / "a.safetensors", snapshot_, "");
    auto metadata = WeightsFile(dir_ / "a.safetensors").metadata();
    const auto read = [&](const std::string& key, const std::string& value) {
        metadata.emplace_back(key, value);
        io::write_safetensors(dir_ / "b.safetensors", {}, metadata);
        return testing::message_of<DataError>(
            [&] { EXPECT_TRUE(WeightsFile(dir_ / "b.safetensors").info()); });
    };
    EXPECT_EQ(read("model.something_new", "0.25"), "");
    EXPECT_THAT(read("requires", R"(["something_new"])"),
                AllOf(HasSubstr("b.safetensors needs a program that knows \"something_new\""),
                      Not(HasSubstr("cannot be used"))));
}

}  // namespace
}  // namespace deeplab::weights
