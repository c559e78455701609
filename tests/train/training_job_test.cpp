// Jobs whose last rank loses its device, from the first collective of the set-up to the last step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "harness/process.h"
#include "harness/temp_dir.h"
#include "harness/tiny_dataset.h"

namespace deeplab::train {
namespace {

using ::testing::HasSubstr;
using testing::ProcessResult;

class TrainingJob : public ::testing::Test {
protected:
    void SetUp() override {
        if (!testing::have_mpirun()) GTEST_SKIP() << "skipped: built without MPI";
        testing::write_tiny_dataset(dir_ / "data", {.split = "train", .images = 10});
    }
    ProcessResult run(int ranks, const std::string& kind) {
        return testing::run_process(
            testing::with_ranks(ranks, {testing::helper("deeplab-training-job"), kind,
                                        (dir_ / "data").string(), (dir_ / "run").string()}),
            {.environment = {}, .directory = "", .timeout_s = 90});
    }
    testing::TempDir dir_;
};

// Setting up a device or NCCL may hang like a step.
TEST_F(TrainingJob, ARankThatHangsAtTheStartIsNamedWithItsPhase) {
    const ProcessResult result = run(3, "hangs-at-start");
    EXPECT_EQ(result.exit_code, 4) << result.both();
    EXPECT_THAT(result.err, HasSubstr("rank 2 @ "));
    EXPECT_THAT(result.err, HasSubstr("has been in 'compiling the plan' for "));
    EXPECT_THAT(result.err, HasSubstr("ranks 0, 1 wait in '"));
}

// Destroying what waits for the lost rank would hang: the message comes before.
TEST_F(TrainingJob, ALostRankIsToldThoughItsDeviceHangs) {
    const ProcessResult result = run(2, "loses-a-rank");
    EXPECT_EQ(result.exit_code, 4) << result.both();
    EXPECT_THAT(result.err, HasSubstr("[rank 1 @ "));
    EXPECT_THAT(result.err, HasSubstr("NCCL failed in gradients: a rank is gone"));
}

}  // namespace
}  // namespace deeplab::train
