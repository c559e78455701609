// deeplab-bench accuracy: its errors by hand, and a small network as a user would compare it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "../../benchmarks/tensor_errors.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/io/value.h"
#include "harness/process.h"
#include "harness/temp_dir.h"
#include "harness/tiny_dataset.h"

namespace deeplab {
namespace {

using testing::ProcessResult;

TEST(TensorErrors, ByHand) {
    std::vector<float> reference(200, 2.0f), actual = reference;
    for (std::size_t i = 0; i < 200; i += 2) reference[i] = actual[i] = -2.0f;
    actual[3] = 2.5f;
    actual[50] = -3.0f;
    actual[77] = 6.0f;
    const bench::TensorErrors e = bench::tensor_errors(actual, reference);
    EXPECT_DOUBLE_EQ(e.rms, 2.0);
    EXPECT_NEAR(e.mean, (0.25 + 0.5 + 2.0) / 200, 1e-12);
    EXPECT_DOUBLE_EQ(e.p99, 0.25);  // two of 200 are beyond
    EXPECT_DOUBLE_EQ(e.max, 2.0);
    const std::vector<float> zero(3, 0.0f), one(3, 1.0f);
    EXPECT_DOUBLE_EQ(bench::tensor_errors(one, zero).mean, 1.0);
    EXPECT_DOUBLE_EQ(bench::tensor_errors(one, one).max, 0.0);
    std::vector<float> nan = one;
    nan[1] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(std::isinf(bench::tensor_errors(nan, one).max));
    EXPECT_THROW(bench::tensor_errors(zero, {}), LogicError);
}

class Accuracy : public ::testing::Test {
protected:
    ProcessResult run(const std::vector<std::string>& more) const {
        std::vector<std::string> all = {testing::program("deeplab-bench"),
                                        "accuracy",
                                        "--backbone",
                                        "resnet18",
                                        "--crop",
                                        "65",
                                        "--json",
                                        (dir_ / "a.json").string()};
        all.insert(all.end(), more.begin(), more.end());
        testing::ProcessOptions options;
        options.environment = {"OMP_WAIT_POLICY=passive"};
        return testing::run_process(all, options);
    }
    io::Object report() const {
        return *io::parse_json(read_text(dir_ / "a.json"), "report").get_if<io::Object>();
    }
    static double number(const io::Object& object, const std::string& name) {
        const io::Value* value = object.find(name);
        if (value == nullptr) {
            ADD_FAILURE() << "no " << name;
            return NAN;
        }
        if (const auto* whole = value->get_if<std::int64_t>()) return static_cast<double>(*whole);
        return value->is<double>() ? *value->get_if<double>() : INFINITY;
    }
    // A column of the row of `tensor`.
    static double cell(const io::Object& report, const std::string& tensor,
                       const std::string& column) {
        for (const io::Value& row : *report.find("rows")->get_if<io::Array>()) {
            const auto& cells = *row.get_if<io::Object>();
            if (*cells.find("tensor")->get_if<std::string>() == tensor)
                return number(cells, column);
        }
        ADD_FAILURE() << "no row of " << tensor;
        return NAN;
    }
    static double summary(const io::Object& report, const std::string& name) {
        const std::string precision = *report.find("settings")
                                           ->get_if<io::Object>()
                                           ->find("precision")
                                           ->get_if<std::string>();
        return number(*report.find("summary")->get_if<io::Object>(),
                      cat("resnet18_65_batch4_", precision, "_", name));
    }
    testing::TempDir dir_;
};

// Another number of threads adds in another order, no more.
TEST_F(Accuracy, SlowFp32OnOtherThreadsIsTheSame) {
    const ProcessResult result = run({"--precision", "fp32", "--threads", "3"});
    ASSERT_EQ(result.exit_code, 0) << result.both();
    const io::Object r = report();
    EXPECT_EQ(summary(r, "class_agreement"), 1.0);
    EXPECT_LT(summary(r, "logits_max_error"), 1e-4);
    EXPECT_LT(summary(r, "parameter_largest_mean_error"), 1e-3);
    EXPECT_LT(summary(r, "loss_relative_error"), 1e-6);
}

// Half a unit in the last of 8 binary places, in the mean a quarter of 2^-7 of a number's power of
// two: about 2^-9 of it behind the first convolution, growing with depth.
TEST_F(Accuracy, Bf16ErrsByItsRoundingAndMoreWithDepth) {
    const ProcessResult result = run({"--precision", "bf16", "--csv", (dir_ / "a.csv").string()});
    ASSERT_EQ(result.exit_code, 0) << result.both();
    const io::Object r = report();
    const double first = cell(r, "backbone.conv1.y", "mean"),
                 middle = cell(r, "backbone.layer2.1.conv2.y", "mean"),
                 last = cell(r, "decoder.refine2.conv.y", "mean");
    EXPECT_GT(first, 0.5 * 0x1p-9);
    EXPECT_LT(first, 2 * 0x1p-9);
    EXPECT_GT(middle, 2 * first);
    EXPECT_GT(last, middle);
    EXPECT_LT(last, 0.2);
    EXPECT_GT(summary(r, "class_agreement"), 0.8);
    EXPECT_LT(summary(r, "loss_relative_error"), 0.01);
    // The gradient of the last layer needs no long way back.
    EXPECT_LT(cell(r, "d decoder.classifier.bias", "mean"), 0.02);

    std::size_t forward = 0, backward = 0, parameters = 0;
    const auto& rows = *r.find("rows")->get_if<io::Array>();
    for (const io::Value& row : rows) {
        const auto& cells = *row.get_if<io::Object>();
        const std::string& pass = *cells.find("pass")->get_if<std::string>();
        (pass == "forward" ? forward : pass == "backward" ? backward : parameters) += 1;
        EXPECT_LE(number(cells, "p99"), number(cells, "max"));
        EXPECT_LE(number(cells, "mean"), number(cells, "max"));
    }
    EXPECT_GT(forward, 60u);
    EXPECT_GT(backward, 60u);
    // ResNet-18: 20 convolutions and batch norms; ASPP 6, decoder 3 of both; classifier.
    EXPECT_EQ(parameters, 3u * 29 + 2);
    const auto lines = split(trim(read_text(dir_ / "a.csv")), '\n');
    EXPECT_EQ(lines.size(), rows.size() + 1);
    EXPECT_EQ(lines.front(), "pass,op,tensor,elements,rms,mean,p99,max");
}

TEST_F(Accuracy, SlowTakesWeightsAndData) {
    testing::write_tiny_dataset(dir_ / "data", {.split = "train"});
    const std::string data = (dir_ / "data").string(), run_folder = (dir_ / "run").string();
    write_atomically(dir_ / "config.toml", "[model]\nbackbone = \"resnet18\"\n");
    const ProcessResult trained = testing::run_process(
        {testing::program("deeplab-train"), "--config", (dir_ / "config.toml").string(), "--data",
         data, "--out", run_folder, "--threads", "1", "--set", "data.train_split=train", "--set",
         "data.crop=33", "--set", "train.iterations=1", "--set", "train.global_batch=2"});
    ASSERT_EQ(trained.exit_code, 0) << trained.both();
    ProcessResult result = run({"--weights", run_folder, "--data", data, "--split", "train"});
    ASSERT_EQ(result.exit_code, 0) << result.both();
    const io::Object r = report();
    EXPECT_EQ(*r.find("settings")->get_if<io::Object>()->find("weights")->get_if<std::string>(),
              "given");
    EXPECT_GT(summary(r, "logits_mean_error"), 0.0);

    testing::write_tiny_dataset(dir_ / "other", {.split = "train", .images = 4, .classes = 3});
    result = run(
        {"--weights", run_folder, "--data", (dir_ / "other").string(), "--split", "train"});
    EXPECT_EQ(result.exit_code, 3) << result.both();
}

TEST_F(Accuracy, RefusesWhatItCannotCompare) {
    const auto refused = [&](const std::vector<std::string>& more, int code) {
        const ProcessResult result = run(more);
        EXPECT_EQ(result.exit_code, code) << result.both();
        EXPECT_FALSE(std::filesystem::exists(dir_ / "a.json"));
    };
    refused({"--precision", "fp8"}, 2);
    refused({"--batch", "1"}, 2);
    refused({"--backbone", "resnet7"}, 2);
    refused({"--weights", (dir_ / "nowhere").string()}, 3);
    refused({"--data", (dir_ / "nowhere").string()}, 3);
    if (!testing::have_mpirun()) return;
    const ProcessResult two = testing::run_process(
        testing::with_ranks(2, {testing::program("deeplab-bench"), "accuracy"}));
    EXPECT_EQ(two.exit_code, 2) << two.both();
}

}  // namespace
}  // namespace deeplab
