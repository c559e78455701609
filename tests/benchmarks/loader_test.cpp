// deeplab-bench loader as a user runs it: that it measures, not what.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/io/value.h"
#include "harness/process.h"
#include "harness/temp_dir.h"
#include "harness/tiny_dataset.h"

namespace deeplab {
namespace {

using Strings = std::vector<std::string>;

class LoaderBench : public ::testing::Test {
protected:
    void SetUp() override {
        testing::write_tiny_dataset(dir_ / "data", {.split = "train", .images = 5});
    }

    testing::ProcessResult run(const Strings& arguments) const {
        Strings words = {program_};
        words.insert(words.end(), arguments.begin(), arguments.end());
        return testing::run_process(words);
    }

    const std::string program_ = testing::program("deeplab-bench");
    testing::TempDir dir_;
};

TEST_F(LoaderBench, ShowsAndWritesItsStages) {
    const std::string json = (dir_ / "a.json").string(), csv = (dir_ / "a.csv").string();
    for (const char* cache : {"none", "host"}) {
        const auto r = run({"loader", "--data", (dir_ / "data").string(), "--split", "train",
                            "--crop", "33", "--batch", "2", "--seconds", "0.2", "--windows", "2",
                            "--cache", cache, "--json", json, "--csv", csv});
        ASSERT_EQ(r.exit_code, 0) << r.both();
        EXPECT_NE(r.out.find("resize image"), std::string::npos) << r.out;
        EXPECT_NE(r.out.find("compiler: "), std::string::npos) << r.out;
        const io::Value root = io::parse_json(read_text(json), json);
        const io::Object& report = *root.get_if<io::Object>();
        for (const char* part : {"title", "environment", "settings", "summary", "rows"})
            EXPECT_NE(report.find(part), nullptr) << part;
        const io::Object& summary = *report.find("summary")->get_if<io::Object>();
        EXPECT_GT(*summary.find("loader_1_worker_images_per_s")->get_if<double>(), 0);
        EXPECT_GT(*summary.find("loader_resize_image_cpu_ms_per_image")->get_if<double>(), 0);
        const double decode = *summary.find("loader_decode_mask_cpu_ms_per_image")
                                   ->get_if<double>();
        EXPECT_EQ(decode > 0, std::string(cache) == "none") << decode;
        const Strings lines = split(trim(read_text(csv)), '\n');
        ASSERT_EQ(lines.size(), 11u);  // the head, nine stages, all of them
        EXPECT_EQ(lines[0].substr(0, 6), "stage,");
        EXPECT_EQ(split(lines[10], ',').size(), split(lines[0], ',').size());
    }
}

TEST_F(LoaderBench, RefusesWhatItCannotMeasure) {
    const std::string data = (dir_ / "data").string();
    EXPECT_EQ(run({}).exit_code, 2);
    EXPECT_EQ(run({"loadr"}).exit_code, 2);
    EXPECT_EQ(run({"loader"}).exit_code, 2);
    EXPECT_EQ(run({"loader", "--data", data, "--split", "train", "--workers", "0"}).exit_code, 2);
    EXPECT_EQ(run({"loader", "--data", data, "--split", "train", "--json", "/proc/none/a.json"})
                  .exit_code,
              2);
    EXPECT_EQ(run({"loader", "--data", data, "--split", "absent"}).exit_code, 3);
    const auto help = run({"loader", "--help"});
    EXPECT_EQ(help.exit_code, 0);
    EXPECT_NE(help.out.find("--windows"), std::string::npos);
}

}  // namespace
}  // namespace deeplab
