// Exit codes and messages of jobs that fail, through mpirun and without.
#include <gtest/gtest.h>

#include "deeplab/base/text.h"
#include "deeplab/comm/communicator.h"
#include "harness/process.h"
#include "harness/sanitizers.h"

namespace deeplab::comm {
namespace {

using testing::ProcessResult;
using testing::run_process;
using testing::with_ranks;

ProcessResult run(int ranks, const std::string& kind) {
    return run_process(with_ranks(ranks, {testing::helper("deeplab-failing-job"), kind}),
                       {.environment = {}, .directory = "", .timeout_s = 60});
}

std::size_t occurrences(const std::string& text, const std::string& part) {
    std::size_t count = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
        ++count;
    return count;
}

// Programs that run beside each other would take it from one another.
TEST(Alone, NeedsNoSessionFolder) {
    const ProcessResult result = run_process(
        {testing::helper("deeplab-failing-job"), "ok"},
        {.environment = {"TMPDIR=/dev/null/none"}, .directory = "", .timeout_s = 60});
    EXPECT_EQ(result.exit_code, 0) << result.both();
}

// Open MPI and HDF5 crash where they get too little. 127: the loader could not map the libraries.
TEST(Alone, LittleMemoryIsNamedBeforeItRunsOut) {
    DEEPLAB_SKIP_UNDER_SANITIZERS();
    int named = 0;
    for (int mib = 12; mib <= 132; mib += 4) {
        const ProcessResult result = run_process(
            {"sh", "-c", cat("ulimit -c 0; ulimit -v ", mib * 1024, "; exec \"$@\""), "sh",
             testing::helper("deeplab-failing-job"), "ok"});
        if (result.exit_code == 127 || (result.exit_code == 0 && named > 0)) continue;
        EXPECT_EQ(result.exit_code, 4) << mib << " MiB: " << result.both();
        EXPECT_EQ(occurrences(result.err, "raise the limit (ulimit -v unlimited"), 1u)
            << mib << " MiB: " << result.both();
        ++named;
    }
    EXPECT_GT(named, 10);
}

class ExitCode : public ::testing::TestWithParam<int> {
protected:
    void SetUp() override {
        if (GetParam() > 1 && !testing::have_mpirun()) GTEST_SKIP() << "skipped: built without MPI";
    }
};

TEST_P(ExitCode, IsThatOfTheProgram) {
    const ProcessResult good = run(GetParam(), "ok");
    EXPECT_EQ(good.exit_code, 0) << good.err;
    const ProcessResult stopped = run(GetParam(), "stopped");
    EXPECT_EQ(stopped.exit_code, 75) << stopped.err;
}

TEST_P(ExitCode, OfALoneRankEndsTheJob) {
    struct Case {
        const char* kind;
        int code;
        const char* message;
    };
    for (const Case& expected : {Case{"lone-usage", 2, "one rank disagrees"},
                                 Case{"lone-data", 3, "one rank found a broken record"},
                                 Case{"lone-device", 4, "one rank lost its device"},
                                 Case{"lone-stopped", 75, "one rank stopped"},
                                 Case{"lone-bug", 1, "an index out of range"}}) {
        const ProcessResult result = run(GetParam(), expected.kind);
        EXPECT_EQ(result.exit_code, expected.code) << expected.kind << "\n" << result.both();
        EXPECT_EQ(occurrences(result.both(), expected.message), 1u) << result.both();
        if (GetParam() > 1) {
            EXPECT_EQ(occurrences(result.both(), "[rank " + std::to_string(GetParam() - 1) + " @ "),
                      1u)
                << result.both();
        }
    }
}

TEST_P(ExitCode, FewFilesAreNamedBeforeTheyRunOut) {
    for (const int files : {6, 9, 10, 11, 14, 16, 64}) {
        const ProcessResult result = run_process(testing::with_ranks(
            GetParam(), {"sh", "-c", cat("ulimit -c 0; ulimit -n ", files, "; exec \"$@\""), "sh",
                         testing::helper("deeplab-failing-job"), "ok"}));
        EXPECT_EQ(result.exit_code, files < 32 ? 4 : 0) << files << ": " << result.both();
        EXPECT_EQ(occurrences(result.err, "files open at once: ulimit -n") > 0, files < 32)
            << files << ": " << result.both();
    }
}

// What would be destroyed on the way out waits for other ranks, for ever.
TEST_P(ExitCode, TheMessageComesBeforeAnythingIsDestroyed) {
    if (GetParam() == 1) GTEST_SKIP() << "skipped: nobody is waited for";
    const ProcessResult result = run(GetParam(), "lost-rank");
    EXPECT_EQ(result.exit_code, 4) << result.both();
    EXPECT_EQ(occurrences(result.both(), "no answer in gradients: bucket 2"), 1u) << result.both();
    EXPECT_EQ(occurrences(result.both(), "[rank " + std::to_string(GetParam() - 1) + " @ "), 1u)
        << result.both();
}

// A rank whose program does less before the first exchange of all programs.
TEST_P(ExitCode, OfAnOlderProgramComesAtOnce) {
    if (GetParam() == 1) GTEST_SKIP() << "skipped: one rank has one program";
    const ProcessResult result = run(GetParam(), "older");
    EXPECT_EQ(result.exit_code, 2) << result.both();
    EXPECT_GE(occurrences(result.both(), "the last rank's program is older"), 1u) << result.both();
}

TEST_P(ExitCode, OfAllRanksIsToldOnce) {
    const ProcessResult result = run(GetParam(), "usage");
    EXPECT_EQ(result.exit_code, 2) << result.both();
    EXPECT_EQ(occurrences(result.both(), "everybody reads the same wrong option"), 1u)
        << result.both();
}

// The last rank comes a second after rank 0, as on a slow file system; then two of them say another
// thing.
TEST_P(ExitCode, OfAllRanksIsToldOnceHoweverLateTheyCome) {
    const ProcessResult late = run(GetParam(), "late");
    EXPECT_EQ(late.exit_code, 2) << late.both();
    EXPECT_EQ(occurrences(late.both(), "all of them, some late"), 1u) << late.both();
    const ProcessResult two = run(GetParam(), "two-voices");
    EXPECT_EQ(two.exit_code, 2) << two.both();
    EXPECT_EQ(occurrences(two.both(), "what rank 0 says"), 1u) << two.both();
    EXPECT_EQ(occurrences(two.both(), "what the others say"), GetParam() > 1 ? 1u : 0u)
        << two.both();
}

// A full disk behind the program's output, and nobody who reads it.
TEST(Output, ThatCannotBeWrittenIsAWarning) {
    const std::string job = testing::helper("deeplab-failing-job");
    const ProcessResult full = run_process({"sh", "-c", job + " prints > /dev/full"});
    EXPECT_EQ(full.exit_code, 0) << full.both();
    EXPECT_EQ(occurrences(full.err, "standard output could not be written"), 1u) << full.both();
    const ProcessResult closed = run_process(
        {"sh", "-c", "{ " + job + " prints; echo code $? >&2; } | true"});
    EXPECT_EQ(occurrences(closed.err, "code 0"), 1u) << closed.both();
    EXPECT_EQ(occurrences(closed.err, "warning"), 0u) << closed.both();
}

TEST_P(ExitCode, OtherExceptions) {
    const ProcessResult memory = run(GetParam(), "memory");
    EXPECT_EQ(memory.exit_code, 4) << memory.both();
    EXPECT_EQ(occurrences(memory.both(), "out of memory"), 1u) << memory.both();
    const ProcessResult logic = run(GetParam(), "logic");
    EXPECT_EQ(logic.exit_code, 1) << logic.both();
    EXPECT_EQ(occurrences(logic.both(), "bug"), 1u) << logic.both();
    EXPECT_EQ(run(GetParam(), "odd").exit_code, 1);
}

INSTANTIATE_TEST_SUITE_P(Ranks, ExitCode, ::testing::Values(1, 2, 3));

TEST(Process, TimeoutKills) {
    const ProcessResult result = run_process(
        {"sleep", "60"}, {.environment = {}, .directory = "", .timeout_s = 0.2});
    EXPECT_EQ(result.exit_code, 124);
}

TEST(Process, GivesCodeOutputAndEnvironment) {
    const ProcessResult result = run_process(
        {"sh", "-c", "echo out; echo $WHO >&2; pwd; exit 3"},
        {.environment = {"WHO=me"}, .directory = "/", .timeout_s = 10});
    EXPECT_EQ(result.exit_code, 3);
    EXPECT_EQ(result.out, "out\n/\n");
    EXPECT_EQ(result.err, "me\n");
    EXPECT_EQ(run_process({"no-such-program-anywhere"}).exit_code, 127);
    EXPECT_EQ(run_process({"sh", "-c", "kill -9 $$"}).exit_code, 137);
}

TEST(Nccl, StatusSaysWhatToDo) {
    const std::string status = nccl_status();
    EXPECT_EQ(status.rfind("nccl: ", 0), 0u) << status;
}

}  // namespace
}  // namespace deeplab::comm
