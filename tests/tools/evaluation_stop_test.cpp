// SIGTERM one second into an evaluation of the real network, as Slurm sends it: exit code 75 within
// seconds, the checkpoint of that step, and a run that goes on to the same bits. On generated
// pictures, and on PASCAL VOC's where DEEPLAB_TEST_DATA names them.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/report/metrics_log.h"
#include "deeplab/weights/checkpoint.h"
#include "harness/process.h"
#include "harness/temp_dir.h"

namespace deeplab {
namespace {

namespace fs = std::filesystem;
using testing::ProcessResult;

class SlowEvaluationStop : public ::testing::Test {
protected:
    void configure(const std::string& train) {
        std::ofstream(dir_ / "config.toml") << R"([model]
backbone = "resnet18"
[data]
train_split = ")" << train << R"("
val_split = "val"
crop = 65
resize = {mode = "none"}
[train]
iterations = 4
global_batch = 2
log_every = 1
eval_every = 2
)";
    }
    std::vector<std::string> command(const std::string& run,
                                     const std::vector<std::string>& more) const {
        std::vector<std::string> all = {testing::program("deeplab-train"),
                                        "--config",
                                        dir_ / "config.toml",
                                        "--data",
                                        dir_ / "data",
                                        "--out",
                                        dir_ / run,
                                        "--threads",
                                        "1",
                                        "--device",
                                        "cpu",
                                        "--resume"};
        all.insert(all.end(), more.begin(), more.end());
        return all;
    }
    void pack(const std::string& voc, const std::string& split,
              const std::vector<std::string>& more) const {
        std::vector<std::string> all = {testing::program("deeplab-pack"),
                                        "--voc",
                                        voc,
                                        "--split",
                                        split,
                                        "--out",
                                        dir_ / "data"};
        all.insert(all.end(), more.begin(), more.end());
        const ProcessResult result = testing::run_process(all);
        ASSERT_EQ(result.exit_code, 0) << result.both();
    }
    static std::string state(const ProcessResult& result) {
        const auto at = result.out.find("  state ");
        return at == std::string::npos ? "" : trim(result.out.substr(at + 8));
    }

    // `ranks` ranks; rank 0 gets the signal one second after the evaluation has begun.
    void stop_within(int ranks) {
        const std::string run = cat("run", ranks);
        std::vector<std::string> script = {
            "sh", "-c",
            "me=$$; if [ \"${OMPI_COMM_WORLD_RANK:-0}\" = 0 ]; then { until [ -e "
            "\"$RUN/evaluating\" "
            "]; do sleep 0.05; done; sleep 1; date +%s.%N > \"$RUN/told\"; kill -TERM $me; } "
            "</dev/null >/dev/null 2>&1 & fi; exec \"$@\"",
            "sh"};
        const auto program = command(run, {});
        script.insert(script.end(), program.begin(), program.end());
        const ProcessResult cut = testing::run_process(
            testing::with_ranks(ranks, script),
            {.environment = {cat("RUN=", (dir_ / run).string())},
             .directory = "",
             .timeout_s = 120});
        const double ended = std::chrono::duration<double>(
                                 std::chrono::system_clock::now().time_since_epoch())
                                 .count();
        EXPECT_EQ(cut.exit_code, 75) << cut.both();
        double told = 0;
        std::ifstream(dir_ / run / "told") >> told;
        ASSERT_GT(told, 0) << cut.both();
        EXPECT_LT(ended - told, 10) << cut.both();
        const weights::Snapshot saved = weights::load_checkpoint(dir_ / run /
                                                                 "checkpoints/latest.h5");
        EXPECT_EQ(saved.info.step, 2) << "that of the evaluation, and no step more";
        EXPECT_FALSE(report::MetricsLog(dir_ / run / "metrics.jsonl", 2).miou(2).has_value());

        const std::vector<std::string> on = {"--set", "train.eval_every=0"};
        const ProcessResult whole = testing::run_process(
            testing::with_ranks(ranks, command(cat("whole", ranks), on)));
        const ProcessResult resumed = testing::run_process(
            testing::with_ranks(ranks, command(run, on)));
        EXPECT_EQ(resumed.exit_code, 0) << resumed.both();
        EXPECT_NE(state(whole), "") << whole.both();
        EXPECT_EQ(state(resumed), state(whole)) << resumed.both();
    }

    testing::TempDir dir_;
};

TEST_F(SlowEvaluationStop, OnGeneratedPictures) {
    const ProcessResult made = testing::run_process({testing::program("deeplab-make-shapes"),
                                                     "--out", dir_ / "voc", "--train", "4", "--val",
                                                     "40", "--size", "500x375"});
    ASSERT_EQ(made.exit_code, 0) << made.both();
    for (const char* split : {"train", "val"})
        pack(dir_ / "voc", split, {"--classes", dir_ / "voc/classes.toml"});
    configure("train");
    stop_within(1);
    if (testing::have_mpirun()) stop_within(2);
}

TEST_F(SlowEvaluationStop, OnTheRealOnes) {
    const char* folder = std::getenv("DEEPLAB_TEST_DATA");
    if (folder == nullptr || !fs::exists(fs::path(folder) / "VOCdevkit"))
        GTEST_SKIP() << "skipped: no data";
    for (const char* split : {"train", "val"}) pack(folder, split, {});
    configure("train");
    stop_within(1);
}

}  // namespace
}  // namespace deeplab
