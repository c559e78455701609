// deeplab-bench depthwise as a user runs it.
#include <gtest/gtest.h>

#include <string>

#include "bench.h"

namespace deeplab {
namespace {

TEST(DepthwiseBench, EveryPassHasATimeAndARatio) {
    const testing::BenchRun run = testing::run_bench(
        {"depthwise", "--channels", "384", "--batch", "1", "--rounds", "3"});
    double worst = 0;
    for (const std::string rate : {"1", "2"}) {
        for (const std::string pass : {"forward", "backward_data", "backward_weights"}) {
            const std::string name = "depthwise_384_side33_stride1_rate" + rate + "_" + pass;
            EXPECT_GT(run.number(name + "_ms"), 0);
            EXPECT_LT(run.number(name + "_ms"), run.passed_ms);
            EXPECT_GT(run.number(name + "_ratio"), 0);
            if (pass != "forward") worst = std::max(worst, run.number(name + "_ratio"));
        }
    }
    EXPECT_EQ(run.number("depthwise_worst_gradient_ratio"), worst);
}

TEST(DepthwiseBench, RefusesWhatItCannotMeasure) {
    const std::string program = testing::program("deeplab-bench");
    for (const char* words : {"--rounds=0", "--batch=0", "--channels=5", "--precision=tf32"})
        EXPECT_EQ(testing::run_process({program, "depthwise", words}).exit_code, 2) << words;
}

}  // namespace
}  // namespace deeplab
