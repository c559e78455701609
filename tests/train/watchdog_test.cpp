// Who is named when nothing goes on: the verdict alone, and jobs that hang.
#include "deeplab/train/watchdog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "deeplab/base/text.h"
#include "harness/process.h"

namespace deeplab::train {
namespace {

using ::testing::HasSubstr;
using testing::ProcessResult;

WatchedRank rank(const char* phase, const char* collective, double idle_s, double silent_s = 0) {
    WatchedRank state;
    state.host = "node7";
    state.heard = true;
    state.activity = {.beats = 1, .phase = phase, .step = 17, .collective = collective};
    state.idle_s = idle_s;
    state.silent_s = silent_s;
    return state;
}

TEST(LateRanks, WhoWaitsIsNotLate) {
    const WatchedRank waits = rank("training", "valid pixels of the step", 100);
    EXPECT_EQ(late_ranks({waits, waits, rank("evaluation", "", 29)}, 30), "");
    EXPECT_EQ(late_ranks({waits, waits, rank("reading data", "", 31)}, 30),
              "rank 2 @ node7 has been in 'reading data' of step 17 for 31.0 s; ranks 0, 1 wait in "
              "'valid pixels of the step' ('training' of step 17)");
}

TEST(LateRanks, WhoDoesNotAnswerIsNamedWithWhatItDidLast) {
    const WatchedRank waits = rank("training", "gradient", 35);
    // In a collective or not, whoever is silent does not wait.
    EXPECT_EQ(
        late_ranks({waits, rank("training", "batch norm", 0, 31)}, 30),
        "rank 1 @ node7 has not answered for 31.0 s, last seen in 'batch norm' ('training' of "
        "step 17); rank 0 waits in 'gradient' ('training' of step 17)");
    WatchedRank unknown;
    unknown.host = "node9";
    unknown.silent_s = 40;
    EXPECT_EQ(
        late_ranks({waits, unknown}, 30),
        "rank 1 @ node9 has not answered for 40.0 s; rank 0 waits in 'gradient' ('training' of "
        "step 17)");
}

TEST(LateRanks, CollectivesThatDoNotMatchAreNamed) {
    const WatchedRank a = rank("training", "gradient", 40), b = rank("training", "loss", 31);
    EXPECT_EQ(late_ranks({a, a, rank("training", "loss", 29)}, 30), "");
    const std::string text = late_ranks({a, b, a}, 30);
    EXPECT_THAT(text, HasSubstr("all ranks have waited")) << text;
    EXPECT_THAT(text, HasSubstr("ranks 0, 2 wait in 'gradient'")) << text;
    EXPECT_THAT(text, HasSubstr("rank 1 waits in 'loss'")) << text;
}

TEST(LateRanks, WhoHasFinishedIsNeverSilent) {
    WatchedRank done = rank("", "end of the run", 5, 500);
    done.done = true;
    EXPECT_EQ(late_ranks({rank("", "end of the run", 5), done}, 30), "");
    EXPECT_THAT(late_ranks({rank("saving a checkpoint", "", 35), done}, 30), HasSubstr("rank 0"));
}

TEST(LateRanks, AThousandRanksFitALine) {
    std::vector<WatchedRank> ranks(1000, rank("training", "gradient", 40));
    ranks[500] = rank("reading data", "", 40);
    const std::string text = late_ranks(ranks, 30);
    EXPECT_THAT(text, HasSubstr("rank 500 @ node7")) << text;
    EXPECT_THAT(text, HasSubstr("and 991 more")) << text;
    EXPECT_LT(text.size(), 300u);
}

class HangingJob : public ::testing::TestWithParam<int> {
protected:
    void SetUp() override {
        if (GetParam() > 1 && !testing::have_mpirun()) GTEST_SKIP() << "skipped: built without MPI";
    }
    static ProcessResult run(const std::string& kind) {
        return testing::run_process(
            testing::with_ranks(GetParam(), {testing::helper("deeplab-hanging-job"), kind}),
            {.environment = {}, .directory = "", .timeout_s = 60});
    }
};

TEST_P(HangingJob, EndsWith4AndNamesTheRankThatHangs) {
    const ProcessResult result = run("reads");
    EXPECT_EQ(result.exit_code, 4) << result.both();
    EXPECT_THAT(result.err, HasSubstr(cat("rank ", GetParam() - 1, " @ "))) << result.both();
    EXPECT_THAT(result.err, HasSubstr("has been in 'reading data' of step 7 for "))
        << result.both();
    if (GetParam() == 3) {
        EXPECT_THAT(result.err, HasSubstr("ranks 0, 1 wait in 'sum that nobody finishes' "
                                          "('training' of step 7)"))
            << result.both();
    }
}

TEST_P(HangingJob, AlsoWhenItIsRankZero) {
    if (GetParam() == 1) GTEST_SKIP() << "skipped: the test above";
    const ProcessResult result = run("first");
    EXPECT_EQ(result.exit_code, 4) << result.both();
    EXPECT_THAT(result.err, HasSubstr("rank 0 @ ")) << result.both();
    EXPECT_THAT(result.err, HasSubstr("has been in 'training' of step 7")) << result.both();
}

// Rank 0 speaks for all; here the others have to.
TEST_P(HangingJob, AlsoWhenRankZeroIsStopped) {
    if (GetParam() == 1) GTEST_SKIP() << "skipped: nobody is left to see it";
    const ProcessResult result = run("stopped");
    EXPECT_EQ(result.exit_code, 4) << result.both();
    EXPECT_THAT(result.err, HasSubstr("rank 0 @ ")) << result.both();
    EXPECT_THAT(result.err, HasSubstr("has not answered for ")) << result.both();
}

// Before it has said anything of itself.
TEST_P(HangingJob, ARankThatStopsAtOnceIsNamedWithItsHost) {
    if (GetParam() == 1) GTEST_SKIP() << "skipped: nobody is left to see it";
    const ProcessResult result = run("stopped-at-once");
    EXPECT_EQ(result.exit_code, 4) << result.both();
    EXPECT_THAT(result.err, HasSubstr(cat("rank ", GetParam() - 1, " @ "))) << result.both();
    EXPECT_THAT(result.err, HasSubstr("has not answered for ")) << result.both();
}

TEST_P(HangingJob, ALongPhaseThatBeatsIsLeftAlone) {
    if (GetParam() == 1) GTEST_SKIP() << "skipped: with 3 ranks";
    const ProcessResult result = run("beats");
    EXPECT_EQ(result.exit_code, 0) << result.both();
}

TEST_P(HangingJob, AnExceptionDoesNotWaitForTheWatchdog) {
    const ProcessResult result = run("throws");
    EXPECT_EQ(result.exit_code, 3) << result.both();
    EXPECT_THAT(result.both(), HasSubstr("one record is broken")) << result.both();
}

TEST_P(HangingJob, CollectivesThatDoNotMatch) {
    if (GetParam() == 1) GTEST_SKIP() << "skipped: one rank waits for nobody";
    const ProcessResult result = run("mismatch");
    EXPECT_EQ(result.exit_code, 4) << result.both();
    EXPECT_THAT(result.err, HasSubstr("'another barrier'")) << result.both();
}

INSTANTIATE_TEST_SUITE_P(Ranks, HangingJob, ::testing::Values(1, 3));

}  // namespace
}  // namespace deeplab::train
