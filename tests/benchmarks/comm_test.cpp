// deeplab-bench comm as a user runs it: that it measures, not what.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "deeplab/base/files.h"
#include "deeplab/io/value.h"
#include "harness/process.h"
#include "harness/temp_dir.h"

namespace deeplab {
namespace {

TEST(CommBench, MeasuresTheMessagesOfAStep) {
    const testing::TempDir dir;
    const std::string json = (dir / "comm.json").string();
    const auto r = testing::run_process(
        testing::with_ranks(2, {testing::program("deeplab-bench"), "comm", "--backbone", "resnet18",
                                "--repeats", "1", "--warmup", "0", "--json", json}));
    ASSERT_EQ(r.exit_code, 0) << r.both();
    EXPECT_NE(r.out.find("gradient bucket, fp32"), std::string::npos) << r.out;
    const io::Value root = io::parse_json(read_text(json), json);
    const io::Object& summary = *root.get_if<io::Object>()->find("summary")->get_if<io::Object>();
    const auto figure = [&](const char* name) {
        const io::Value* value = summary.find(name);
        return value != nullptr && value->is<double>() ? *value->get_if<double>() : -1.0;
    };
    // DeepLabV3+ on ResNet-18 has some 17 million parameters of 4 bytes.
    EXPECT_NEAR(figure("comm_resnet18_ranks2_gradients_bytes_per_step"), 4 * 17e6, 4 * 3e6);
    EXPECT_GT(figure("comm_resnet18_ranks2_gradients_ms_per_step"), 0);
    EXPECT_GT(figure("comm_resnet18_ranks2_batch_norm_ms_per_step"), 0);
}

TEST(CommBench, RefusesWhatItCannotMeasure) {
    const std::string program = testing::program("deeplab-bench");
    const auto alone = testing::run_process({program, "comm"});
    EXPECT_EQ(alone.exit_code, 2);
    EXPECT_NE(alone.err.find("mpirun -np 2"), std::string::npos) << alone.both();
    EXPECT_EQ(testing::run_process({program, "comm", "--repeats", "0"}).exit_code, 2);
    EXPECT_EQ(testing::run_process({program, "comm", "--backbone", "vgg"}).exit_code, 2);
}

}  // namespace
}  // namespace deeplab
