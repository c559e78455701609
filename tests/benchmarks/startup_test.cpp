// deeplab-bench startup as a user runs it: that its stages are the time that passed.
#include <gtest/gtest.h>

#include <string>

#include "bench.h"

namespace deeplab {
namespace {

TEST(StartupBench, StagesAddUpToTheTimeThatPassed) {
    const testing::BenchRun run = testing::run_bench(
        {"startup", "--backbone", "resnet18", "--crop", "65"});
    const double passed = run.passed_ms;
    const auto ms = [&](const std::string& name) {
        return run.number("startup_resnet18_65_batch2_ranks1_fp32_" + name + "_ms");
    };
    double sum = ms("load_program");
    EXPECT_GE(sum, 0);  // its start is rounded down to a tick
    for (const char* stage : {"mpi_init_and_command_line", "plan", "allocate", "initial_values",
                              "compile", "input", "first_step"}) {
        EXPECT_GT(ms(stage), 0) << stage;
        sum += ms(stage);
    }
    EXPECT_NEAR(sum, ms("to_first_step_done"), 1e-6 * sum);
    EXPECT_GT(ms("second_step"), 0);
    // Besides a tick, the program takes only the end of the process on top of that.
    EXPECT_LE(sum + ms("second_step") + ms("third_step"), passed + 10);
    EXPECT_GT(sum, passed / 10);
}

TEST(StartupBench, RefusesWhatItCannotMeasure) {
    const std::string program = testing::program("deeplab-bench");
    EXPECT_EQ(testing::run_process({program, "startup", "--crop", "5"}).exit_code, 2);
    EXPECT_EQ(testing::run_process({program, "startup", "--device", "tpu"}).exit_code, 2);
}

}  // namespace
}  // namespace deeplab
