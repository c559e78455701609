// The report: what its pages say, refuse, and that the same run gives the same bytes.
#include "deeplab/report/report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#include "../../src/report/data.h"
#include "../../src/report/svg.h"
#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "harness/temp_dir.h"

namespace deeplab::report {
namespace {

namespace fs = std::filesystem;

std::size_t count(const std::string& text, const std::string& part) {
    std::size_t found = 0;
    for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size())
        ++found;
    return found;
}

bool contains(const std::string& text, const std::string& part) { return count(text, part) > 0; }

class ReportTest : public ::testing::Test {
protected:
    // Two logged steps and an evaluation of two classes.
    fs::path write_run(const std::string& name, double lr = 0.1) {
        const fs::path run = dir_ / name;
        fs::create_directories(run / "report");
        std::ofstream(run / "metrics.jsonl")
            << R"({"step":10,"loss":2.5,"lr":0.1,"images_per_s":4.0,"data_wait":0.25})"
            << "\n"
            << R"({"step":20,"loss":1.25,"lr":0.05,"images_per_s":6.0,"data_wait":0.5})"
            << "\n"
            << R"({"step":20,"split":"val","protocol":"full","pixel_accuracy":0.9,)"
            << R"("miou":0.4321,"class_iou":[0.75,null],"images":3,"state_hash":"00aa"})"
            << "\n";
        std::ofstream(run / "config.toml")
            << "[train]\niterations = 40\n[optimizer]\nlr = " << lr << "\n";
        std::ofstream(run / "environment.json")
            << R"({"version":"0.1.0","devices":[{"rank":0,"device":"CPU <1 thread>"}]})";
        write_details(run, "00aa");
        return run;
    }
    static void write_details(const fs::path& run, const std::string& hash) {
        data::ClassTable classes;
        classes.classes = {{"sky & sea", {}}, {"<script>", {}}};
        evaluate::Confusion confusion(2);
        const std::uint8_t truth[] = {0, 0, 0, 1}, predicted[] = {0, 0, 1, 1};
        confusion.add(truth, predicted);
        std::ofstream(picture_path(run, 0)) << "JPEG!";
        write_atomically(run / "report/evaluation.json",
                         evaluation_json(20, hash, classes, confusion, 1));
    }
    // Message of the error that the report of `run` is refused with.
    std::pair<int, std::string> refusal(const fs::path& run) {
        try {
            write_report(run, dir_ / "out");
        } catch (const Error& error) {
            return {static_cast<int>(error.code()), error.what()};
        }
        return {0, ""};
    }
    std::string page(const fs::path& out) { return read_text(out / "index.html"); }

    testing::TempDir dir_;
};

TEST_F(ReportTest, APageShowsTheRunAndNeedsNothingElse) {
    const fs::path run = write_run("a&b");
    write_report(run, run / "report");
    const std::string text = page(run / "report");
    for (const char* part : {"a&amp;b", "step 20 of 40", "43.21 %", "90.00 %", "1.2500", "00aa",
                             "sky &amp; sea", "&lt;script&gt;", "CPU &lt;1 thread&gt;",
                             "devices[0].device", "iterations = 40", "66.67 % (2 pixels)",
                             "data:image/jpeg;base64,SlBFRyE=", "prefers-color-scheme", "images/s"})
        EXPECT_TRUE(contains(text, part)) << part;
    for (const char* part : {"<script", "href=", "url(", "@import", "src=\"http", "nan"})
        EXPECT_FALSE(contains(text, part)) << part;
    for (const char* name :
         {"loss", "lr", "images_per_s", "data_wait", "miou", "class_iou", "confusion"}) {
        const std::string figure = read_text(run / "report" / cat(name, ".svg"));
        EXPECT_TRUE(figure.starts_with("<svg xmlns=")) << name;
        EXPECT_TRUE(contains(figure, "<style>")) << name;
        EXPECT_TRUE(contains(figure, "<title>")) << name;
    }
}

TEST_F(ReportTest, TheSameRunGivesTheSameBytes) {
    const fs::path run = write_run("run");
    write_report(run, dir_ / "one");
    write_report(run, dir_ / "two");
    for (const auto& entry : fs::directory_iterator(dir_ / "one"))
        EXPECT_EQ(read_text(entry.path()), read_text(dir_ / "two" / entry.path().filename()));
}

TEST_F(ReportTest, TheCurveIsWhereItsNumbersAre) {
    // 0 to 2 over 200 units of height, 0 to 10 over 552 of width.
    const std::string text = svg(LineChart{"t", "step", "y", {{"run", {{5, 1}, {10, 2}}}}});
    EXPECT_TRUE(contains(text, "d=\"M344.0 136.0L620.0 36.0\"")) << text;
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const std::string gap = svg(
        LineChart{"t", "step", "y", {{"run", {{0, 2}, {5, nan}, {10, 2}}}}});
    EXPECT_TRUE(contains(gap, "d=\"M68.0 36.0M620.0 36.0\"")) << gap;
}

TEST_F(ReportTest, ALongCurveKeepsItsPeaksInFewPoints) {
    Series points{"run", {}};
    for (int i = 0; i < 20000; ++i) points.points.emplace_back(i, i == 12345 ? 50 : 1);
    const std::string text = svg(LineChart{"t", "step", "y", {points}});
    EXPECT_LE(count(text, "<circle"), 402U);
    EXPECT_TRUE(contains(text, "steps 12300 to 12349: 1.98 (1 to 50) y"));
    EXPECT_TRUE(contains(text, "class=\"band s0\""));
    EXPECT_EQ(count(text, " 36.0L"), 1U) << "the peak is the band's highest point";
}

TEST_F(ReportTest, DetailsOfAnotherEvaluationAreNotShown) {
    const fs::path run = write_run("run");
    write_details(run, "00bb");  // left by the steps before a resume
    write_report(run, dir_ / "out");
    EXPECT_FALSE(contains(page(dir_ / "out"), "Confusion matrix"));
    EXPECT_FALSE(contains(page(dir_ / "out"), "base64"));
    EXPECT_TRUE(contains(page(dir_ / "out"), "class 0"));
}

TEST_F(ReportTest, WrongInputIsRefusedAndNamed) {
    EXPECT_EQ(refusal(dir_ / "nowhere").first, 2);
    EXPECT_TRUE(contains(refusal(dir_ / "nowhere").second, "there is no run"));
    fs::create_directories(dir_ / "empty");
    EXPECT_EQ(refusal(dir_ / "empty").first, 3);
    EXPECT_TRUE(contains(refusal(dir_ / "empty").second, "no metrics yet"));
    const fs::path run = write_run("run");
    const std::string good = read_text(run / "metrics.jsonl");
    for (const char* bad : {"{\"step\":3", "[1]", "{\"loss\":1}", "\xff\xfe"}) {
        write_atomically(run / "metrics.jsonl", cat(good, bad, "\n", good));
        EXPECT_EQ(refusal(run).first, 3) << bad;
        EXPECT_TRUE(contains(refusal(run).second, "metrics.jsonl, line 4")) << refusal(run).second;
    }
    write_atomically(run / "metrics.jsonl", good);
    for (const char* bad :
         {"{", R"({"step":1,"state_hash":"00aa","classes":["a"],"confusion":[1,2],"pictures":0})",
          R"({"step":1,"state_hash":"00aa","classes":["a"],"confusion":["x"],"pictures":0})"}) {
        write_atomically(run / "report/evaluation.json", bad);
        EXPECT_EQ(refusal(run).first, 3) << bad;
        EXPECT_TRUE(contains(refusal(run).second, "evaluation.json")) << bad;
    }
    EXPECT_FALSE(fs::exists(dir_ / "out/index.html"));
}

TEST_F(ReportTest, ALineThatIsBeingWrittenIsLeftOut) {
    const fs::path run = write_run("run");
    std::ofstream(run / "metrics.jsonl", std::ios::app) << "{\"step\":30,\"lo";
    write_report(run, dir_ / "out");
    EXPECT_TRUE(contains(page(dir_ / "out"), "step 20 of 40"));
}

TEST_F(ReportTest, AComparisonTellsRunsAndDifferencesApart) {
    const fs::path runs[] = {write_run("one/run", 0.1), write_run("two/run", 0.2)};
    write_comparison(runs, dir_ / "out");
    const std::string text = page(dir_ / "out");
    for (const char* part : {"Comparison of 2 runs", "run (2)", "optimizer.lr", "<td>0.1</td>",
                             "<td>0.2</td>", "43.21 %"})
        EXPECT_TRUE(contains(text, part)) << part;
    EXPECT_FALSE(contains(text, "train.iterations"));  // the same in both
    const std::string loss = read_text(dir_ / "out/loss.svg");
    EXPECT_TRUE(contains(loss, "class=\"line s0\""));
    EXPECT_TRUE(contains(loss, "class=\"line s1\""));
}

}  // namespace
}  // namespace deeplab::report
