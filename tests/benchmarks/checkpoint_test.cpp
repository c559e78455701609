// deeplab-bench checkpoint as a user runs it: that it measures, and leaves nothing behind.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "deeplab/base/files.h"
#include "deeplab/io/value.h"
#include "harness/process.h"
#include "harness/temp_dir.h"

namespace deeplab {
namespace {

namespace fs = std::filesystem;

TEST(CheckpointBench, MeasuresEveryPartAndLeavesNothing) {
    const testing::TempDir dir;
    const std::string json = (dir / "checkpoint.json").string();
    fs::create_directories(dir / "scratch");
    const auto r = testing::run_process({testing::program("deeplab-bench"), "checkpoint",
                                         "--backbone", "resnet18", "--repeats", "1", "--out",
                                         (dir / "scratch").string(), "--json", json});
    ASSERT_EQ(r.exit_code, 0) << r.both();
    EXPECT_TRUE(fs::is_empty(dir / "scratch"));
    const io::Value root = io::parse_json(read_text(json), json);
    const io::Object& summary = *root.get_if<io::Object>()->find("summary")->get_if<io::Object>();
    for (const char* part : {"snapshot", "write", "read", "apply"}) {
        const io::Value* value = summary.find(std::string("checkpoint_resnet18_") + part + "_ms");
        ASSERT_TRUE(value != nullptr && value->is<double>()) << part;
        EXPECT_GT(*value->get_if<double>(), 0) << part;
    }
}

TEST(CheckpointBench, RefusesWhatItCannotMeasure) {
    const testing::TempDir dir;
    std::ofstream(dir / "file") << "a file";
    const std::string program = testing::program("deeplab-bench");
    EXPECT_EQ(testing::run_process({program, "checkpoint"}).exit_code, 2);
    EXPECT_EQ(
        testing::run_process({program, "checkpoint", "--out", (dir / "file").string()}).exit_code,
        2);
    const auto two = testing::run_process(
        testing::with_ranks(2, {program, "checkpoint", "--out", dir.path().string()}));
    EXPECT_EQ(two.exit_code, 2) << two.both();
}

}  // namespace
}  // namespace deeplab
