// deeplab-bench startup as a user runs it: that its stages are the time that passed.
#include <gtest/gtest.h>

#include <string>

#include "deeplab/base/clock.h"
#include "deeplab/base/files.h"
#include "deeplab/io/value.h"
#include "harness/process.h"
#include "harness/temp_dir.h"

namespace deeplab {
namespace {

TEST(StartupBench, StagesAddUpToTheTimeThatPassed) {
    const testing::TempDir dir;
    const std::string json = (dir / "startup.json").string();
    testing::ProcessOptions options;
    options.environment = {"OMP_WAIT_POLICY=passive"};
    const auto start = Clock::now();
    const auto r = testing::run_process({testing::program("deeplab-bench"), "startup", "--backbone",
                                         "resnet18", "--crop", "65", "--json", json},
                                        options);
    const double passed = 1e3 * seconds_since(start);
    ASSERT_EQ(r.exit_code, 0) << r.both();
    const io::Value root = io::parse_json(read_text(json), json);
    const io::Object& summary = *root.get_if<io::Object>()->find("summary")->get_if<io::Object>();
    const auto ms = [&](const std::string& stage) {
        const io::Value* value = summary.find("startup_resnet18_65_batch2_ranks1_fp32_" + stage +
                                              "_ms");
        const bool there = value != nullptr && value->is<double>();
        EXPECT_TRUE(there) << stage;
        return there ? *value->get_if<double>() : 0.0;
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
