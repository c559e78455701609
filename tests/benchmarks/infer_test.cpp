// deeplab-bench infer as a user runs it.
#include <gtest/gtest.h>

#include <string>

#include "bench.h"

namespace deeplab {
namespace {

TEST(InferBench, PartsAreTheImage) {
    // 70 is no size of the network's grid: the image is padded, as in an evaluation.
    const testing::BenchRun run = testing::run_bench(
        {"infer", "--backbone", "resnet18", "--crop", "70", "--steps", "1", "--warmup", "1"});
    const double passed = run.passed_ms;
    const auto of = [&](const std::string& name) {
        return run.number("infer_resnet18_70_ranks1_fp32_" + name);
    };
    EXPECT_GT(of("network_ms"), 0);
    EXPECT_GT(of("labels_ms"), 0);
    EXPECT_NEAR(of("network_ms") + of("labels_ms"), of("ms"), 1e-6 * of("ms"));
    EXPECT_NEAR(of("images_per_s"), 1000 / of("ms"), 1e-9 * of("images_per_s"));
    EXPECT_LT(of("ms"), passed);
}

TEST(InferBench, RefusesWhatItCannotMeasure) {
    const std::string program = testing::program("deeplab-bench");
    EXPECT_EQ(testing::run_process({program, "infer", "--crop", "5"}).exit_code, 2);
    EXPECT_EQ(testing::run_process({program, "infer", "--steps", "0"}).exit_code, 2);
    EXPECT_EQ(testing::run_process({program, "infer", "--batch", "2"}).exit_code, 2);
}

}  // namespace
}  // namespace deeplab
