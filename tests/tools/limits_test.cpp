// A run whose terminal, output, files or memory are taken away: it saves what it can and says why
// it ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/io/image.h"
#include "deeplab/weights/checkpoint.h"
#include "tiny_training.h"

namespace deeplab {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;
using testing::ProcessResult;

class Limits : public testing::TinyTraining {
protected:
    void SetUp() override {
        prepare(R"(data.val_split = "train"
data.allow_overlap = true
train = {iterations = 4, global_batch = 2, log_every = 1, freeze_bn = true}
optimizer.lr = 0.001
)");
    }

    // Runs the shell text, in which "$@" is a training of RUN ("run") and `after N` waits for N
    // logged steps.
    ProcessResult shell(const std::string& text, const std::vector<std::string>& more = {}) const {
        const std::string script =
            "after() { until [ \"$(wc -l < \"$RUN/metrics.jsonl\")\" -ge \"$1\" ]; do sleep 0.05; "
            "done 2>/dev/null; }; " +
            text;
        std::vector<std::string> shell = {"sh", "-c", script, "sh"};
        std::vector<std::string> training = {"--device", "cpu"};
        training.insert(training.end(), more.begin(), more.end());
        training = command(training);
        shell.insert(shell.end(), training.begin(), training.end());
        return testing::run_process(
            shell,
            {.environment = {cat("RUN=", run().string())}, .directory = "", .timeout_s = 60});
    }
    fs::path run() const { return dir_ / "run"; }
    std::int64_t step() const {
        return weights::load_checkpoint(run() / "checkpoints/latest.h5").info.step;
    }

    const std::vector<std::string> long_ = {"--set", "train.iterations=100000"};
};

TEST_F(Limits, AClosedTerminalStopsTheRunWithACheckpoint) {
    const ProcessResult result = shell("\"$@\" & after 2; kill -HUP $!; wait $!", long_);
    EXPECT_EQ(result.exit_code, 75) << result.both();
    EXPECT_GE(step(), 2);
    // nohup's way: the program was started to live on.
    fs::remove_all(run());
    const ProcessResult ignored = shell(
        "(trap '' HUP; exec \"$@\") & after 1; kill -HUP $!; wait $!");
    EXPECT_EQ(ignored.exit_code, 0) << ignored.both();
    EXPECT_EQ(step(), 4);
}

TEST_F(Limits, OutputThatNobodyTakesDoesNotEndTheRun) {
    const ProcessResult closed = shell("{ \"$@\" 2>&1; echo code $? >&3; } 3>&2 | true");
    EXPECT_THAT(closed.err, HasSubstr("code 0")) << closed.both();
    EXPECT_EQ(step(), 4);
    fs::remove_all(run());
    const ProcessResult full = shell("\"$@\" >/dev/full 2>/dev/full");
    EXPECT_EQ(full.exit_code, 0) << full.both();
    EXPECT_EQ(step(), 4);
}

// ulimit -f counts blocks of 512 bytes. 5 MB hold metrics and TensorBoard, and no checkpoint.
TEST_F(Limits, AFileSizeLimitIsAnErrorOfTheCheckpoint) {
    const ProcessResult result = shell("ulimit -f 10000; exec \"$@\"");
    EXPECT_EQ(result.exit_code, 4) << result.both();
    EXPECT_THAT(result.err, HasSubstr("File too large")) << result.both();
    EXPECT_THAT(result.err, HasSubstr("step 4/4")) << "it came to its end: " << result.both();
    EXPECT_TRUE(fs::is_empty(run() / "checkpoints"));
}

// Nor is it the user's path that a converted network, or logits, are too large for.
TEST_F(Limits, AFileSizeLimitIsNamedForOtherResultsToo) {
    ASSERT_EQ(shell("\"$@\"", {"--set", "train.iterations=1"}).exit_code, 0);
    const std::string weights = run(), out = dir_ / "out";
    for (const auto& command :
         {std::vector<std::string>{testing::program("deeplab-weights"), "convert", weights,
                                   out + ".safetensors"},
          std::vector<std::string>{testing::program("deeplab-eval"), "--weights", weights, "--data",
                                   dir_ / "data", "--split", "train", "--save-logits", out}}) {
        std::vector<std::string> limited = {"sh", "-c", "ulimit -f 2; exec \"$@\"", "sh"};
        limited.insert(limited.end(), command.begin(), command.end());
        const ProcessResult result = testing::run_process(limited);
        EXPECT_EQ(result.exit_code, 4) << result.both();
        EXPECT_THAT(result.err, HasSubstr(": File too large — ")) << result.both();
        EXPECT_THAT(result.err, HasSubstr("ulimit -f unlimited")) << result.both();
    }
}

// "Shrink the image to that" helps: the size leaves room for what a pass holds beside the network.
TEST_F(Limits, SlowAnImageOfTheSizeThatIsNamedFits) {
    ASSERT_EQ(shell("\"$@\"", {"--set", "train.iterations=1"}).exit_code, 0);
    const std::string file = dir_ / "image.png";
    const auto predict = [&](std::int64_t width, std::int64_t height) {
        io::Image image{.width = width, .height = height, .pixels = {}};
        image.pixels.assign(static_cast<std::size_t>(3 * width * height), 128);
        write_bytes(file, io::encode_png(image));
        return testing::run_process({"sh", "-c", "ulimit -v 1500000; exec \"$@\"", "sh",
                                     testing::program("deeplab-predict"), "--weights", run(),
                                     "--threads", "2", "--force", "--out", dir_ / "out", file});
    };
    const ProcessResult large = predict(4000, 3000);
    EXPECT_EQ(large.exit_code, 4) << large.both();
    const std::string before = "of this shape that fits is ";
    const std::size_t at = large.err.find(before);
    ASSERT_NE(at, std::string::npos) << large.both();
    std::istringstream size(large.err.substr(at + before.size()));
    std::int64_t width = 0, height = 0;
    char times = 0;
    size >> width >> times >> height;
    EXPECT_GT(width, 500) << large.both();
    const ProcessResult fits = predict(width, height);
    EXPECT_EQ(fits.exit_code, 0) << fits.both();
}

// They need no other ranks, no memory and no files; whatever else a program does, does.
TEST(Start, HelpAndVersionAlwaysWork) {
    for (const auto& [name, work] :
         {std::pair{"deeplab-train",
                    std::vector<std::string>{"--data", "x", "--dry-run", "--config", "x"}},
          {"deeplab-eval", {"--weights", "x", "--data", "x"}},
          {"deeplab-predict", {"--weights", "x", "--out", "x", "x"}},
          {"deeplab-weights", {"info", "x"}},
          {"deeplab-report", {"x"}},
          {"deeplab-pack", {"verify", "x"}},
          {"deeplab-make-shapes", {"--out", "/dev/null/x"}}}) {
        const auto run = [&](const std::string& before, std::vector<std::string> arguments) {
            arguments.insert(arguments.begin(),
                             {"sh", "-c", before + "; exec \"$@\"", "sh", testing::program(name)});
            return testing::run_process(arguments);
        };
        for (const char* before : {"export PMI_SIZE=2", "ulimit -n 8"})
            for (const char* option : {"--help", "-h", "--version"}) {
                const ProcessResult result = run(before, {option});
                EXPECT_EQ(result.exit_code, 0) << name << ", " << before << ": " << result.both();
                EXPECT_THAT(result.out, HasSubstr(name)) << result.both();
            }
        const ProcessResult copies = run("export PMI_SIZE=2", work);
        EXPECT_EQ(copies.exit_code, 2) << name << ": " << copies.both();
        EXPECT_THAT(copies.err, HasSubstr("started 2 times")) << name << ": " << copies.both();
        const ProcessResult files = run("ulimit -n 8", work);
        EXPECT_EQ(files.exit_code, 4) << name << ": " << files.both();
        EXPECT_THAT(files.err, HasSubstr("ulimit -n 1024")) << name << ": " << files.both();
    }
}

// At no limit does the program crash, and where it says why it ends, the limit is named.
TEST_F(Limits, SlowAnAddressSpaceLimitIsNamed) {
    int named = 0;
    for (int mib = 300; mib <= 1200; mib += 100) {
        fs::remove_all(run());
        const ProcessResult result = shell(
            cat("ulimit -c 0; ulimit -v ", mib * 1024, "; exec \"$@\""),
            {"--set", "train.iterations=1", "--set", "train.global_batch=64"});
        EXPECT_LT(result.exit_code, 128) << mib << " MiB: " << result.both();
        if (result.exit_code == 4) {
            EXPECT_THAT(result.err, HasSubstr("ulimit -v")) << mib << " MiB: " << result.both();
            ++named;
        }
    }
    EXPECT_GE(named, 2);
}

}  // namespace
}  // namespace deeplab
