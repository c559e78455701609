// The trainer around a fake network: what it checks, refuses, writes, and how it goes on.
#include "deeplab/train/run_training.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/io/value.h"
#include "deeplab/train/run_folder.h"
#include "deeplab/train/run_lock.h"
#include "deeplab/weights/checkpoint.h"
#include "harness/fake_backend.h"
#include "harness/temp_dir.h"
#include "harness/tiny_dataset.h"

namespace deeplab::train {
namespace {

namespace fs = std::filesystem;
using deeplab::testing::FakeBackend;

class TrainerTest : public ::testing::Test {
protected:
    void SetUp() override {
        testing::write_tiny_dataset(dir_ / "data", {.split = "train", .images = 10});
        options_.config = config::parse_config(R"(
[model]
backbone = "resnet18"
[data]
train_split = "train"
val_split = "val"
crop = 33
[train]
iterations = 12
global_batch = 4
log_every = 2
[optimizer]
lr = 0.01
)",
                                               "test", {});
        options_.config.model.width_divisor = 8;
        options_.data = dir_ / "data";
        options_.run = dir_ / "run";
    }

    TrainResult train(const TrainOptions& options, std::int64_t not_finite_at = -1) {
        FakeBackend backend;
        backend.not_finite_at = not_finite_at;
        const auto world = comm::make_self();
        losses_.clear();
        TrainOptions copy = options;
        copy.on_step = [this](const StepReport& report) { losses_.push_back(report.loss); };
        return run_training(copy, backend, *world, *world);
    }

    // Exit code and message of the Error that training is refused with; 0 when it is not.
    std::pair<int, std::string> refusal(const TrainOptions& options) {
        try {
            train(options);
        } catch (const Error& error) {
            return {static_cast<int>(error.code()), error.what()};
        }
        return {0, ""};
    }

    std::vector<io::Object> metrics() const {
        std::vector<io::Object> lines;
        for (const auto& line : split(trim(read_text(dir_ / "run/metrics.jsonl")), '\n')) {
            lines.push_back(*io::parse_json(line, "metrics").get_if<io::Object>());
        }
        return lines;
    }

    testing::TempDir dir_;
    TrainOptions options_;
    std::vector<double> losses_;
};

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

// Every file below a folder, with size and time: to see that nothing was touched.
std::string listing(const fs::path& folder) {
    std::vector<std::string> lines;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
        lines.push_back(cat(entry.path().string(), " ",
                            entry.is_regular_file() ? entry.file_size() : 0, " ",
                            entry.last_write_time().time_since_epoch().count()));
    }
    std::sort(lines.begin(), lines.end());
    std::string all;
    for (const auto& line : lines) all += line + "\n";
    return all;
}

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
    for (FakeBackend* backend : {&streaming, &keeping, &first, &second}) backend->raw = true;
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
                backend.raw = kind == "decoded" || kind == "device";
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

TEST_F(TrainerTest, WhereSamplesCannotStayIsSaidBeforeTheFirstStep) {
    options_.config.data.cache = "device";
    const auto [code, message] = refusal(options_);
    EXPECT_EQ(code, 2);
    EXPECT_TRUE(contains(message, "data.cache = \"host\"")) << message;
    EXPECT_FALSE(fs::exists(options_.run)) << "nothing was written";

    for (const bool dry : {true, false}) {
        const auto world = comm::make_self();
        FakeBackend small;
        small.raw = true;
        small.room = 1000;
        options_.dry_run = dry;
        EXPECT_THROW(run_training(options_, small, *world, *world), DeviceError);
        EXPECT_TRUE(small.came.empty());
    }
}

TEST_F(TrainerTest, ARunWithACheckpointIsRefusedUntouched) {
    train(options_);
    const std::string before = listing(options_.run);
    const auto [code, message] = refusal(options_);
    EXPECT_EQ(code, 2);
    EXPECT_TRUE(contains(message, "--resume")) << message;
    EXPECT_EQ(listing(options_.run), before);
}

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
    EXPECT_TRUE(contains(told, "the run's TensorBoard log could not be written")) << told;
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
    EXPECT_TRUE(contains(warnings, "skipped: checkpoint " + last.string())) << warnings;
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
        const bool named = contains(told, "skipped: checkpoint " + newest.string());
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
    EXPECT_TRUE(contains(message, "step-0000006.h5")) << message;
    EXPECT_TRUE(contains(message, "step-0000012.h5")) << message;
    EXPECT_EQ(listing(options_.run / "checkpoints"), before);
}

TEST_F(TrainerTest, TheTimeBudgetStopsWithACheckpoint) {
    options_.time_budget_min = 1e-9;
    const TrainResult result = train(options_);
    EXPECT_EQ(result.code, ExitCode::stopped_early);
    EXPECT_EQ(result.step, 1);
    EXPECT_EQ(weights::load_checkpoint(dir_ / "run/checkpoints/latest.h5").info.step, 1);
}

TEST_F(TrainerTest, ANonFiniteStepStopsTheRunAndNamesItsImages) {
    options_.config.checkpoint.every = 3;
    try {
        train(options_, 4);
        FAIL() << "went on";
    } catch (const DeviceError& error) {
        EXPECT_TRUE(contains(error.what(), "step 5")) << error.what();
        EXPECT_TRUE(contains(error.what(), "images ")) << error.what();
    }
    EXPECT_EQ(weights::load_checkpoint(dir_ / "run/checkpoints/latest.h5").info.step, 3);
    options_.resume = true;
    EXPECT_EQ(train(options_).step, 12);
}

TEST_F(TrainerTest, WrongStartsAreRefusedBeforeAnythingIsWritten) {
    const auto expect = [&](const TrainOptions& options, int code, const std::string& part) {
        const auto [got, message] = refusal(options);
        EXPECT_EQ(got, code) << message;
        EXPECT_TRUE(contains(message, part)) << message;
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

TEST_F(TrainerTest, FrozenBatchNormAllowsABatchOfOne) {
    options_.config.train.global_batch = 1;
    options_.config.train.freeze_bn = true;
    EXPECT_EQ(train(options_).step, 12);
}

TEST_F(TrainerTest, SharedIdsAreRefusedUnlessAllowed) {
    options_.config.data.val_split = "train";
    options_.config.train.eval_every = 100;
    options_.config.train.iterations = 1;
    const auto [code, message] = refusal(options_);
    EXPECT_EQ(code, 3);
    EXPECT_TRUE(contains(message, "allow_overlap")) << message;
}

TEST_F(TrainerTest, ADamagedShardIsRefused) {
    const fs::path shard = options_.data / "train-00001-of-00002.h5";
    std::string bytes = read_text(shard);
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
    std::ofstream(shard, std::ios::binary) << bytes;
    const auto [code, message] = refusal(options_);
    EXPECT_EQ(code, 3);
    EXPECT_TRUE(contains(message, "train-00001-of-00002.h5")) << message;
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
    EXPECT_TRUE(contains(message, "in use")) << message;
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
    EXPECT_TRUE(contains(message, "train.seed, optimizer.lr")) << message;
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
    EXPECT_TRUE(contains(message, "backbone.conv1.weight is 8x3x7x7 in the file and 16x3x7x7"))
        << message;
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

TEST_F(TrainerTest, ADryRunWritesThePlanAlone) {
    options_.dry_run = true;
    ::testing::internal::CaptureStdout();
    train(options_);
    const std::string text = ::testing::internal::GetCapturedStdout();
    for (const char* part : {"resnet18", "parameters", "memory", "ranks", "rank 0", "GFLOP",
                             "\nparameters ", "\nGMAC per image "}) {
        EXPECT_TRUE(contains(text, part)) << part;
    }
    EXPECT_EQ(
        listing(options_.run),
        cat((options_.run / "plan.txt").string(), " ", fs::file_size(options_.run / "plan.txt"),
            " ", fs::last_write_time(options_.run / "plan.txt").time_since_epoch().count(), "\n"));
    EXPECT_TRUE(contains(read_text(options_.run / "plan.txt"), "Conv2d")) << "the plan is there";
    EXPECT_FALSE(contains(text, "Conv2d")) << "and not here";
}

}  // namespace
}  // namespace deeplab::train
