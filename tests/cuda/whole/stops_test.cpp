// Runs of the whole program on the stand-ins that are cut and go on: bit for bit.
#include <gmock/gmock.h>

#include "job.h"

namespace deeplab::testing {
namespace {

using ::testing::HasSubstr;

class WholeProgramStops : public WholeProgram {
protected:
    static std::vector<std::string> options(const std::vector<std::string>& more) {
        std::vector<std::string> all = {"--set", "train.iterations=12",
                                        "--set", "checkpoint.every=2",
                                        "--set", "checkpoint.keep=20"};
        all.insert(all.end(), more.begin(), more.end());
        return all;
    }
    // The run that was cut is not at its end; what goes on there has the bits of `whole`.
    void goes_on(Job cut, const std::string& whole) {
        const std::int64_t step = latest(cut.run).info.step;
        EXPECT_GE(step, 2);
        EXPECT_LT(step, 12);
        cut.before = cut.beside = "true";
        cut.more.emplace_back("--resume");
        EXPECT_THAT(train(cut).both(), HasSubstr(cat("resuming at step ", step)));
        EXPECT_EQ(hash(cut.run), hash(whole));
    }
};

// The engines that were chosen at the first start are those of the resumed run, whatever its
// clock says.
TEST_F(WholeProgramStops, AKilledRankIsNamedAndTheRunGoesOnBitForBit) {
    Job whole{.run = "whole",
              .ranks = 2,
              .more = options({}),
              .environment = {"DEEPLAB_TEST_ENGINES=fastest=1"}};
    train(whole);
    Job cut = whole;
    cut.run = "cut";
    cut.beside = "if [ $rank = 1 ]; then after 5; kill -KILL $me; fi";
    const ProcessResult killed = start(cut);
    EXPECT_EQ(killed.exit_code, 137) << killed.both();
    EXPECT_THAT(killed.both(), HasSubstr("process rank 1 with PID"));
    EXPECT_THAT(killed.both(), HasSubstr("signal 9"));
    cut.environment = {"DEEPLAB_TEST_ENGINES=fastest=2"};
    goes_on(cut, "whole");
    // Another file of choices, other engines, other bits: the above says something.
    Job other = whole;
    other.run = "other";
    other.environment = {"DEEPLAB_TEST_ENGINES=fastest=2",
                         cat("DEEPLAB_TUNING_CACHE=", (dir_ / "others.txt").string())};
    train(other);
    EXPECT_NE(hash("other"), hash("whole"));
}

TEST_F(WholeProgramStops, SlowASignalIsExitCode75AndTheRunGoesOnBitForBit) {
    Job whole{.run = "whole",
              .ranks = 3,
              .more = options({"--set", "train.precision=bf16", "--set", "train.grad_dtype=bf16"})};
    train(whole);
    Job cut = whole;
    cut.run = "cut";
    cut.beside = "if [ $rank = 2 ]; then after 5; kill -TERM $me; fi";
    const ProcessResult stopped = start(cut);
    EXPECT_EQ(stopped.exit_code, 75) << stopped.both();
    goes_on(cut, "whole");
}

TEST_F(WholeProgramStops, SlowAStoppedRankIsNamed) {
    const ProcessResult result = start({.ranks = 2,
                                        .more = options({"--set", "train.watchdog_s=5"}),
                                        .beside = "if [ $rank = 1 ]; then after 3; kill -STOP $me; "
                                                  "fi"});
    EXPECT_EQ(result.exit_code, 4) << result.both();
    EXPECT_THAT(result.err, HasSubstr("rank 1 @ "));
    EXPECT_THAT(result.err, HasSubstr("has not answered for "));
}

// One sum over ranks is no number: the run goes back to its last checkpoint, passes the step and
// has the bits of one that starts there.
TEST_F(WholeProgramStops, SlowARollbackPassesTheStepBitForBit) {
    Job run{.run = "run",
            .ranks = 2,
            .more = options({"--set", "train.on_nonfinite=rollback", "--set",
                             "train.precision=bf16", "--set", "checkpoint.every=5"}),
            .environment = {"DEEPLAB_TEST_NCCL=nan=400"}};
    const ProcessResult result = train(run);
    EXPECT_THAT(result.both(), HasSubstr("going back, and passing this step"));
    const io::Value passed = io::parse_json(trim(read_text(folder("run") / "nonfinite.jsonl")),
                                            "the step that was passed");
    const std::int64_t step = *passed.get_if<io::Object>()->find("step")->get_if<std::int64_t>();
    EXPECT_GT(step, 6) << "it goes back by several steps";
    EXPECT_LT(step, 10);

    std::filesystem::copy(
        folder("run"), folder("again"),
        std::filesystem::copy_options::recursive | std::filesystem::copy_options::copy_symlinks);
    Job again = run;
    again.run = "again";
    again.environment.clear();
    again.more.emplace_back("--resume");
    for (const auto& entry : std::filesystem::directory_iterator(folder("again") / "checkpoints")) {
        if (entry.is_symlink() || weights::load_checkpoint(entry.path()).info.step >= step)
            std::filesystem::remove(entry.path());
    }
    train(again);
    EXPECT_EQ(hash("again"), hash("run"));
}

}  // namespace
}  // namespace deeplab::testing
