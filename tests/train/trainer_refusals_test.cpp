// Runs that are refused before anything is written, and how that is said.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "deeplab/train/run_lock.h"
#include "trainer_fixture.h"

namespace deeplab::train {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;
using deeplab::testing::FakeBackend;

TEST_F(TrainerTest, ARunWithACheckpointIsRefusedUntouched) {
    train(options_);
    const std::string before = listing(options_.run);
    const auto [code, message] = refusal(options_);
    EXPECT_EQ(code, 2);
    EXPECT_THAT(message, HasSubstr("--resume")) << message;
    EXPECT_EQ(listing(options_.run), before);
}

TEST_F(TrainerTest, WrongStartsAreRefusedBeforeAnythingIsWritten) {
    const auto expect = [&](const TrainOptions& options, int code, const std::string& part) {
        const auto [got, message] = refusal(options);
        EXPECT_EQ(got, code) << message;
        EXPECT_THAT(message, HasSubstr(part)) << message;
        EXPECT_FALSE(fs::exists(dir_ / "run"));
    };
    TrainOptions o = options_;
    o.data = dir_ / "nowhere";
    expect(o, 3, "nowhere");
    o = options_;
    o.config.data.train_split = "absent";
    expect(o, 3, "absent");
    o = options_;
    o.config.train.global_batch = 5;
    o.config.train.accumulation = 2;
    expect(o, 2, "not divisible");
    o = options_;
    o.config.train.global_batch = 1;
    expect(o, 2, "one value per channel");
    o.config.train.global_batch = 4;
    o.config.train.accumulation = 4;
    o.config.train.sync_bn = config::SyncBn::none;
    expect(o, 2, "one value per channel");
    o = options_;
    o.config.model.num_classes = 21;
    expect(o, 2, "21");
    o = options_;
    o.time_budget_min = -1;
    expect(o, 2, "time budget");
}

TEST_F(TrainerTest, SharedIdsAreRefusedUnlessAllowed) {
    options_.config.data.val_split = "train";
    options_.config.train.eval_every = 100;
    options_.config.train.iterations = 1;
    const auto [code, message] = refusal(options_);
    EXPECT_EQ(code, 3);
    EXPECT_THAT(message, HasSubstr("allow_overlap")) << message;
}

TEST_F(TrainerTest, ADamagedShardIsRefused) {
    const fs::path shard = options_.data / "train-00001-of-00002.h5";
    std::string bytes = read_text(shard);
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
    std::ofstream(shard, std::ios::binary) << bytes;
    const auto [code, message] = refusal(options_);
    EXPECT_EQ(code, 3);
    EXPECT_THAT(message, HasSubstr("train-00001-of-00002.h5")) << message;
}

TEST_F(TrainerTest, AnOutputThatCannotBeWrittenIsRefused) {
    std::ofstream(dir_ / "file") << "a file";
    options_.run = dir_ / "file" / "run";
    EXPECT_EQ(refusal(options_).first, 2);
}

TEST_F(TrainerTest, ARunInUseIsRefused) {
    fs::create_directories(options_.run);
    const RunLock lock(options_.run);
    const auto [code, message] = refusal(options_);
    EXPECT_EQ(code, 2);
    EXPECT_THAT(message, HasSubstr("in use")) << message;
}

TEST_F(TrainerTest, OnResumeFrozenKeysAreRefusedByName) {
    options_.time_budget_min = 1e-9;
    train(options_);
    options_.time_budget_min = 0;
    options_.resume = true;
    options_.config.optimizer.lr = 0.5;
    options_.config.train.seed = 77;
    const auto [code, message] = refusal(options_);
    EXPECT_EQ(code, 2);
    EXPECT_THAT(message, HasSubstr("train.seed, optimizer.lr")) << message;
    options_.config.optimizer.lr = 0.01;
    options_.config.train.seed = 1;
    options_.config.train.iterations = 3;
    EXPECT_EQ(train(options_).step, 3);
}

TEST_F(TrainerTest, OnResumeAnotherModelIsRefusedWithItsTensor) {
    options_.time_budget_min = 1e-9;
    train(options_);
    options_.resume = true;
    options_.config.model.width_divisor = 4;  // no configuration key: the tensors have to tell
    const auto [code, message] = refusal(options_);
    EXPECT_EQ(code, 3);
    EXPECT_THAT(message, HasSubstr("backbone.conv1.weight is 8x3x7x7 in the file and 16x3x7x7"))
        << message;
}

TEST_F(TrainerTest, WhereSamplesCannotStayIsSaidBeforeTheFirstStep) {
    options_.config.data.cache = "device";
    const auto [code, message] = refusal(options_);
    EXPECT_EQ(code, 2);
    EXPECT_THAT(message, HasSubstr("data.cache = \"host\"")) << message;
    EXPECT_FALSE(fs::exists(options_.run)) << "nothing was written";

    for (const bool dry : {true, false}) {
        const auto world = comm::make_self();
        FakeBackend small;
        small.decoded = true;
        small.room = 1000;
        options_.dry_run = dry;
        EXPECT_THROW(run_training(options_, small, *world, *world), DeviceError);
        EXPECT_TRUE(small.came.empty());
    }
}

}  // namespace
}  // namespace deeplab::train
