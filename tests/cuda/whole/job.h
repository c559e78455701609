#pragma once
// Trainings by deeplab-train-on-host: what a user of the real program would start, and what came of
// it.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/io/value.h"
#include "deeplab/weights/checkpoint.h"
#include "harness/process.h"
#include "harness/temp_dir.h"
#include "harness/tiny_dataset.h"

namespace deeplab::testing {

struct Job {
    std::string run = "run";  // its folder
    int ranks = 1;
    std::string device = "cuda";
    std::vector<std::string> more = {};  // options
    std::vector<std::string> environment = {};
    // Shell text of every rank, before the program and beside it; $rank is its number, $me its
    // process, and `after N` waits for N lines of metrics.
    std::string before = "true", beside = "true";
};

class WholeProgram : public ::testing::Test {
protected:
    void SetUp() override {
        if (!have_mpirun()) GTEST_SKIP() << "skipped: built without MPI";
        write_tiny_dataset(dir_ / "data", {.split = "train", .width = 48, .height = 40});
        // One image, larger than a step: a single rank evaluates it.
        write_tiny_dataset(
            dir_ / "data",
            {.split = "val", .images = 1, .shards = 1, .seed = 2, .width = 193, .height = 161});
        std::ofstream(dir_ / "config.toml") << R"([model]
backbone = "resnet18"
[data]
train_split = "train"
val_split = "val"
crop = 33
resize = {mode = "factor", range = [0.75, 1.5], step = 0}
[train]
iterations = 6
global_batch = 6
log_every = 1
[optimizer]
lr = 0.002
)";
    }

    std::filesystem::path folder(const std::string& run) const { return dir_ / run; }

    ProcessResult start(const Job& job) const {
        const std::string script = cat(
            "me=$$; rank=${OMPI_COMM_WORLD_RANK:-0}; export rank; "
            "after() { until [ \"$(wc -l < \"$RUN/metrics.jsonl\")\" -ge \"$1\" ]; do sleep 0.02; "
            "done 2>/dev/null; }; ",
            job.before, "; { ", job.beside, "; } </dev/null >/dev/null 2>&1 & exec \"$@\"");
        std::vector<std::string> command = {"sh", "-c", script, "sh",
                                            helper("deeplab-train-on-host")};
        for (const auto& [option, value] : {std::pair{"--config", dir_ / "config.toml"},
                                            {"--data", dir_ / "data"},
                                            {"--out", folder(job.run)}})
            command.insert(command.end(), {option, value.string()});
        command.insert(command.end(), {"--threads", "1", "--device", job.device});
        command.insert(command.end(), job.more.begin(), job.more.end());
        std::vector<std::string> environment = {
            cat("RUN=", folder(job.run).string()), "DEEPLAB_TEST_STREAMS=late",
            cat("DEEPLAB_TUNING_CACHE=", (dir_ / "engines.txt").string())};
        environment.insert(environment.end(), job.environment.begin(), job.environment.end());
        return run_process(with_ranks(job.ranks, command),
                           {.environment = environment, .directory = "", .timeout_s = 300});
    }
    // One that has to end well.
    ProcessResult train(const Job& job) const {
        ProcessResult result = start(job);
        EXPECT_EQ(result.exit_code, 0) << result.both();
        return result;
    }

    // By step.
    std::map<std::int64_t, double> losses(const std::string& run) const {
        std::map<std::int64_t, double> all;
        for (const auto& line : split(trim(read_text(folder(run) / "metrics.jsonl")), '\n')) {
            const io::Value value = io::parse_json(line, "metrics");
            const io::Object& object = *value.get_if<io::Object>();
            const io::Value* loss = object.find("loss");
            if (loss != nullptr && loss->is<double>())
                all[*object.find("step")->get_if<std::int64_t>()] = *loss->get_if<double>();
        }
        return all;
    }
    weights::Snapshot latest(const std::string& run) const {
        return weights::load_checkpoint(folder(run) / "checkpoints/latest.h5");
    }
    std::string hash(const std::string& run) const {
        return hex64(weights::state_hash(latest(run)));
    }

    TempDir dir_;
};

}  // namespace deeplab::testing
