// Evaluations of a run around a fake network: the step is safe before, a stop and the time budget
// are heard between images, and the run that goes on makes up for what was cut.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/io/value.h"
#include "deeplab/train/run_folder.h"
#include "deeplab/train/run_training.h"
#include "deeplab/weights/checkpoint.h"
#include "harness/fake_backend.h"
#include "harness/temp_dir.h"
#include "tiny_run.h"

namespace deeplab::train {
namespace {

namespace fs = std::filesystem;
using deeplab::testing::FakeBackend;
using ::testing::HasSubstr;

constexpr std::int64_t images = 40;  // of the evaluation

class TrainerEvaluation : public ::testing::Test {
protected:
    void SetUp() override {
        testing::write_tiny_dataset(dir_ / "data", {.split = "train", .images = 8});
        testing::write_tiny_dataset(dir_ / "data",
                                    {.split = "val", .images = images, .shards = 1, .seed = 2});
        options_ = testing::tiny_run(dir_.path(), R"(data.val_split = "val"
data.allow_overlap = true
train = {iterations = 8, global_batch = 4, log_every = 1, eval_every = 4}
optimizer.lr = 0.01
)");
        options_.resume = true;
    }

    TrainResult train(FakeBackend& backend) {
        const auto world = comm::make_self();
        return run_training(options_, backend, *world, *world);
    }
    TrainResult train() {
        FakeBackend backend;
        return train(backend);
    }

    // Trains until the `image`-th image of an evaluation, counted over all, is asked for a stop.
    TrainResult train_until(std::int64_t image) {
        std::atomic<bool> stop{false};
        FakeBackend backend;
        backend.on_inference = [&](std::int64_t i) { stop = stop || i == image; };
        options_.stop = &stop;
        const TrainResult result = train(backend);
        options_.stop = nullptr;
        judged_ = backend.inferences;
        return result;
    }

    // Message of the Error that training ends with; its code in code_.
    std::string failure(FakeBackend& backend) {
        try {
            train(backend);
        } catch (const Error& error) {
            code_ = error.code();
            return error.what();
        }
        return "";
    }

    // "step" or "step val mIoU" of every line of metrics.jsonl.
    std::vector<std::string> lines() const {
        std::vector<std::string> all;
        for (const auto& line : split(trim(read_text(options_.run / "metrics.jsonl")), '\n')) {
            const io::Value value = io::parse_json(line, "metrics");
            const auto& object = *value.get_if<io::Object>();
            std::string text = io::to_json(*object.find("step"));
            if (const auto* miou = object.find("miou")) text += " val " + io::to_json(*miou);
            all.push_back(text);
        }
        return all;
    }
    std::string best() const {
        return fs::read_symlink(options_.run / "checkpoints/best.h5").filename().string();
    }
    weights::Snapshot checkpoint(std::int64_t step) const {
        return weights::load_checkpoint(checkpoint_path(options_.run, step));
    }

    testing::TempDir dir_;
    TrainOptions options_;
    std::int64_t judged_ = 0;
    ExitCode code_ = ExitCode::ok;
};

TEST_F(TrainerEvaluation, ItsStepIsInACheckpointBeforeTheFirstImage) {
    FakeBackend backend;
    std::vector<bool> there;
    backend.on_inference = [&](std::int64_t image) {
        if (image == 0) there.push_back(fs::exists(checkpoint_path(options_.run, 4)));
    };
    train(backend);
    EXPECT_EQ(there, std::vector<bool>{true});
    EXPECT_EQ(backend.inferences, 2 * images);
    EXPECT_FALSE(fs::exists(options_.run / "evaluating"));
}

TEST_F(TrainerEvaluation, AStopWithinItEndsTheRunAtThatStepAndIsMadeUpFor) {
    const TrainResult whole = train();
    const auto expected = lines();
    const std::string expected_best = best();

    options_.run = dir_ / "part";
    const TrainResult first = train_until(2);
    EXPECT_EQ(first.code, ExitCode::stopped_early);
    EXPECT_EQ(first.step, 4) << "no further step";
    EXPECT_EQ(judged_, 3) << "no further image";
    EXPECT_EQ(lines().size(), 4u) << "no line of the evaluation";
    EXPECT_EQ(state_hash(checkpoint(4)), first.state_hash);
    EXPECT_FALSE(fs::exists(options_.run / "evaluating"));

    const TrainResult second = train_until(images +
                                           5);  // the first is made up for, this one is cut
    EXPECT_EQ(second.code, ExitCode::stopped_early);
    EXPECT_EQ(second.step, 8);
    EXPECT_EQ(judged_, images + 6);
    const TrainResult last = train();
    EXPECT_EQ(last.code, ExitCode::ok);
    EXPECT_EQ(last.step, 8);
    EXPECT_EQ(last.state_hash, whole.state_hash);
    EXPECT_EQ(last.miou, whole.miou);
    EXPECT_EQ(lines(), expected) << "neither a gap nor a duplicate";
    EXPECT_EQ(best(), expected_best);
}

TEST_F(TrainerEvaluation, AStopAtTheLastImageTakesNoFurtherStep) {
    const TrainResult first = train_until(images - 1);
    EXPECT_EQ(first.code, ExitCode::stopped_early);
    EXPECT_EQ(first.step, 4);
    EXPECT_EQ(lines().size(), 5u) << "the evaluation was complete";
    EXPECT_EQ(best(), "step-0000004.h5");
    EXPECT_EQ(train_until(-1).code, ExitCode::ok);
    EXPECT_EQ(judged_, images) << "it is not repeated";
}

// 40 images of 20 ms: the first four show that a budget of 0.4 s does not suffice.
TEST_F(TrainerEvaluation, TheTimeBudgetCountsItAndSaysWhenItNeverSuffices) {
    FakeBackend backend;
    const auto slow = [](std::int64_t) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    };
    backend.on_inference = slow;
    options_.time_budget_min = 0.4 / 60;
    const TrainResult first = train(backend);
    EXPECT_EQ(first.code, ExitCode::stopped_early);
    EXPECT_GE(first.step, 1);
    EXPECT_LE(first.step, 4);
    EXPECT_LT(backend.inferences, 12);
    options_.time_budget_min = 0;
    options_.run = dir_ / "second";
    EXPECT_EQ(train_until(0).step, 4);
    options_.time_budget_min = 0.4 / 60;
    FakeBackend again;
    again.on_inference = slow;
    const std::string message = failure(again);
    EXPECT_EQ(code_, ExitCode::usage);
    EXPECT_THAT(message, HasSubstr("the evaluation of step 4 takes longer than the time budget"));
    EXPECT_THAT(message, HasSubstr("eval_every=0"));
    EXPECT_LT(again.inferences, 30);
    options_.config.train.eval_every = 0;
    options_.time_budget_min = 0;
    EXPECT_EQ(train().step, 8);
}

// The first takes its 0.8 s of a budget of 1.4: there is no room for the second.
TEST_F(TrainerEvaluation, OneThatWouldTakeTooLongIsNotBegun) {
    FakeBackend backend;
    backend.on_inference = [](std::int64_t) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    };
    options_.time_budget_min = 1.4 / 60;
    const TrainResult result = train(backend);
    EXPECT_EQ(result.code, ExitCode::stopped_early);
    EXPECT_LE(backend.inferences, images);
    EXPECT_TRUE(fs::exists(checkpoint_path(options_.run, result.step)));
}

TEST_F(TrainerEvaluation, OneThatDoesNotFitIntoMemoryLosesNoStep) {
    FakeBackend small;
    small.largest_area = 80 * 80;
    const std::string message = failure(small);
    EXPECT_EQ(code_, ExitCode::device);
    for (const char* part : {"the evaluation of step 4 failed: split val, record 0", " of 90x72: ",
                             "The checkpoint of that step is written", "eval_every=0"})
        EXPECT_THAT(message, HasSubstr(part));
    EXPECT_EQ(checkpoint(4).info.step, 4);
    // The next start says so at once, and without evaluations the run goes on.
    FakeBackend again;
    again.largest_area = 80 * 80;
    EXPECT_THAT(failure(again), HasSubstr("the evaluation of step 4 failed"));
    options_.config.train.eval_every = 0;
    EXPECT_EQ(train().step, 8);
}

TEST_F(TrainerEvaluation, OneThatWasKilledIsToldOfByTheNextStart) {
    train_until(0);
    ::testing::internal::CaptureStderr();
    train_until(0);
    EXPECT_THAT(::testing::internal::GetCapturedStderr(), Not(HasSubstr("without a word")));
    std::ofstream(options_.run / "evaluating") << "4\n";
    ::testing::internal::CaptureStderr();
    EXPECT_EQ(train().step, 8);
    EXPECT_THAT(::testing::internal::GetCapturedStderr(),
                HasSubstr("ended without a word while it evaluated step 4"));
    EXPECT_FALSE(fs::exists(options_.run / "evaluating"));
}

// Killed after the line of the evaluation, before its checkpoint had become the best.
TEST_F(TrainerEvaluation, ABestCheckpointThatWasNotLinkedIsLinkedByTheNextStart) {
    train_until(images - 1);
    ASSERT_EQ(best(), "step-0000004.h5");
    weights::Snapshot before = checkpoint(4);
    EXPECT_GT(before.info.best_miou, 0);
    const double miou = before.info.best_miou;
    before.info.best_miou = -1;
    weights::save_checkpoint(checkpoint_path(options_.run, 4), before);
    fs::remove(options_.run / "checkpoints/best.h5");
    options_.config.train.iterations = 5;
    options_.config.train.eval_every = 4;
    train_until(0);
    EXPECT_EQ(best(), "step-0000004.h5");
    EXPECT_EQ(checkpoint(4).info.best_miou, miou);
}

// The launcher is about to kill the process in the middle of step 6.
TEST_F(TrainerEvaluation, ALastCallSavesTheStepBeforeWhileTheNextIsUnderWay) {
    options_.config.train.eval_every = 0;
    std::atomic<bool> stop{false}, last_call{false};
    options_.stop = &stop;
    options_.on_step = [&](const StepReport& report) { stop = report.step == 4; };
    EXPECT_EQ(train().step, 5);
    const std::uint64_t expected = state_hash(checkpoint(5));

    options_.run = dir_ / "called";
    options_.last_call = &last_call;
    stop = false;
    options_.on_step = [&](const StepReport& report) { last_call = report.step == 5; };
    EXPECT_EQ(train().step, 8) << "it goes on for as long as it may";
    EXPECT_EQ(state_hash(checkpoint(5)), expected);
    EXPECT_EQ(checkpoint(5).info.step, 5);
}

}  // namespace
}  // namespace deeplab::train
