// A small real training on the CPU backend: it learns, evaluates, and goes on bitwise after a
// resume.
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/cpu/cpu_backend.h"
#include "deeplab/io/value.h"
#include "deeplab/train/run_training.h"
#include "deeplab/weights/checkpoint.h"
#include "harness/temp_dir.h"
#include "tiny_run.h"

namespace deeplab::train {
namespace {

namespace fs = std::filesystem;

class CpuTraining : public ::testing::Test {
protected:
    void SetUp() override {
        testing::write_tiny_dataset(dir_ / "data", {.split = "train"});
        testing::write_tiny_dataset(dir_ / "data",
                                    {.split = "val", .images = 5, .shards = 1, .seed = 2});
        options_ = testing::tiny_run(dir_.path(), R"(data.val_split = "val"
data.resize = {mode = "factor", range = [0.75, 1.5], step = 0}
data.pad_label = "ignore"
train = {iterations = 24, global_batch = 4, log_every = 4, eval_every = 12}
optimizer.lr = 0.02
checkpoint.every = 10
)",
                                     {"data.crop=65"});
        options_.config.model.width_divisor = 4;
    }

    TrainResult train(TrainOptions options, int threads = 1) {
        const auto backend = cpu::make_cpu_backend(threads);
        const auto world = comm::make_self();
        losses_.clear();
        options.on_step = [this](const StepReport& report) { losses_.push_back(report.loss); };
        return run_training(options, *backend, *world, *world);
    }

    testing::TempDir dir_;
    TrainOptions options_;
    std::vector<double> losses_;
};

TEST_F(CpuTraining, LearnsEvaluatesAndResumesBitwise) {
    const TrainResult whole = train(options_);
    const std::vector<double> expected = losses_;
    ASSERT_EQ(expected.size(), 24u);
    const double early = std::accumulate(expected.begin(), expected.begin() + 4, 0.0);
    const double late = std::accumulate(expected.end() - 4, expected.end(), 0.0);
    EXPECT_LT(late, 0.7 * early);
    EXPECT_GT(whole.miou, 0.0);

    std::vector<std::int64_t> evaluations;
    std::string hash;
    for (const auto& line : split(trim(read_text(options_.run / "metrics.jsonl")), '\n')) {
        const io::Value value = io::parse_json(line, "metrics");
        const auto& object = *value.get_if<io::Object>();
        if (object.find("split") == nullptr) continue;
        evaluations.push_back(*object.find("step")->get_if<std::int64_t>());
        hash = *object.find("state_hash")->get_if<std::string>();
        EXPECT_EQ(*object.find("images")->get_if<std::int64_t>(), 5);
        EXPECT_EQ(*object.find("protocol")->get_if<std::string>(), "full");
        EXPECT_EQ(object.find("class_iou")->get_if<io::Array>()->size(), 4u);
        for (const char* key : {"pixel_accuracy", "mean_pixel_accuracy", "miou", "fwiou"})
            EXPECT_NE(object.find(key), nullptr);
    }
    EXPECT_EQ(evaluations, (std::vector<std::int64_t>{12, 24}));
    EXPECT_EQ(hash, hex64(whole.state_hash));
    EXPECT_TRUE(fs::exists(options_.run / "checkpoints/best.h5"));
    EXPECT_EQ(weights::load_checkpoint(options_.run / "checkpoints/latest.h5").info.step, 24);

    // Stopped at a step at which an evaluation was due: the run that goes on makes up for it.
    TrainOptions part = options_;
    part.run = dir_ / "part";
    part.resume = true;
    std::atomic<bool> stop{false};
    part.stop = &stop;
    {
        const auto backend = cpu::make_cpu_backend(1);
        const auto world = comm::make_self();
        TrainOptions first = part;
        first.on_step = [&](const StepReport& report) { stop = report.step >= 11; };
        EXPECT_EQ(run_training(first, *backend, *world, *world).code, ExitCode::stopped_early);
    }
    stop = false;
    const TrainResult resumed = train(part);
    EXPECT_EQ(losses_, (std::vector<double>(expected.begin() + 12, expected.end())));
    EXPECT_EQ(resumed.state_hash, whole.state_hash);
    EXPECT_EQ(resumed.miou, whole.miou);
}

// With the backend's threads as they are and any number of the loader's; the hash sees every bit of
// the state. Three threads: two partial sums have but one order.
TEST_F(CpuTraining, TheSameThreadsGiveTheSameBits) {
    options_.config.train.iterations = 2;
    options_.config.train.eval_every = 0;
    const auto hash = [&](const char* run, int threads = 3) {
        options_.run = dir_ / run;
        return train(options_, threads).state_hash;
    };
    EXPECT_EQ(hash("two threads", 2), hash("two threads again", 2));
    const std::uint64_t expected = hash("first");
    EXPECT_EQ(hash("again"), expected);
    options_.config.data.workers = 3;
    EXPECT_EQ(hash("workers"), expected) << "the loader's threads do not matter";
    options_.config.train.deterministic = false;
    EXPECT_EQ(hash("free"), expected) << "on the CPU this changes nothing";
    options_.config.train.precision = Precision::bf16;
    EXPECT_NE(hash("bf16"), expected);
    options_.config.train.precision = Precision::fp32;
    options_.config.train.seed = 2;
    EXPECT_NE(hash("seed"), expected);
}

}  // namespace
}  // namespace deeplab::train
