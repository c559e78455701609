// deeplab-bench infer as a user runs it.
#include <gtest/gtest.h>

#include <string>

#include "deeplab/base/clock.h"
#include "deeplab/base/files.h"
#include "deeplab/io/value.h"
#include "harness/process.h"
#include "harness/temp_dir.h"

namespace deeplab {
namespace {

TEST(InferBench, PartsAreTheImage) {
    const testing::TempDir dir;
    const std::string json = (dir / "infer.json").string();
    testing::ProcessOptions options;
    options.environment = {"OMP_WAIT_POLICY=passive"};
    const auto start = Clock::now();
    // 70 is no size of the network's grid: the image is padded, as in an evaluation.
    const auto r = testing::run_process(
        {testing::program("deeplab-bench"), "infer", "--backbone", "resnet18", "--crop", "70",
         "--steps", "1", "--warmup", "1", "--json", json},
        options);
    const double passed = 1e3 * seconds_since(start);
    ASSERT_EQ(r.exit_code, 0) << r.both();
    const io::Value root = io::parse_json(read_text(json), json);
    const io::Object& summary = *root.get_if<io::Object>()->find("summary")->get_if<io::Object>();
    const auto of = [&](const std::string& name) {
        const io::Value* value = summary.find("infer_resnet18_70_ranks1_fp32_" + name);
        const bool there = value != nullptr && value->is<double>();
        EXPECT_TRUE(there) << name;
        return there ? *value->get_if<double>() : 0.0;
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
