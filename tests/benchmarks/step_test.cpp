// deeplab-bench step as a user runs it: that it says where it ran and how its engines were found.
#include <gtest/gtest.h>

#include <string>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/io/value.h"
#include "harness/process.h"
#include "harness/temp_dir.h"

namespace deeplab {
namespace {

testing::ProcessResult step(const std::vector<std::string>& more) {
    std::vector<std::string> words = {testing::program("deeplab-bench"),
                                      "step",
                                      "--backbone",
                                      "resnet18",
                                      "--crop",
                                      "33",
                                      "--batch",
                                      "2",
                                      "--steps",
                                      "1",
                                      "--warmup",
                                      "0"};
    words.insert(words.end(), more.begin(), more.end());
    testing::ProcessOptions options;
    options.environment = {"OMP_WAIT_POLICY=passive"};
    return testing::run_process(words, options);
}

// benchmarks/gpu_check.sh reads the line, and readers of the JSON the keys.
TEST(StepBench, SaysHowEnginesWereFound) {
    const testing::TempDir dir;
    const std::string json = (dir / "step.json").string();
    const auto r = step({"--device", "cpu", "--json", json});
    ASSERT_EQ(r.exit_code, 0) << r.both();
    EXPECT_NE(r.out.find("\nengines: 0 timed, 0 known\n"), std::string::npos) << r.out;
    const io::Value report = io::parse_json(read_text(json), "report");
    const auto& settings = *report.get_if<io::Object>()->find("settings")->get_if<io::Object>();
    for (const char* key : {"engines_timed", "engines_known"}) {
        ASSERT_NE(settings.find(key), nullptr) << key;
        EXPECT_EQ(*settings.find(key)->get_if<std::int64_t>(), 0) << key;
    }
    EXPECT_NE(r.out.find("sum of the parts"), std::string::npos) << r.out;
}

TEST(StepBench, TellsTheTimeOfEveryStep) {
    const testing::TempDir dir;
    const std::string json = (dir / "step.json").string();
    const auto r = step({"--device", "cpu", "--whole", "--no-graph", "--json", json});
    ASSERT_EQ(r.exit_code, 0) << r.both();
    const io::Value report = io::parse_json(read_text(json), "report");
    const auto part = [&](const char* name) {
        return *report.get_if<io::Object>()->find(name)->get_if<io::Object>();
    };
    const io::Object settings = part("settings"), summary = part("summary");
    const std::string prefix = "step_resnet18_33_batch2_ranks1_fp32_";
    ASSERT_NE(settings.find("step_ms"), nullptr);
    const io::Array& steps = *settings.find("step_ms")->get_if<io::Array>();
    ASSERT_EQ(steps.size(), 1u);
    EXPECT_DOUBLE_EQ(*steps[0].get_if<double>(), *summary.find(prefix + "ms")->get_if<double>());
    // Those are of a device with memory of its own.
    EXPECT_EQ(summary.find(prefix + "host_gap_ms"), nullptr);
    EXPECT_EQ(summary.find(prefix + "device_bytes"), nullptr);
}

// The same answers as from deeplab-train: one place makes backends.
TEST(StepBench, RefusesADeviceOrCommunicatorThatIsNotThere) {
    for (const char* command : {"step", "infer", "accuracy"}) {
        const auto run = [&](const std::vector<std::string>& more) {
            std::vector<std::string> words = {testing::program("deeplab-bench"), command};
            words.insert(words.end(), more.begin(), more.end());
            return testing::run_process(words);
        };
        const auto nccl = run({"--device", "cpu", "--comm", "nccl"});
        EXPECT_EQ(nccl.exit_code, 2) << nccl.both();
        EXPECT_NE(nccl.err.find("--comm nccl needs --device cuda"), std::string::npos) << nccl.err;
        const auto cuda = run({"--device", "cuda"});
        EXPECT_EQ(run({"--threads", "-1"}).exit_code, 2);
        if (cuda.exit_code == 0) continue;  // there is a GPU
        EXPECT_EQ(cuda.exit_code, 4) << cuda.both();
        EXPECT_NE(cuda.err.find("--device cuda cannot be used: CUDA backend: "), std::string::npos)
            << cuda.err;
    }
}

}  // namespace
}  // namespace deeplab
