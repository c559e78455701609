// Jobs of several ranks whose ranks get signals: stops with a checkpoint, deaths and hangs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "deeplab/base/text.h"
#include "deeplab/weights/checkpoint.h"
#include "tiny_training.h"

namespace deeplab {
namespace {

using ::testing::HasSubstr;
using testing::ProcessResult;

class SlowStopping : public testing::TinyTraining {
protected:
    void SetUp() override {
        if (!testing::have_mpirun()) GTEST_SKIP() << "skipped: built without MPI";
        prepare(R"(train = {iterations = 100000, global_batch = 3, log_every = 1, freeze_bn = true}
optimizer.lr = 0.001
)");
    }

    // Trains on 3 ranks; each runs the shell text `beside` in the background, where $me is the
    // rank's process, $rank its number and `after N` waits for N logged steps.
    ProcessResult train(const std::string& beside,
                        const std::vector<std::string>& more = {}) const {
        const std::string script = cat(
            "me=$$; rank=$OMPI_COMM_WORLD_RANK; "
            "after() { until [ \"$(wc -l < \"$RUN/metrics.jsonl\")\" -ge \"$1\" ]; do sleep 0.05; "
            "done 2>/dev/null; }; { ",
            beside, "; } </dev/null >/dev/null 2>&1 & exec \"$@\"");
        std::vector<std::string> shell = {"sh", "-c", script, "sh"};
        std::vector<std::string> training = {"--device", "cpu"};
        training.insert(training.end(), more.begin(), more.end());
        training = command(training);
        shell.insert(shell.end(), training.begin(), training.end());
        return testing::run_process(testing::with_ranks(3, shell),
                                    {.environment = {cat("RUN=", run_folder().string())},
                                     .directory = "",
                                     .timeout_s = 60});
    }
    std::filesystem::path run_folder() const { return dir_ / "run"; }

    std::int64_t checkpoint_step() const {
        return weights::load_checkpoint(run_folder() / "checkpoints/latest.h5").info.step;
    }
};

TEST_F(SlowStopping, ASignalToOneRankStopsAllWithACheckpoint) {
    const ProcessResult result = train("if [ $rank = 2 ]; then after 2; kill -TERM $me; fi");
    EXPECT_EQ(result.exit_code, 75) << result.both();
    EXPECT_THAT(result.out, HasSubstr(cat("step ", checkpoint_step(), " "))) << result.both();
}

// Two ranks are told at different times, and both again and again until the job has ended: also
// within the save.
TEST_F(SlowStopping, MoreSignalsDuringTheSaveSpoilNothing) {
    const ProcessResult result = train(
        "case $rank in 1) after 2; kill -USR1 $me;; 2) after 3; kill -TERM $me;; *) after 3;; "
        "esac; "
        "while kill -TERM $me; do kill -USR1 $me; sleep 0.002; done");
    EXPECT_EQ(result.exit_code, 75) << result.both();
    EXPECT_GE(checkpoint_step(), 2);
    EXPECT_THAT(result.out, HasSubstr(cat("step ", checkpoint_step(), " "))) << result.both();
}

// Rank 0 is frozen, so that the step never ends and the first interrupt alone could do nothing.
TEST_F(SlowStopping, ASecondInterruptEndsAtOnce) {
    const ProcessResult result = train(
        "case $rank in 0) after 2; kill -STOP $me; touch \"$RUN/frozen\";; "
        "1) until [ -e \"$RUN/frozen\" ]; do sleep 0.05; done; kill -INT $me; sleep 0.5; "
        "kill -0 $me && touch \"$RUN/alive\"; kill -INT $me;; esac");
    EXPECT_EQ(result.exit_code, 130) << result.both();
    EXPECT_TRUE(std::filesystem::exists(run_folder() / "alive")) << "the first one asks";
    EXPECT_THAT(result.err, HasSubstr("stops with a checkpoint")) << result.both();
}

TEST_F(SlowStopping, ADeadRankTakesTheJobDownWithinSeconds) {
    const ProcessResult result = train(
        "if [ $rank = 1 ]; then after 2; date +%s.%N > \"$RUN/killed\"; kill -KILL $me; fi");
    const double ended = std::chrono::duration<double>(
                             std::chrono::system_clock::now().time_since_epoch())
                             .count();
    EXPECT_EQ(result.exit_code, 137) << result.both();
    double killed = 0;
    std::ifstream(run_folder() / "killed") >> killed;
    ASSERT_GT(killed, 0);
    EXPECT_LT(ended - killed, 10) << result.both();
}

// The real network with a learning rate that no network survives.
TEST_F(SlowStopping, ADivergedRunGivesUpAfterThreeSkippedSteps) {
    const ProcessResult result = train(
        "true", {"--set", "train.on_nonfinite=rollback", "--set", "optimizer.lr=1e30"});
    EXPECT_EQ(result.exit_code, 4) << result.both();
    EXPECT_THAT(result.err, HasSubstr("skipping steps did not help")) << result.both();
    EXPECT_TRUE(std::filesystem::exists(run_folder() / "nonfinite.jsonl"));
}

TEST_F(SlowStopping, AStoppedRankIsNamedAndEndsTheJobWith4) {
    const ProcessResult result = train("if [ $rank = 2 ]; then after 2; kill -STOP $me; fi",
                                       {"--set", "train.watchdog_s=5"});  // the start-up, too
    EXPECT_EQ(result.exit_code, 4) << result.both();
    EXPECT_THAT(result.err, HasSubstr("rank 2 @ ")) << result.both();
    EXPECT_THAT(result.err, HasSubstr("has not answered for ")) << result.both();
}

}  // namespace
}  // namespace deeplab
