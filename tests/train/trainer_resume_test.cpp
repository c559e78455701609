// Runs that go on: from their checkpoints, whole or damaged, and from other weights.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include "deeplab/train/run_folder.h"
#include "deeplab/weights/checkpoint.h"
#include "trainer_fixture.h"

namespace deeplab::train {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;
using deeplab::testing::FakeBackend;

TEST_F(TrainerTest, ResumeGivesTheBitsOfTheUninterruptedRun) {
    const TrainResult whole = train(options_);
    const std::vector<double> expected = losses_;
    const auto lines = metrics();

    TrainOptions part = options_;
    part.run = dir_ / "part";
    part.resume = true;  // a job script always passes it: there is nothing to resume yet
    std::atomic<bool> stop{false};
    part.stop = &stop;
    TrainOptions first = part;
    {
        FakeBackend backend;
        const auto world = comm::make_self();
        first.on_step = [&](const StepReport& report) { stop = report.step >= 4; };
        const TrainResult stopped = run_training(first, backend, *world, *world);
        EXPECT_EQ(stopped.code, ExitCode::stopped_early);
        EXPECT_EQ(stopped.step, 5);
    }
    EXPECT_EQ(weights::load_checkpoint(part.run / "checkpoints/latest.h5").info.step, 5);
    stop = false;
    const TrainResult resumed = train(part);
    EXPECT_EQ(resumed.code, ExitCode::ok);
    EXPECT_EQ(losses_, (std::vector<double>(expected.begin() + 5, expected.end())));
    EXPECT_EQ(resumed.state_hash, whole.state_hash);

    std::vector<double> a, b;
    for (const auto& line : lines) a.push_back(*line.find("loss")->get_if<double>());
    options_.run = part.run;
    for (const auto& line : split(trim(read_text(part.run / "metrics.jsonl")), '\n')) {
        b.push_back(
            *io::parse_json(line, "metrics").get_if<io::Object>()->find("loss")->get_if<double>());
    }
    EXPECT_EQ(a, b) << "metrics.jsonl has the lines of the uninterrupted run";

    const TrainResult again = train(part);  // nothing left to do
    EXPECT_EQ(again.code, ExitCode::ok);
    EXPECT_EQ(again.step, 12);
    EXPECT_TRUE(losses_.empty());
    EXPECT_EQ(again.state_hash, whole.state_hash);
}

TEST_F(TrainerTest, CheckpointsAreKeptAsConfigured) {
    options_.config.checkpoint.every = 3;
    options_.config.checkpoint.keep = 2;
    train(options_);
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(dir_ / "run/checkpoints"))
        names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    EXPECT_EQ(names, (std::vector<std::string>{"latest.h5", "step-0000009.h5", "step-0000012.h5"}));
}

// Back to an older one, and from there the bits of a run that nothing happened to.
TEST_F(TrainerTest, ADamagedCheckpointIsSkippedAndNothingElseIsLost) {
    options_.config.checkpoint.every = 3;
    const TrainResult whole = train(options_);
    const auto lines = metrics();
    const fs::path last = checkpoint_path(options_.run, 12);
    fs::resize_file(last, fs::file_size(last) - 100);
    options_.resume = true;
    ::testing::internal::CaptureStderr();
    const TrainResult resumed = train(options_);
    const std::string warnings = ::testing::internal::GetCapturedStderr();
    EXPECT_THAT(warnings, HasSubstr("skipped: checkpoint " + last.string())) << warnings;
    EXPECT_EQ(losses_.size(), 3u) << "from step 9";
    EXPECT_EQ(resumed.state_hash, whole.state_hash);
    EXPECT_EQ(weights::load_checkpoint(last).info.step, 12);
    const auto after = metrics();
    ASSERT_EQ(after.size(), lines.size()) << "neither a gap nor a duplicate";
    for (std::size_t i = 0; i < lines.size(); ++i) {
        for (const char* key : {"step", "loss"}) {
            EXPECT_EQ(io::to_json(*after[i].find(key)), io::to_json(*lines[i].find(key)));
        }
    }
}

// Half of the flips fall where HDF5's structure and the attributes are dense, at the file's end;
// one in bytes that mean nothing may pass.
TEST_F(TrainerTest, EveryDamageOfTheNewestCheckpointIsSkippedOrHarmlessSlow) {
    options_.config.train.iterations = 4;
    options_.config.checkpoint.every = 2;
    const TrainResult whole = train(options_);
    const fs::path newest = checkpoint_path(options_.run, 4);
    const std::string bytes = read_text(newest);
    options_.resume = true;
    std::mt19937_64 source(1);
    int skipped[2] = {}, taken[2] = {};
    const auto resume_from = [&](const std::string& content, int kind) {
        std::ofstream(newest, std::ios::binary) << content;
        ::testing::internal::CaptureStderr();
        const TrainResult resumed = train(options_);
        const std::string told = ::testing::internal::GetCapturedStderr();
        EXPECT_EQ(resumed.state_hash, whole.state_hash);
        const bool named = told.find("skipped: checkpoint " + newest.string()) != std::string::npos;
        EXPECT_EQ(losses_.size(), named ? 2u : 0u) << told;
        ++(named ? skipped : taken)[kind];
    };
    const char* asked = std::getenv("DEEPLAB_DAMAGES");
    const int each = asked == nullptr ? 30 : std::stoi(asked);
    for (int i = 0; i < each; ++i) resume_from(bytes.substr(0, source() % bytes.size()), 0);
    for (int i = 0; i < each; ++i) {
        std::string flipped = bytes;
        const std::size_t last = std::min<std::size_t>(bytes.size(), 40000);
        const std::size_t at = i % 2 == 0 ? source() % bytes.size()
                                          : bytes.size() - 1 - source() % last;
        flipped[at] = static_cast<char>(flipped[at] ^ (1 << source() % 8));
        resume_from(flipped, 1);
    }
    EXPECT_EQ(skipped[0], each);
    EXPECT_GT(skipped[1], each / 2);
    std::cout << "of " << bytes.size() << " bytes; truncated: " << skipped[0]
              << " skipped; flipped: " << skipped[1] << " skipped, " << taken[1] << " harmless"
              << std::endl;
}

TEST_F(TrainerTest, WithoutAWholeCheckpointAResumeIsRefusedWithAllTheirNames) {
    options_.config.checkpoint.every = 6;
    train(options_);
    for (const std::int64_t step : {6, 12})
        fs::resize_file(checkpoint_path(options_.run, step), 99);
    options_.resume = true;
    const std::string before = listing(options_.run / "checkpoints");
    const auto [code, message] = refusal(options_);
    EXPECT_EQ(code, 3);
    EXPECT_THAT(message, HasSubstr("step-0000006.h5")) << message;
    EXPECT_THAT(message, HasSubstr("step-0000012.h5")) << message;
    EXPECT_EQ(listing(options_.run / "checkpoints"), before);
}

TEST_F(TrainerTest, TheTimeBudgetStopsWithACheckpoint) {
    options_.time_budget_min = 1e-9;
    const TrainResult result = train(options_);
    EXPECT_EQ(result.code, ExitCode::stopped_early);
    EXPECT_EQ(result.step, 1);
    EXPECT_EQ(weights::load_checkpoint(dir_ / "run/checkpoints/latest.h5").info.step, 1);
}

TEST_F(TrainerTest, InitTakesTheBestCheckpointOfARun) {
    const TrainResult before = train(options_);
    options_.init = options_.run;
    options_.run = dir_ / "second";
    options_.config.train.iterations = 1;
    options_.config.optimizer.lr = 0;
    train(options_);
    const weights::Snapshot old = weights::load_checkpoint(dir_ / "run/checkpoints/latest.h5");
    const weights::Snapshot now = weights::load_checkpoint(dir_ / "second/checkpoints/latest.h5");
    EXPECT_EQ(now.parameters, old.parameters);
    EXPECT_NE(now.momentum, old.momentum) << "a new run starts with fresh momentum";
    EXPECT_NE(state_hash(now), before.state_hash);
    std::ofstream(dir_ / "weights.pth") << "zip";
    options_.init = dir_ / "weights.pth";
    options_.run = dir_ / "third";
    EXPECT_EQ(refusal(options_).first, 3);
}

}  // namespace
}  // namespace deeplab::train
