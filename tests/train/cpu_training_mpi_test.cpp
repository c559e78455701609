// A run that is stopped and goes on: bitwise on the same ranks, within rounding on another number
// of ranks. CPU backend, dropout and augmentation on.
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <vector>

#include "deeplab/cpu/cpu_backend.h"
#include "deeplab/train/trainer.h"
#include "harness/mpi.h"
#include "harness/temp_dir.h"
#include "harness/tiny_dataset.h"

namespace deeplab::train {
namespace {

namespace fs = std::filesystem;

struct Training {
    TrainResult result;
    std::vector<double> losses;
};

Training train(TrainOptions options, comm::Communicator& ranks) {
    Training run;
    const auto backend = cpu::make_cpu_backend(1);
    options.on_step = [&](const StepReport& report) { run.losses.push_back(report.loss); };
    run.result = run_training(options, *backend, ranks, ranks);
    return run;
}

TEST(CpuTrainingRanks, ResumeIsBitwiseOnTheSameRanksAndCloseOnOthers) {
    comm::Communicator& world = testing::world();
    std::unique_ptr<testing::TempDir> dir;  // rank 0's is everybody's
    if (world.rank() == 0) {
        dir = std::make_unique<testing::TempDir>();
        testing::write_tiny_dataset(*dir / "data", {.split = "train"});
    }
    const fs::path path = world.all_gather(dir ? dir->path().string() : "", "folder").front();
    TrainOptions options;
    options.config = parse_config(R"toml(
[model]
backbone = "resnet18"
[data]
train_split = "train"
crop = 65
resize = {mode = "factor", range = [0.75, 1.5], step = 0}
pad_label = "ignore"
[train]
iterations = 8
global_batch = 6
[optimizer]
lr = 1e-4
[[optimizer.groups]]
match = "^(aspp|decoder)"
lr_multiplier = 10
)toml",
                                  "test", {});
    options.config.model.width_divisor = 4;
    options.data = path / "data";

    options.run = path / "whole";
    const Training whole = train(options, world);
    ASSERT_EQ(whole.losses.size(), 8u);

    options.run = path / "part";
    options.time_budget_min = 1e-9;  // one step
    const Training first = train(options, world);
    EXPECT_EQ(first.result.code, ExitCode::stopped_early);
    world.barrier("first part");
    if (world.rank() == 0)
        fs::copy(path / "part", path / "alone",
                 fs::copy_options::recursive | fs::copy_options::copy_symlinks);
    world.barrier("copy of the run");

    options.time_budget_min = 0;
    options.resume = true;
    const Training rest = train(options, world);
    EXPECT_EQ(rest.losses, (std::vector<double>(whole.losses.begin() + 1, whole.losses.end())));
    EXPECT_EQ(rest.result.state_hash, whole.result.state_hash);

    if (world.rank() == 0) {
        const auto self = comm::make_self();
        options.run = path / "alone";
        const Training alone = train(options, *self);
        ASSERT_EQ(alone.losses.size(), 7u);
        for (std::size_t i = 0; i < alone.losses.size(); ++i) {
            EXPECT_NEAR(alone.losses[i], whole.losses[i + 1], 2e-3 * whole.losses[i + 1]) << i;
        }
    }
    world.barrier("end of the test");
}

}  // namespace
}  // namespace deeplab::train
