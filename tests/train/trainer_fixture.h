#pragma once
// A trainer around a fake network.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/io/value.h"
#include "deeplab/train/run_training.h"
#include "harness/fake_backend.h"
#include "harness/temp_dir.h"
#include "tiny_run.h"

namespace deeplab::train {

class TrainerTest : public ::testing::Test {
protected:
    void SetUp() override {
        testing::write_tiny_dataset(dir_ / "data", {.split = "train", .images = 10});
        options_ = testing::tiny_run(dir_.path(), R"(data.val_split = "val"
train = {iterations = 12, global_batch = 4, log_every = 2}
optimizer.lr = 0.01
)");
    }

    TrainResult train(const TrainOptions& options, std::int64_t not_finite_at = -1) {
        testing::FakeBackend backend;
        backend.not_finite_at = not_finite_at;
        const auto world = comm::make_self();
        losses_.clear();
        TrainOptions copy = options;
        copy.on_step = [this](const StepReport& report) { losses_.push_back(report.loss); };
        return run_training(copy, backend, *world, *world);
    }

    // Exit code and message of the Error that training is refused with; 0 when it is not.
    std::pair<int, std::string> refusal(const TrainOptions& options) {
        try {
            train(options);
        } catch (const Error& error) {
            return {static_cast<int>(error.code()), error.what()};
        }
        return {0, ""};
    }

    std::vector<io::Object> metrics() const {
        std::vector<io::Object> lines;
        for (const auto& line : split(trim(read_text(dir_ / "run/metrics.jsonl")), '\n')) {
            lines.push_back(*io::parse_json(line, "metrics").get_if<io::Object>());
        }
        return lines;
    }

    testing::TempDir dir_;
    TrainOptions options_;
    std::vector<double> losses_;
};

// Every file below a folder, with size and time: to see that nothing was touched.
inline std::string listing(const std::filesystem::path& folder) {
    std::vector<std::string> lines;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
        lines.push_back(cat(entry.path().string(), " ",
                            entry.is_regular_file() ? entry.file_size() : 0, " ",
                            entry.last_write_time().time_since_epoch().count()));
    }
    std::sort(lines.begin(), lines.end());
    std::string all;
    for (const auto& line : lines) all += line + "\n";
    return all;
}

}  // namespace deeplab::train
