// deeplab-bench kernels as a user runs it: units by hand, and that the table is the whole step.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/io/value.h"
#include "harness/process.h"
#include "harness/temp_dir.h"

namespace deeplab {
namespace {

double number(const io::Object& object, const std::string& name) {
    const io::Value* value = object.find(name);
    if (value == nullptr) return NAN;
    if (const auto* whole = value->get_if<std::int64_t>()) return static_cast<double>(*whole);
    return value->is<double>() ? *value->get_if<double>() : NAN;  // null: not rated
}

std::string text(const io::Object& object, const std::string& name) {
    return *object.find(name)->get_if<std::string>();
}

class KernelsBench : public ::testing::Test {
protected:
    io::Object run(const std::vector<std::string>& more) const {
        std::vector<std::string> words = {testing::program("deeplab-bench"),
                                          "kernels",
                                          "--backbone",
                                          "resnet18",
                                          "--crop",
                                          "65",
                                          "--batch",
                                          "2",
                                          "--steps",
                                          "1",
                                          "--json",
                                          (dir_ / "k.json").string(),
                                          "--csv",
                                          (dir_ / "k.csv").string()};
        words.insert(words.end(), more.begin(), more.end());
        testing::ProcessOptions options;
        options.environment = {"OMP_WAIT_POLICY=passive"};
        const auto r = testing::run_process(words, options);
        EXPECT_EQ(r.exit_code, 0) << r.both();
        return *io::parse_json(read_text(dir_ / "k.json"), "report").get_if<io::Object>();
    }
    testing::TempDir dir_;
};

TEST_F(KernelsBench, RatesEveryOpOfAStep) {
    const io::Object report = run({});
    const io::Object& summary = *report.find("summary")->get_if<io::Object>();
    const std::string prefix = "kernels_resnet18_65_batch2_fp32_";
    const double flops = 1e9 * number(summary, "peak_gflop_per_s"),
                 bytes = 1e9 * number(summary, "peak_gb_per_s");
    EXPECT_GT(flops, 0);
    EXPECT_GT(bytes, 0);
    double nodes = 0, percent = 0, unrated = 0;
    int found = 0;
    for (const io::Value& value : *report.find("rows")->get_if<io::Array>()) {
        const auto& row = *value.get_if<io::Object>();
        const double count = number(row, "count"), us = number(row, "median_us");
        nodes += count;
        percent += number(row, "percent_of_time");
        if (text(row, "bound") == "none") {
            unrated += count;
            EXPECT_TRUE(std::isnan(number(row, "percent_of_peak")));
            continue;
        }
        EXPECT_GE(us, 20.0);
        // No upper limit: what lies in a cache is faster than memory, and a busy machine may
        // disturb the peak more than an op.
        const double gflop = number(row, "gflop_per_s");
        const double compute = std::isnan(gflop) ? 0 : 1e11 * gflop / flops,
                     memory = 1e11 * number(row, "gb_per_s") / bytes;
        const double bound = std::max(compute, memory);
        EXPECT_GT(bound, 0);
        EXPECT_NEAR(number(row, "percent_of_peak"), bound, 1e-6 * bound);
        EXPECT_EQ(text(row, "bound"), compute > memory ? "compute" : "memory");
        if (text(row, "op") == "Update") {  // five arrays of f32
            ++found;
            const double moved = 20 * std::stod(text(row, "x"));
            EXPECT_NEAR(number(row, "gb_per_s"), moved / us / 1e3, 1e-6 * moved / us / 1e3);
        }
        // The last convolution of the decoder but one, backwards: 2 x 17 x 17 outputs of 256
        // channels, each of 3 x 3 x 304 products, and as many sums.
        if (text(row, "x") == "2x304x17x17" && text(row, "w") == "256x304x3x3") {
            ++found;
            EXPECT_EQ(text(row, "y"), "2x256x17x17");
            EXPECT_EQ(count, 1);
            const double work = 2.0 * (2 * 17 * 17) * 256 * (3 * 3 * 304);
            EXPECT_NEAR(number(row, "gflop_per_s"), work / us / 1e3, 1e-6 * work / us / 1e3);
            const double moved = 4.0 * (2 * 304 * 17 * 17 + 256 * 304 * 3 * 3 + 2 * 256 * 17 * 17);
            EXPECT_NEAR(number(row, "gb_per_s"), moved / us / 1e3, 1e-6 * moved / us / 1e3);
        }
    }
    EXPECT_EQ(found, 4);  // three passes, and the update
    EXPECT_NEAR(percent, 100, 1e-6);
    EXPECT_EQ(nodes, number(summary, prefix + "nodes"));
    EXPECT_EQ(unrated, number(summary, prefix + "nodes_not_rated"));
    EXPECT_NEAR(number(summary, prefix + "compute_bound_percent_of_time") +
                    number(summary, prefix + "memory_bound_percent_of_time") +
                    number(summary, prefix + "not_rated_percent_of_time"),
                100, 1e-6);
}

TEST_F(KernelsBench, TopShowsTheSlowestButCountsAll) {
    const io::Object report = run({"--top", "3", "--threads", "1"});
    const auto& rows = *report.find("rows")->get_if<io::Array>();
    ASSERT_EQ(rows.size(), 3u);
    const auto total = [&](std::size_t i) {
        return number(*rows[i].get_if<io::Object>(), "total_ms");
    };
    EXPECT_GE(total(0), total(1));
    EXPECT_GE(total(1), total(2));
    const io::Object& summary = *report.find("summary")->get_if<io::Object>();
    EXPECT_GT(number(summary, "kernels_resnet18_65_batch2_fp32_nodes"), 200);
    const auto lines = split(trim(read_text(dir_ / "k.csv")), '\n');
    ASSERT_EQ(lines.size(), 4u);
    EXPECT_EQ(lines[0],
              "op,x,w,y,attributes,count,median_us,total_ms,percent_of_time,gflop_per_s,gb_per_s,"
              "bound,percent_of_peak");
}

TEST(KernelsBenchOptions, RefusesWhatItCannotMeasure) {
    const std::string program = testing::program("deeplab-bench");
    for (const auto& [option, value] : {std::pair{"--steps", "0"}, std::pair{"--top", "-1"},
                                        std::pair{"--crop", "5"}, std::pair{"--backbone", "vgg"}})
        EXPECT_EQ(testing::run_process({program, "kernels", option, value}).exit_code, 2) << option;
    if (!testing::have_mpirun()) return;
    const auto two = testing::run_process(testing::with_ranks(2, {program, "kernels"}));
    EXPECT_EQ(two.exit_code, 2);
    EXPECT_NE(two.err.find("several ranks"), std::string::npos) << two.both();
}

}  // namespace
}  // namespace deeplab
