// deeplab-train as a user runs it: exit codes and messages of interface.md.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/cuda/cuda_backend.h"
#include "deeplab/data/shard.h"
#include "deeplab/io/value.h"
#include "deeplab/train/run_lock.h"
#include "tiny_training.h"

namespace deeplab {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;
using testing::ProcessResult;

class DeeplabTrain : public testing::TinyTraining {
protected:
    void SetUp() override {
        prepare(R"(data.val_split = "val"
train = {iterations = 4, global_batch = 4, log_every = 1}
optimizer.lr = 0.01
)");
        testing::write_tiny_dataset(dir_ / "data",
                                    {.split = "val", .images = 3, .shards = 1, .seed = 2});
    }

    ProcessResult train(const std::vector<std::string>& more = {}) const {
        return testing::run_process(command(more));
    }

    void refused(const ProcessResult& result, int code, const std::string& part) const {
        EXPECT_EQ(result.exit_code, code) << result.both();
        EXPECT_THAT(result.err, HasSubstr(part)) << result.both();
    }
};

// The loss would be 0 from the first step, and the first evaluation would save it as the best.
TEST_F(DeeplabTrain, ASplitWithoutLabelsIsNotTrainedOn) {
    const auto of = [&](const char* split, std::vector<std::int64_t> pixels) {
        data::Manifest m = data::load_manifest(dir_ / "data", split);
        m.class_pixels = std::move(pixels);
        data::save_manifest(dir_ / "data", m);
    };
    const auto refused = [&](const std::string& reason) {
        const ProcessResult result = testing::run_process(command({"--set", "train.eval_every=2"}));
        EXPECT_EQ(result.exit_code, 3) << result.both();
        EXPECT_THAT(result.err, HasSubstr(reason)) << result.both();
    };
    of("val", {0, 0, 0, 0});
    refused("in the split val every pixel is ignored");
    of("val", {0, 7, 0, 0});  // a hard set may have one class
    of("train", {9, 0, 0, 0});
    refused("in the split train only one class occurs");
    of("train", {0, 0, 0, 0});
    refused("in the split train every pixel is ignored");
    EXPECT_FALSE(fs::exists(dir_ / "run" / "checkpoints" / "best.h5"));
}

TEST_F(DeeplabTrain, TrainsAndGoesOnOnAnotherNumberOfRanks) {
    ProcessResult result = train({"--set", "train.eval_every=4"});
    ASSERT_EQ(result.exit_code, 0) << result.both();
    EXPECT_THAT(result.out, HasSubstr("done: step 4  loss ")) << result.out;
    EXPECT_THAT(result.out, HasSubstr("mIoU 0.")) << result.out;

    const std::string before = read_text(dir_ / "run/metrics.jsonl");
    refused(train(), 2, "--resume");
    EXPECT_EQ(read_text(dir_ / "run/metrics.jsonl"), before);

    result = testing::run_process(testing::with_ranks(
        2, command({"--resume", "--set", "train.iterations=6", "--set", "train.eval_every=4"})));
    ASSERT_EQ(result.exit_code, 0) << result.both();
    EXPECT_THAT(result.out, HasSubstr("done: step 6")) << result.both();
    result = testing::run_process(
        command({"--resume", "--set", "train.iterations=6", "--set", "train.eval_every=4"}));
    EXPECT_THAT(result.out, HasSubstr("done: step 6  loss of no step")) << result.both();

    refused(train({"--resume", "--set", "optimizer.lr=1"}), 2, "optimizer.lr");
    refused(train({"--resume", "--set", "train.global_batch=8"}), 2, "train.global_batch");
}

TEST_F(DeeplabTrain, WritesAReportAndTheReporterMakesTheSame) {
    ProcessResult result = train({"--set", "train.eval_every=4"});
    ASSERT_EQ(result.exit_code, 0) << result.both();
    const std::string page = read_text(dir_ / "run/report/index.html");
    for (const char* part : {"step 4 of 4", "mean IoU, last", "data:image/jpeg", "state hash"})
        EXPECT_THAT(page, HasSubstr(part)) << part;
    EXPECT_TRUE(fs::exists(dir_ / "run/report/confusion.svg"));

    const auto report = [&](std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), testing::program("deeplab-report"));
        return testing::run_process(arguments);
    };
    result = report({dir_ / "run", "--out", dir_ / "again"});
    ASSERT_EQ(result.exit_code, 0) << result.both();
    EXPECT_EQ(read_text(dir_ / "again/index.html"), page);
    result = report({dir_ / "run", dir_ / "run", "--out", dir_ / "both"});
    ASSERT_EQ(result.exit_code, 0) << result.both();
    EXPECT_THAT(read_text(dir_ / "both/index.html"), HasSubstr("Comparison of 2 runs"));
    refused(report({dir_ / "run", dir_ / "run"}), 2, "--out");
    refused(report({dir_ / "nowhere"}), 2, "there is no run");
}

TEST_F(DeeplabTrain, SlowAReportThatCannotBeWrittenIsAWarning) {
    fs::create_directories(dir_ / "run");
    std::ofstream(dir_ / "run/report") << "in the way";
    const ProcessResult result = train({"--set", "train.eval_every=4"});
    EXPECT_EQ(result.exit_code, 0) << result.both();
    EXPECT_THAT(result.both(), HasSubstr("the run's report could not be written")) << result.both();
    EXPECT_TRUE(fs::exists(dir_ / "run/checkpoints/latest.h5"));
}

// Two ranks, each with a command of its own; what they would exchange depends on what differs. Not
// by ":" between commands: mpirun of Debian 13 (PRRTE 3.0.8) crashes on it.
TEST_F(DeeplabTrain, RanksThatWereStartedUnlikeAreRefused) {
    if (!testing::have_mpirun()) GTEST_SKIP() << "skipped: no mpirun";
    const auto unlike = [&](const std::vector<std::string>& second) {
        std::string first_or_second = "[ \"$OMPI_COMM_WORLD_RANK\" = 0 ] && exec";
        for (const auto& word : command({})) first_or_second += " '" + word + "'";
        first_or_second += "; exec";
        for (const auto& word : command(second)) first_or_second += " '" + word + "'";
        return testing::run_process(testing::with_ranks(2, {"sh", "-c", first_or_second}),
                                    {.environment = {}, .directory = "", .timeout_s = 30});
    };
    refused(unlike({"--set", "train.watchdog_s=0"}), 2, "train.watchdog_s is 0.0 on rank 1 (");
    refused(unlike({"--set", "train.iterations=5"}), 2, "train.iterations is 5 on rank 1 (");
    refused(unlike({"--config", (dir_ / "nowhere.toml").string()}), 2, "nowhere.toml");
    EXPECT_FALSE(fs::exists(dir_ / "run/checkpoints"));
    // --device may differ, and what it says is done: no rank waits for the other's devices.
    const ProcessResult trained = unlike({"--device", "cpu"});
    EXPECT_EQ(trained.exit_code, 0) << trained.both();
}

TEST_F(DeeplabTrain, RefusesWrongInput) {
    refused(train({"--data", (dir_ / "nowhere").string()}), 3, "nowhere");
    refused(train({"--set", "train.iteration=3"}), 2, "train.iterations");
    refused(train({"--device", "cpu", "--set", "train.precision=tf32"}), 2, "needs --device cuda");
    refused(train({"--set", "model.num_classes=21"}), 2, "21");
    refused(testing::run_process(testing::with_ranks(3, command({}))), 2, "not divisible");
    refused(train({"--bogus"}), 2, "--bogus");
    refused(train({"--trace", "t.json", "--dry-run"}), 2, "--trace");
    refused(train({"--device", "tpu"}), 2, "tpu");
    refused(train({"--comm", "nccl", "--device", "cpu"}), 2, "nccl");
    std::ofstream(dir_ / "file") << "a file";
    refused(train({"--out", (dir_ / "file" / "run").string()}), 2, "file/run");
    std::ofstream(dir_ / "weights.h5") << "not HDF5";
    refused(train({"--init", (dir_ / "weights.h5").string()}), 3, "weights.h5");
    EXPECT_FALSE(fs::exists(dir_ / "run/checkpoints/latest.h5"));
}

// Also of a build with CUDA, on a machine without a driver: it starts, says so, and --device auto
// (every other test here) runs on the CPU.
TEST_F(DeeplabTrain, ADeviceThatIsNotThereIsExitCode4) {
    if (cuda::availability().devices > 0) GTEST_SKIP() << "skipped: there is a GPU";
    refused(train({"--device", "cuda"}), 4, "--device cuda cannot be used: CUDA backend: ");
    refused(testing::run_process(testing::with_ranks(2, command({"--device", "cuda"}))), 4,
            "--device cuda cannot be used");
    refused(train({"--comm", "nccl"}), 2, "--comm mpi");
    EXPECT_FALSE(fs::exists(dir_ / "run/checkpoints"));
}

TEST_F(DeeplabTrain, ACheckpointOfAnotherModelIsRefusedWithItsTensor) {
    ASSERT_EQ(train({"--set", "train.iterations=1", "--set", "model.backbone=resnet18"}).exit_code,
              0);
    const ProcessResult result = train({"--init", (dir_ / "run").string(), "--out",
                                        (dir_ / "other").string(), "--set",
                                        "model.backbone=resnet50"});
    refused(result, 3, "backbone.layer1.0.conv1.weight is 64x64x3x3 in the file and 64x64x1x1");
}

TEST_F(DeeplabTrain, ARunInUseIsRefused) {
    fs::create_directories(dir_ / "run");
    const train::RunLock lock(dir_ / "run");
    refused(train(), 2, "in use by a live job");
}

TEST_F(DeeplabTrain, SlowTheTimeBudgetGives75) {
    const ProcessResult result = train({"--time-budget", "0.0001"});
    EXPECT_EQ(result.exit_code, 75) << result.both();
    EXPECT_TRUE(fs::exists(dir_ / "run/checkpoints/latest.h5"));
    EXPECT_EQ(train({"--resume"}).exit_code, 0);
}

TEST_F(DeeplabTrain, TheDryRunSaysWhatItWouldDo) {
    ProcessResult result = train({"--dry-run"});
    EXPECT_EQ(result.exit_code, 0) << result.both();
    for (const char* part : {"network", "\nparameters 5", "\nGMAC per image ", "memory", "ranks",
                             "nothing else was written"}) {
        EXPECT_THAT(result.out, HasSubstr(part)) << part << result.both();
    }
    EXPECT_THAT(result.out, Not(HasSubstr("Conv2dGradData"))) << "the plan is for its file";
    EXPECT_THAT(read_text(dir_ / "run/plan.txt"), HasSubstr("Conv2dGradData"));
    fs::remove_all(dir_ / "run");
    result = train({"--dry-run", "--verbose"});
    EXPECT_EQ(result.exit_code, 0) << result.both();
    EXPECT_THAT(result.out, HasSubstr("Conv2dGradData")) << result.both();
    EXPECT_FALSE(fs::exists(dir_ / "run"));
    refused(train({"--verbose"}), 2, "--dry-run");
}

// For scripts: stdout is one JSON object, on any number of ranks, and nothing is written.
TEST_F(DeeplabTrain, TheDryRunAsJsonSaysWhatARunNeeds) {
    const auto needs = [&](const ProcessResult& result) {
        EXPECT_EQ(result.exit_code, 0) << result.both();
        const io::Value json = io::parse_json(result.out, "the needs of a run");
        const auto* object = json.get_if<io::Object>();
        EXPECT_NE(object, nullptr) << result.out;
        return object == nullptr ? io::Object() : *object;
    };
    const auto whole = [](const io::Object& object, const char* key) {
        const io::Value* value = object.find(key);
        const auto* number = value == nullptr ? nullptr : value->get_if<std::int64_t>();
        EXPECT_NE(number, nullptr) << key;
        return number == nullptr ? -1 : *number;
    };
    const io::Object one = needs(train({"--dry-run", "--json", "--device", "cpu"}));
    EXPECT_FALSE(fs::exists(dir_ / "run"));
    const std::string text = train({"--dry-run", "--device", "cpu"}).out;
    EXPECT_THAT(text, HasSubstr(cat("\nparameters ", whole(one, "parameters"), "\n")));
    const double* gmac = one.find("gmac_per_image")->get_if<double>();
    ASSERT_NE(gmac, nullptr);
    EXPECT_THAT(text, HasSubstr(cat("\nGMAC per image ", fixed(*gmac, 3), "\n")));
    EXPECT_THAT(text, HasSubstr(*one.find("plan_hash")->get_if<std::string>()));
    EXPECT_EQ(whole(one, "ranks"), 1);
    EXPECT_EQ(whole(one, "micro_batch"), 4);
    EXPECT_EQ(whole(one, "iterations"), 4);
    EXPECT_EQ(whole(one, "val_images"), 0) << "of a run that does not evaluate";
    EXPECT_EQ(whole(one, "memory_device_bytes"), 0);
    EXPECT_GT(whole(one, "memory_host_bytes"), 12 * whole(one, "parameters"));
    EXPECT_EQ(whole(one, "checkpoints_at_once"), 5);
    EXPECT_EQ(whole(one, "checkpoint_bytes_to_come"), 5 * whole(one, "checkpoint_bytes"));
    EXPECT_GT(whole(one, "checkpoint_bytes_free"), 0);

    // Half the batch a rank, on GPUs that are not here, and a checkpoint that is.
    fs::remove_all(dir_ / "run");
    fs::create_directories(dir_ / "run/checkpoints");
    std::ofstream(dir_ / "run/checkpoints/step-0000002.h5") << "one";
    const io::Object two = needs(testing::run_process(testing::with_ranks(
        2, command({"--dry-run", "--json", "--device", "cuda", "--set", "train.eval_every=2"}))));
    EXPECT_EQ(whole(two, "ranks"), 2);
    EXPECT_EQ(whole(two, "micro_batch"), 2);
    EXPECT_EQ(whole(two, "val_images"), 3);
    EXPECT_EQ(whole(two, "memory_host_bytes"), 0);
    EXPECT_LT(whole(two, "memory_device_bytes"), whole(one, "memory_host_bytes"));
    EXPECT_EQ(whole(two, "checkpoint_bytes_to_come"), 4 * whole(two, "checkpoint_bytes"));
    EXPECT_FALSE(fs::exists(dir_ / "run/plan.txt"));

    const io::Object keys = needs(
        testing::run_process({testing::program("deeplab-train"), "--keys", "--json", "--config",
                              (dir_ / "config.toml").string(), "--set", "train.iterations=7"}));
    EXPECT_EQ(whole(keys, "train.iterations"), 7);
    EXPECT_EQ(*keys.find("model.backbone")->get_if<std::string>(), "mobilenet_v2");
    EXPECT_EQ(whole(keys, "checkpoint.keep"), 3) << "a default";

    refused(train({"--json"}), 2, "--json is of --dry-run");
    refused(train({"--dry-run", "--json", "--verbose"}), 2, "--verbose");
    refused(train({"--dry-run", "--json", "--data", "nowhere"}), 3, "nowhere");
}

// All that comes before the first step, on both streams, also of a run that goes on or starts from
// weights.
TEST_F(DeeplabTrain, AtMostFifteenLinesComeBeforeTheFirstStep) {
    const auto lines = [](const ProcessResult& result) {
        EXPECT_EQ(result.exit_code, 0) << result.both();
        const std::string before = result.err.substr(0, result.err.find("\nstep ") + 1);
        const std::string told = result.out.substr(0, result.out.find("done: "));
        return std::count(before.begin(), before.end(), '\n') +
               std::count(told.begin(), told.end(), '\n');
    };
    EXPECT_LE(lines(train({"--set", "train.iterations=1"})), 15);
    EXPECT_LE(lines(train({"--resume", "--set", "train.iterations=2"})), 15);
    EXPECT_LE(lines(train({"--init", dir_ / "run", "--reset-classifier", "--out", dir_ / "second",
                           "--set", "train.iterations=1"})),
              15);
    EXPECT_LE(lines(testing::run_process(testing::with_ranks(
                  2, command({"--out", dir_ / "third", "--set", "train.iterations=1"})))),
              15);
    EXPECT_THAT(read_text(dir_ / "third/plan.txt"), HasSubstr("Conv2dGradData"));
}

TEST_F(DeeplabTrain, HelpHasAnExample) {
    const ProcessResult result = testing::run_process(
        {testing::program("deeplab-train"), "--help"});
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_THAT(result.out, HasSubstr("--dry-run")) << result.both();
    EXPECT_THAT(result.out, HasSubstr("jobs/configs/quickstart_cpu.toml")) << result.out;
}

}  // namespace
}  // namespace deeplab
