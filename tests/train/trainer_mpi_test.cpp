// The trainer on 1, 2 and 3 ranks around a fake network: agreement, resume on other numbers of
// ranks, statistics.
#include "deeplab/train/run_training.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/train/rank_agreement.h"
#include "deeplab/weights/checkpoint.h"
#include "harness/fake_backend.h"
#include "harness/mpi.h"
#include "tiny_run.h"

namespace deeplab::train {
namespace {

namespace fs = std::filesystem;
using deeplab::testing::FakeBackend;

class TrainerRanks : public ::testing::Test {
protected:
    void SetUp() override {
        if (world().rank() == 0)
            testing::write_tiny_dataset(dir_ / "data", {.split = "train", .images = 10});
        world().barrier("data of the test");
        options_ = testing::tiny_run(dir_.path(), R"(
train = {iterations = 9, global_batch = 6, log_every = 2}
optimizer.lr = 0.01
)");
        options_.on_step = [this](const StepReport& report) { losses_.push_back(report.loss); };
    }
    void TearDown() override { world().barrier("end of the test"); }

    static comm::Communicator& world() { return testing::world(); }

    TrainResult train(const TrainOptions& options, comm::Communicator& ranks) {
        FakeBackend backend;
        backend.poisoned = poisoned_;
        losses_.clear();
        const TrainResult result = run_training(options, backend, ranks, ranks);
        ranks.barrier("end of the run");
        return result;
    }

    testing::SharedDir dir_;
    TrainOptions options_;
    std::vector<double> losses_;
    std::int64_t poisoned_ = -1;
};

// Sample 3 stands in one of the first two steps, on one rank. With its step on the list from the
// start there is nothing to go back from: the same bits show that weights, momentum and statistics
// were all restored, and that a resumed run knows the list.
TEST_F(TrainerRanks, ANonFiniteStepIsRolledBackAndSkippedOnAllRanks) {
    poisoned_ = 3;
    options_.config.train.on_nonfinite = "rollback";
    for (const std::int64_t every : {0, 1}) {
        options_.run = dir_ / cat("every", every);
        options_.config.checkpoint.every = every;
        const TrainResult result = train(options_, world());
        EXPECT_EQ(result.code, ExitCode::ok);
        EXPECT_EQ(result.step, 9);
        EXPECT_EQ(result.skipped, 1);
        const std::string list = read_text(options_.run / "nonfinite.jsonl");
        EXPECT_EQ(list.find("\"skipped\""), list.rfind("\"skipped\"")) << "one line: " << list;
        world().barrier("the list was read");
        TrainOptions known = options_;
        known.run = dir_ / cat("known", every);
        known.resume = true;
        if (world().rank() == 0) {
            fs::create_directories(known.run);
            write_atomically(known.run / "nonfinite.jsonl", list);
        }
        world().barrier("the list was written");
        const TrainResult expected = train(known, world());
        EXPECT_EQ(expected.skipped, 1);
        EXPECT_EQ(losses_.size(), 8u);
        EXPECT_EQ(result.state_hash, expected.state_hash);
        EXPECT_EQ(result.loss, expected.loss);
    }
}

// One rank has the whole batch of a step that the list of many names.
TEST_F(TrainerRanks, AnotherNumberOfRanksPassesTheSameStep) {
    poisoned_ = 3;
    options_.config.train.on_nonfinite = "rollback";
    train(options_, world());
    const std::vector<double> many(losses_.end() - 7, losses_.end());  // after that step
    if (world().rank() != 0) return;
    options_.run = dir_ / "one";
    options_.resume = true;
    fs::create_directories(options_.run);
    fs::copy_file(dir_ / "run/nonfinite.jsonl", options_.run / "nonfinite.jsonl");
    const auto self = comm::make_self();
    const TrainResult one = train(options_, *self);
    EXPECT_EQ(one.skipped, 1);
    ASSERT_EQ(losses_.size(), 8u) << "nothing was taken twice";
    for (std::size_t i = 0; i < many.size(); ++i)
        EXPECT_NEAR(many[i], losses_[i + 1], 1e-6 * many[i]) << i;
}

TEST_F(TrainerRanks, ANonFiniteStepStopsAllRanksWithItsBatchsIds) {
    poisoned_ = 3;
    EXPECT_THROW(train(options_, world()), DeviceError);
    const std::string list = read_text(options_.run / "nonfinite.jsonl");
    EXPECT_NE(list.find("\"skipped\":false"), std::string::npos) << list;
    world().barrier("the list was read");
}

TEST_F(TrainerRanks, TheLossesAreThoseOfOneRank) {
    train(options_, world());
    const std::vector<double> many = losses_;
    if (world().rank() == 0) {
        const auto self = comm::make_self();
        options_.run = dir_ / "one";
        train(options_, *self);
        ASSERT_EQ(many.size(), 9u);
        for (std::size_t i = 0; i < many.size(); ++i)
            EXPECT_NEAR(many[i], losses_[i], 1e-6 * losses_[i]) << i;
    }
}

TEST_F(TrainerRanks, AStopOnOneRankStopsAllAndResumeGoesOnBitwise) {
    const TrainResult whole = train(options_, world());
    const std::vector<double> expected = losses_;

    options_.run = dir_ / "part";
    options_.resume = true;
    std::atomic<bool> stop{false};
    if (world().rank() == world().size() - 1) options_.stop = &stop;
    TrainOptions first = options_;
    first.on_step = [&](const StepReport& report) { stop = report.step >= 3; };
    const TrainResult stopped = train(first, world());
    EXPECT_EQ(stopped.code, ExitCode::stopped_early);
    EXPECT_EQ(stopped.step, 4);
    stop = false;
    const TrainResult resumed = train(options_, world());
    EXPECT_EQ(losses_, (std::vector<double>(expected.begin() + 4, expected.end())));
    EXPECT_EQ(resumed.state_hash, whole.state_hash);
}

TEST_F(TrainerRanks, AnotherNumberOfRanksGoesOnWithinTolerance) {
    const auto self = comm::make_self();
    if (world().rank() == 0) {
        TrainOptions one = options_;
        one.run = dir_ / "one";
        train(one, *self);
    }
    const std::vector<double> expected = losses_;
    if (world().rank() == 0) {
        options_.time_budget_min = 1e-9;
        train(options_, *self);
    }
    world().barrier("first part");
    options_.time_budget_min = 0;
    options_.resume = true;
    train(options_, world());
    ASSERT_EQ(losses_.size(), 8u);
    if (world().rank() != 0) return;
    for (std::size_t i = 0; i < losses_.size(); ++i)
        EXPECT_NEAR(losses_[i], expected[i + 1], 1e-6 * expected[i + 1]) << i;
}

TEST_F(TrainerRanks, WithoutSyncBnCheckpointsHoldTheMeanOfTheStatistics) {
    options_.config.train.iterations = 1;
    train(options_, world());
    world().barrier("first run");
    const weights::Snapshot global = weights::load_checkpoint(dir_ / "run/checkpoints/latest.h5");
    options_.run = dir_ / "none";
    options_.config.train.sync_bn = config::SyncBn::none;
    train(options_, world());
    const weights::Snapshot none = weights::load_checkpoint(dir_ / "none/checkpoints/latest.h5");
    // The fake statistics are linear in the batch, so the mean over ranks is what one group would
    // hold.
    const auto& name = global.states.begin()->first;
    EXPECT_NE(global.states.at(name).front(), 0.0f);
    EXPECT_NEAR(none.states.at(name).front(), global.states.at(name).front(), 1e-6);
}

TEST_F(TrainerRanks, ABatchThatTheRanksDoNotDivideIsRefusedOnAll) {
    if (world().size() == 1) GTEST_SKIP() << "skipped: needs 2 ranks";
    options_.config.train.global_batch = 6 * world().size() + 1;
    EXPECT_THROW(train(options_, world()), UsageError);
}

TEST_F(TrainerRanks, AnErrorOfRankZeroIsThrownOnAll) {
    train(options_, world());
    world().barrier("first run");
    EXPECT_THROW(train(options_, world()), UsageError)
        << "the run has a checkpoint, which rank 0 alone looks for";
}

// The folder is lost while the run goes on: rank 0's writer alone sees it.
TEST_F(TrainerRanks, ACheckpointThatCannotBeWrittenEndsTheRunOnAllRanks) {
    const auto lose_folder_at = [this](std::int64_t step, const char* after) {
        options_.on_step = [this, step, after](const StepReport& report) {
            losses_.push_back(report.loss);
            if (world().rank() != 0 || report.step != step) return;
            while (!fs::exists(options_.run / after)) std::this_thread::yield();
            fs::rename(options_.run / "checkpoints", options_.run / "before");
            std::ofstream(options_.run / "checkpoints") << "no folder";
        };
    };
    // None was written yet: every rank sees it long before the end.
    lose_folder_at(1, "checkpoints");
    options_.config.train.iterations = 100000;
    options_.config.checkpoint.every = 2;
    EXPECT_THROW(train(options_, world()), UsageError);
    EXPECT_LT(losses_.size(), 90000u);
    // A good one is there: the run goes on and fails at its end.
    options_.run = dir_ / "second";
    options_.config.train.iterations = 9;
    lose_folder_at(3, "checkpoints/latest.h5");
    EXPECT_THROW(train(options_, world()), UsageError);
    EXPECT_EQ(losses_.size(), 9u);
    world().barrier("end of the run");
    EXPECT_EQ(weights::load_checkpoint(options_.run / "before/latest.h5").info.step, 2);
}

TEST_F(TrainerRanks, TheRankWhosePlanDiffersIsNamed) {
    if (world().size() < 3) GTEST_SKIP() << "skipped: needs 3 ranks";
    for (const int odd : {0, 2}) {
        std::string message;
        try {
            require_same_plan(world(), world().rank() == odd ? 7 : 8);
        } catch (const DeviceError& error) {
            message = error.what();
        }
        EXPECT_NE(message.find(cat("rank ", odd, " differs")), std::string::npos) << message;
    }
    EXPECT_NO_THROW(require_same_plan(world(), 5));
}

}  // namespace
}  // namespace deeplab::train
