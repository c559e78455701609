// The trainer around a fake network: what it writes, and what its steps are.
#include "deeplab/train/run_training.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "deeplab/weights/checkpoint.h"
#include "trainer_fixture.h"

namespace deeplab::train {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;
using deeplab::testing::FakeBackend;

TEST_F(TrainerTest, WritesTheRunsFolder) {
    const TrainResult result = train(options_);
    EXPECT_EQ(result.code, ExitCode::ok);
    EXPECT_EQ(result.step, 12);
    ASSERT_EQ(losses_.size(), 12u);
    EXPECT_EQ(result.loss, losses_.back());
    const weights::Snapshot last = weights::load_checkpoint(dir_ / "run/checkpoints/latest.h5");
    EXPECT_EQ(last.info.step, 12);
    EXPECT_EQ(last.info.model.num_classes, 4) << "the manifest's";
    EXPECT_EQ(state_hash(last), result.state_hash);
    const auto lines = metrics();
    ASSERT_EQ(lines.size(), 6u);
    EXPECT_EQ(*lines[0].find("step")->get_if<std::int64_t>(), 2);
    EXPECT_EQ(*lines[5].find("loss")->get_if<double>(), losses_.back());
    EXPECT_EQ(*lines[5].find("state_hash")->get_if<std::string>(), hex64(result.state_hash));
    EXPECT_EQ(lines[4].find("state_hash"), nullptr) << "only where the run ends";
    EXPECT_DOUBLE_EQ(*lines[1].find("lr")->get_if<double>(),
                     config::learning_rate(options_.config, 3));
    for (const char* key : {"images_per_s", "data_wait", "comm_exposed"})
        EXPECT_NE(lines[0].find(key), nullptr) << key;
    EXPECT_EQ(config::load_config(dir_ / "run/config.toml", {}).model.num_classes, 4);
    const io::Value environment = io::parse_json(read_text(dir_ / "run/environment.json"),
                                                 "environment");
    for (const char* key : {"version", "git_hash", "ranks", "devices"}) {
        EXPECT_NE(environment.get_if<io::Object>()->find(key), nullptr) << key;
    }
    EXPECT_EQ(*environment.get_if<io::Object>()->find("nccl")->get_if<std::string>(),
              comm::nccl_status());
    EXPECT_FALSE(fs::exists(dir_ / "run/lock"));
    EXPECT_FALSE(fs::is_empty(dir_ / "run/tensorboard"));
}

// Which sums NCCL may take, and so a GPU's bits, hangs on them.
TEST_F(TrainerTest, RecordsNcclsVariables) {
    setenv("NCCL_ALGO", "^NVLS", 1);
    setenv("NCCL_DEBUG", "", 1);
    train(options_);
    unsetenv("NCCL_ALGO");
    unsetenv("NCCL_DEBUG");
    const io::Value environment = io::parse_json(read_text(dir_ / "run/environment.json"),
                                                 "environment");
    const auto* variables = environment.get_if<io::Object>()->find("nccl_variables");
    ASSERT_NE(variables, nullptr);
    const auto& found = *variables->get_if<io::Object>();
    ASSERT_NE(found.find("NCCL_ALGO"), nullptr);
    EXPECT_EQ(*found.find("NCCL_ALGO")->get_if<std::string>(), "^NVLS");
    EXPECT_EQ(*found.find("NCCL_DEBUG")->get_if<std::string>(), "");
}

// A device waits for other ranks somewhat longer than the watchdog, which knows who is late;
// without a watchdog for as long as it takes.
TEST_F(TrainerTest, TheDevicesWaitFollowsTheWatchdog) {
    const auto world = comm::make_self();
    for (const double limit : {40.0, 0.0}) {
        FakeBackend backend;
        TrainOptions options = options_;
        options.run = dir_ / std::to_string(limit);
        options.config.train.iterations = 1;
        options.config.train.watchdog_s = limit;
        run_training(options, backend, *world, *world);
        EXPECT_EQ(backend.wait_limit_s, 1.5 * limit);
    }
}

TEST_F(TrainerTest, SamplesThatStayOnTheDeviceAreSentOnce) {
    const auto world = comm::make_self();
    TrainOptions options = options_;
    options.config.train.iterations = 20;
    FakeBackend streaming, keeping, first, second;
    for (FakeBackend* backend : {&streaming, &keeping, &first, &second}) backend->decoded = true;
    const TrainResult wanted = run_training(options, streaming, *world, *world);
    EXPECT_EQ(streaming.came, std::vector<std::int64_t>(20, 4));

    options.run = dir_ / "kept";
    options.config.data.cache = "device";
    EXPECT_EQ(run_training(options, keeping, *world, *world).state_hash, wanted.state_hash);
    EXPECT_EQ(keeping.kept.size(), 10u);
    // 10 images are 2.5 batches; the loader may be four batches ahead of what it is told.
    ASSERT_EQ(keeping.came.size(), 20u);
    EXPECT_EQ(keeping.came[1], 4);
    EXPECT_EQ(std::vector<std::int64_t>(keeping.came.begin() + 8, keeping.came.end()),
              std::vector<std::int64_t>(12, 0));

    // A resumed run's device has nothing yet.
    options.run = dir_ / "resumed";
    std::atomic<bool> stop = false;
    options.stop = &stop;
    options.on_step = [&](const StepReport& report) { stop = report.step == 11; };
    EXPECT_EQ(run_training(options, first, *world, *world).step, 12);
    options.stop = nullptr;
    options.resume = true;
    EXPECT_EQ(run_training(options, second, *world, *world).state_hash, wanted.state_hash);
    EXPECT_EQ(second.came.front(), 4);
}

// The next batch goes to the device during the step before: the state is the same with and without,
// also of micro-batches and decoded samples, before and after a resume.
TEST_F(TrainerTest, BatchesThatComeEarlyGiveTheSameBits) {
    for (const std::string kind : {"crops", "micro-batches", "decoded", "device"}) {
        TrainOptions options = options_;
        options.config.train.accumulation = kind == "micro-batches" ? 2 : 1;
        options.config.data.cache = kind == "device" ? "device" : "none";
        std::map<bool, std::uint64_t> hash;
        for (const bool early : {false, true}) {
            std::int64_t prefetched = 0;
            options.run = dir_ / (kind + (early ? " early" : " late"));
            for (const bool resumed : {false, true}) {
                FakeBackend backend;
                backend.decoded = kind == "decoded" || kind == "device";
                backend.prefetches = early;
                backend.step_time = std::chrono::milliseconds(early ? 5 : 0);
                std::atomic<bool> stop = false;
                options.stop = &stop;
                options.resume = resumed;
                options.on_step = [&](const StepReport& r) { stop = !resumed && r.step == 6; };
                const auto world = comm::make_self();
                hash[early] = run_training(options, backend, *world, *world).state_hash;
                prefetched += backend.prefetched;
            }
            EXPECT_EQ(prefetched > 0, early) << kind;
        }
        EXPECT_EQ(hash[true], hash[false]) << kind;
    }
}

// What is written to standard error meanwhile, at most what a pipe holds: no limit of a file's size
// cuts it.
class PipedErrors {
public:
    PipedErrors() : before_(dup(STDERR_FILENO)) {
        EXPECT_EQ(pipe(ends_), 0);
        dup2(ends_[1], STDERR_FILENO);
        close(ends_[1]);
    }
    ~PipedErrors() { taken(); }
    PipedErrors(const PipedErrors&) = delete;
    PipedErrors& operator=(const PipedErrors&) = delete;

    std::string taken() {
        if (before_ < 0) return "";
        dup2(before_, STDERR_FILENO);
        close(std::exchange(before_, -1));
        std::string text(std::size_t{1} << 16, '\0');
        const ssize_t count = read(ends_[0], text.data(), text.size());
        close(ends_[0]);
        text.resize(static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
        return text;
    }

private:
    int before_, ends_[2] = {-1, -1};
};

// A limit of a file's size stands for the full disk: from step 3 to 6 nothing can be appended.
TEST_F(TrainerTest, AFullDiskForAWhileLeavesNoGapInTheMetrics) {
    options_.config.train.log_every = 1;
    rlimit before{};
    ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    FakeBackend backend;
    const auto world = comm::make_self();
    options_.on_step = [&](const StepReport& report) {
        rlimit now = before;
        if (report.step >= 3 && report.step <= 6)
            now.rlim_cur = fs::file_size(dir_ / "run/metrics.jsonl") + 7;
        EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &now), 0);
    };
    PipedErrors errors;
    const TrainResult result = run_training(options_, backend, *world, *world);
    const std::string told = errors.taken();
    std::signal(SIGXFSZ, handler);
    EXPECT_EQ(result.code, ExitCode::ok);
    EXPECT_EQ(result.step, 12);
    const auto lines = metrics();
    ASSERT_EQ(lines.size(), 12u);
    for (std::size_t i = 0; i < lines.size(); ++i)
        EXPECT_EQ(*lines[i].find("step")->get_if<std::int64_t>(), static_cast<std::int64_t>(i) + 1);
    const auto first = told.find("the run's metrics.jsonl could not be written");
    EXPECT_NE(first, std::string::npos) << told;
    EXPECT_EQ(told.find("the run's metrics.jsonl could not be written", first + 1),
              std::string::npos)
        << "once: " << told;
    EXPECT_THAT(told, HasSubstr("the run's TensorBoard log could not be written")) << told;
}

TEST_F(TrainerTest, AccumulationIsTheSameStep) {
    train(options_);
    const std::vector<double> expected = losses_;
    options_.run = dir_ / "other";
    options_.config.train.accumulation = 4;
    options_.config.train.freeze_bn = true;
    train(options_);
    ASSERT_EQ(losses_.size(), expected.size());
    for (std::size_t i = 0; i < losses_.size(); ++i)
        EXPECT_NEAR(losses_[i], expected[i], 1e-5 * expected[i]);
}

TEST_F(TrainerTest, ANonFiniteStepStopsTheRunAndNamesItsImages) {
    options_.config.checkpoint.every = 3;
    try {
        train(options_, 4);
        FAIL() << "went on";
    } catch (const DeviceError& error) {
        EXPECT_THAT(error.what(), HasSubstr("step 5")) << error.what();
        EXPECT_THAT(error.what(), HasSubstr("images ")) << error.what();
    }
    EXPECT_EQ(weights::load_checkpoint(dir_ / "run/checkpoints/latest.h5").info.step, 3);
    options_.resume = true;
    EXPECT_EQ(train(options_).step, 12);
}

TEST_F(TrainerTest, FrozenBatchNormAllowsABatchOfOne) {
    options_.config.train.global_batch = 1;
    options_.config.train.freeze_bn = true;
    EXPECT_EQ(train(options_).step, 12);
}

TEST_F(TrainerTest, ADryRunWritesThePlanAlone) {
    options_.dry_run = true;
    ::testing::internal::CaptureStdout();
    train(options_);
    const std::string text = ::testing::internal::GetCapturedStdout();
    for (const char* part : {"resnet18", "parameters", "memory", "ranks", "rank 0", "GFLOP",
                             "\nparameters ", "\nGMAC per image "}) {
        EXPECT_THAT(text, HasSubstr(part)) << part;
    }
    EXPECT_EQ(
        listing(options_.run),
        cat((options_.run / "plan.txt").string(), " ", fs::file_size(options_.run / "plan.txt"),
            " ", fs::last_write_time(options_.run / "plan.txt").time_since_epoch().count(), "\n"));
    EXPECT_THAT(read_text(options_.run / "plan.txt"), HasSubstr("Conv2d")) << "the plan is there";
    EXPECT_THAT(text, Not(HasSubstr("Conv2d"))) << "and not here";
}

}  // namespace
}  // namespace deeplab::train
