#include "deeplab/weights/checkpoint.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/io/features.h"
#include "harness/fake_backend.h"
#include "harness/messages.h"
#include "harness/temp_dir.h"
#include "io/edited_hdf5.h"

namespace deeplab::weights {
namespace {

using deeplab::testing::FakeBackend;
using deeplab::testing::TempDir;

const model::ModelConfig small{
    .backbone = "resnet18", .num_classes = 4, .dropout = {0.1f, 0, 0.5f}, .width_divisor = 8};

graph::Plan plan_of(const model::ModelConfig& config) {
    return model::training_plan(config, {.batch = 2, .height = 33, .width = 33}, {});
}

// A backend whose buffers all differ.
void fill(exec::Backend& backend, const graph::Plan& plan) {
    backend.allocate(plan);
    float next = 0;
    const auto values = [&](const Shape& shape) {
        std::vector<float> v(static_cast<std::size_t>(shape.elements()));
        for (float& x : v) x = next += 0.25f;
        return v;
    };
    for (const auto& p : plan.parameters) {
        backend.upload(p, exec::Slot::value, values(p.shape));
        backend.upload(p, exec::Slot::momentum, values(p.shape));
    }
    for (const auto& s : plan.states) backend.upload(s, values(s.shape));
}

WeightsInfo some_info() {
    WeightsInfo info;
    info.model = small;
    info.classes.classes = {{"background", {0, 0, 0}},
                            {"a", {1, 2, 3}},
                            {"b", {4, 5, 6}},
                            {"c, with \"quotes\"", {7, 8, 9}}};
    info.classes.ignore = 255;
    info.model.mean = {0.1f, 0.2f, 0.3f};
    info.step = 123;
    info.best_miou = 0.375;
    info.config_toml = "[train]\nseed = 3\n";
    info.train_list_hash = "0123456789abcdef";
    return info;
}

class Checkpoint : public ::testing::Test {
protected:
    void SetUp() override {
        fill(backend_, plan_);
        snapshot_ = take_snapshot(backend_, plan_, some_info());
        save_checkpoint(file_, snapshot_);
    }

    std::string refusal(const std::filesystem::path& file) {
        return testing::message_of<DataError>([&] { load_checkpoint(file); });
    }

    TempDir dir_;
    std::filesystem::path file_ = dir_ / "step-0000123.h5";
    graph::Plan plan_ = plan_of(small);
    FakeBackend backend_;
    Snapshot snapshot_;
};

TEST_F(Checkpoint, HoldsEverything) {
    const Snapshot loaded = load_checkpoint(file_);
    EXPECT_EQ(loaded.parameters, snapshot_.parameters);
    EXPECT_EQ(loaded.momentum, snapshot_.momentum);
    EXPECT_EQ(loaded.states, snapshot_.states);
    EXPECT_EQ(loaded.extents, snapshot_.extents);
    EXPECT_EQ(state_hash(loaded), state_hash(snapshot_));
    const WeightsInfo info = some_info();
    EXPECT_EQ(loaded.info.model.backbone, info.model.backbone);
    EXPECT_EQ(loaded.info.model.dropout, info.model.dropout);
    EXPECT_EQ(loaded.info.model.width_divisor, 8);
    EXPECT_EQ(loaded.info.model.num_classes, 4);
    EXPECT_EQ(loaded.info.classes.classes.at(3).name, "c, with \"quotes\"");
    EXPECT_EQ(loaded.info.classes.classes.at(2).color, (io::Rgb{4, 5, 6}));
    EXPECT_EQ(loaded.info.model.mean, info.model.mean);
    EXPECT_EQ(loaded.info.step, 123);
    EXPECT_EQ(loaded.info.best_miou, 0.375);
    EXPECT_EQ(loaded.info.config_toml, info.config_toml);
    EXPECT_EQ(loaded.info.train_list_hash, info.train_list_hash);

    FakeBackend other;
    other.allocate(plan_);
    apply_snapshot(other, plan_, loaded, true);
    EXPECT_EQ(state_hash(take_snapshot(other, plan_, info)), state_hash(snapshot_));
    EXPECT_EQ(snapshot_.extents.at("backbone.conv1.weight"),
              (std::vector<std::int64_t>{8, 3, 7, 7}));
    EXPECT_EQ(snapshot_.extents.at("backbone.bn1.weight"), (std::vector<std::int64_t>{8}));
}

TEST_F(Checkpoint, WithoutMomentumKeepsTheBackendsOwn) {
    FakeBackend other;
    other.allocate(plan_);
    apply_snapshot(other, plan_, load_checkpoint(file_), false);
    EXPECT_EQ(other.download(plan_.parameters.front(), exec::Slot::momentum).front(), 0.0f);
    EXPECT_EQ(other.download(plan_.parameters.front(), exec::Slot::value),
              snapshot_.parameters.at(plan_.parameters.front().name));
}

TEST_F(Checkpoint, TheHashSeesEveryPart) {
    Snapshot changed = snapshot_;
    changed.momentum.begin()->second.front() += 1;
    EXPECT_NE(state_hash(changed), state_hash(snapshot_));
    changed = snapshot_;
    changed.states.begin()->second.front() += 1;
    EXPECT_NE(state_hash(changed), state_hash(snapshot_));
}

TEST_F(Checkpoint, TruncatedAndForeignFilesAreRefused) {
    const std::string bytes = read_text(file_);
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{7}, std::size_t{600}, bytes.size() / 2, bytes.size() - 1}) {
        const auto cut = dir_ / "cut.h5";
        std::ofstream(cut, std::ios::binary) << bytes.substr(0, size);
        EXPECT_NE(refusal(cut).find("cut.h5"), std::string::npos) << size;
    }
    std::ofstream(dir_ / "text.h5") << "not HDF5 at all";
    EXPECT_FALSE(refusal(dir_ / "text.h5").empty());
    EXPECT_FALSE(refusal(dir_ / "absent.h5").empty());
}

TEST_F(Checkpoint, AFlippedBitIsNoticed) {
    std::string bytes = read_text(file_);
    // Within the values of a tensor, where HDF5 itself sees nothing.
    const auto& values = snapshot_.parameters.at("backbone.layer1.0.conv1.weight");
    const std::string wanted(reinterpret_cast<const char*>(values.data()), 64);
    const auto at = bytes.find(wanted);
    ASSERT_NE(at, std::string::npos);
    bytes[at + 17] = static_cast<char>(bytes[at + 17] ^ 4);
    std::ofstream(dir_ / "flipped.h5", std::ios::binary) << bytes;
    EXPECT_NE(refusal(dir_ / "flipped.h5").find("checksum"), std::string::npos);
}

// Its checksum holds, but no network can be built from what it says.
TEST_F(Checkpoint, ImpossibleDescriptionsAreRefused) {
    const std::pair<const char*, std::function<void(WeightsInfo&)>> changes[] = {
        {"backbone", [](auto& i) { i.model.backbone = "resnet19"; }},
        {"output_stride 0", [](auto& i) { i.model.output_stride = 0; }},
        {"output_stride", [](auto& i) { i.model.output_stride = 12; }},
        {"num_classes 300", [](auto& i) { i.model.num_classes = 300; }},
        {"num_classes", [](auto& i) { i.model.num_classes = 0; }},
        {"classes is not a list of 3", [](auto& i) { i.model.num_classes = 3; }},
        {"width_divisor 0", [](auto& i) { i.model.width_divisor = 0; }},
        {"width_divisor 1000", [](auto& i) { i.model.width_divisor = 1000; }},
        {"ignore", [](auto& i) { i.classes.ignore = -1; }},
        {"ignore is not a label in 4..255", [](auto& i) { i.classes.ignore = 2; }},
        {"best_miou", [](auto& i) { i.best_miou = NAN; }},
        {"step", [](auto& i) { i.step = -5; }},
        {"dropout", [](auto& i) { i.model.dropout[0] = 1; }},
        {"bn_eps", [](auto& i) { i.model.bn_eps = 0; }},
        {"bn_momentum", [](auto& i) { i.model.bn_momentum = NAN; }},
        {"mean", [](auto& i) { i.model.mean[2] = INFINITY; }},
        {"std", [](auto& i) { i.model.std[1] = 0; }},
    };
    for (const auto& [part, change] : changes) {
        Snapshot changed = snapshot_;
        change(changed.info);
        save_checkpoint(dir_ / "changed.h5", changed);
        EXPECT_NE(refusal(dir_ / "changed.h5").find(part), std::string::npos)
            << part << ": " << refusal(dir_ / "changed.h5");
    }
}

// Of a newer program: what must be known is named, the rest is read over.
TEST_F(Checkpoint, AFeatureThatThisProgramLacksIsNamed) {
    testing::Hdf5Editor(file_).replace("requires", testing::text_attribute(R"(["something_new"])"));
    try {
        load_checkpoint(file_);
        FAIL() << "accepted";
    } catch (const io::NewerFile& error) {
        const std::string message = error.what();
        EXPECT_EQ(error.code(), ExitCode::data);
        EXPECT_NE(message.find(cat("checkpoint ", file_.string(),
                                   " needs a program that knows \"something_new\"")),
                  std::string::npos)
            << message;
        EXPECT_NE(message.find("use the version of deeplab-hpc that wrote it, or a newer one"),
                  std::string::npos)
            << message;
    }
}

TEST_F(Checkpoint, AnUnknownOptionalAttributeIsReadOver) {
    testing::Hdf5Editor(file_).replace("model.something_new", testing::text_attribute("0.25"));
    EXPECT_EQ(state_hash(load_checkpoint(file_)), state_hash(snapshot_));
    testing::Hdf5Editor(file_).replace("requires", testing::text_attribute("[]"));
    EXPECT_EQ(state_hash(load_checkpoint(file_)), state_hash(snapshot_));
}

// The labels of the data set's own masks: outside of the file's checksum, under one of their own.
TEST_F(Checkpoint, KeepsTheDataSetsLabels) {
    EXPECT_EQ(read_text(file_).find("class_labels"), std::string::npos);  // none to keep
    auto& classes = snapshot_.info.classes.classes;
    for (int c = 0; c < 4; ++c) classes[static_cast<std::size_t>(c)].labels = {7 + 1000 * c, 3};
    save_checkpoint(file_, snapshot_);
    const auto loaded = load_checkpoint(file_).info.classes.classes;
    for (int c = 0; c < 4; ++c)  // the one to be written is what is kept
        EXPECT_EQ(loaded.at(static_cast<std::size_t>(c)).labels, std::vector<int>{7 + 1000 * c});
    for (const char* text :
         {R"({"crc32":1,"labels":[7,1007,2007,3007]})", R"([7,1007,2007,3007])", "[7", "{}"}) {
        testing::Hdf5Editor(file_).replace("class_labels", testing::text_attribute(text));
        EXPECT_NE(refusal(file_).find("its class_labels "), std::string::npos)
            << text << ": " << refusal(file_);
    }
}

TEST_F(Checkpoint, AnotherVersionIsOfANewerProgram) {
    testing::Hdf5Editor(file_).poke("format_version", 0, 2);
    EXPECT_THROW(load_checkpoint(file_), io::NewerFile);
}

TEST_F(Checkpoint, AnotherModelIsRefusedWithTheFirstTensorThatDiffers) {
    model::ModelConfig wide = small;
    wide.num_classes = 7;
    const graph::Plan plan = plan_of(wide);
    FakeBackend other;
    fill(other, plan);
    const auto before = state_hash(take_snapshot(other, plan, {}));
    try {
        apply_snapshot(other, plan, snapshot_, true);
        FAIL() << "accepted";
    } catch (const DataError& error) {
        const std::string message = error.what();
        EXPECT_NE(message.find("decoder.classifier.weight is 4x32x1x1 in the file and 7x32x1x1"),
                  std::string::npos)
            << message;
    }
    EXPECT_EQ(state_hash(take_snapshot(other, plan, {})), before)
        << "a refused snapshot changes nothing";

    model::ModelConfig deep = small;
    deep.backbone = "resnet50";
    const graph::Plan deep_plan = plan_of(deep);
    FakeBackend third;
    third.allocate(deep_plan);
    EXPECT_THROW(apply_snapshot(third, deep_plan, snapshot_, false), DataError);
}

TEST_F(Checkpoint, TensorsThatTheModelLacksAreRefused) {
    Snapshot more = snapshot_;
    more.parameters["zzz.weight"] = {1};
    more.extents["zzz.weight"] = {1};
    try {
        apply_snapshot(backend_, plan_, more, true);
        FAIL() << "accepted";
    } catch (const DataError& error) {
        EXPECT_NE(std::string(error.what()).find("zzz.weight"), std::string::npos);
    }
}

TEST_F(Checkpoint, SavingTwiceGivesTheSameBytes) {
    save_checkpoint(dir_ / "again.h5", snapshot_);
    EXPECT_EQ(read_text(dir_ / "again.h5"), read_text(file_));
}

TEST_F(Checkpoint, WeightsAreFoundInARun) {
    EXPECT_EQ(find_weights(file_), file_);
    EXPECT_THROW(find_weights(dir_ / "run"), DataError);
    const std::filesystem::path checkpoints = dir_ / "run" / "checkpoints";
    std::filesystem::create_directories(checkpoints);
    EXPECT_THROW(find_weights(dir_ / "run"), DataError);
    std::filesystem::copy(file_, checkpoints / "latest.h5");
    EXPECT_EQ(find_weights(dir_ / "run").filename(), "latest.h5");
    std::filesystem::copy(file_, checkpoints / "best.h5");
    EXPECT_EQ(find_weights(dir_ / "run").filename(), "best.h5");
}

}  // namespace
}  // namespace deeplab::weights
