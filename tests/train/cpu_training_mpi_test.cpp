// A run that is stopped and goes on: bitwise on the same ranks, within rounding on another number
// of ranks. CPU backend, dropout and augmentation on.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/cpu/cpu_backend.h"
#include "deeplab/io/value.h"
#include "deeplab/model/deeplab.h"
#include "deeplab/train/run_training.h"
#include "harness/mpi.h"
#include "tiny_run.h"

namespace deeplab::train {
namespace {

namespace fs = std::filesystem;

struct Training {
    TrainResult result;
    std::vector<double> losses;
};

// `own_hash`: of the parameters that this rank ends with.
Training train(TrainOptions options, comm::Communicator& ranks, std::uint64_t* own_hash = nullptr) {
    Training run;
    const auto backend = cpu::make_cpu_backend(1);
    options.on_step = [&](const StepReport& report) { run.losses.push_back(report.loss); };
    run.result = run_training(options, *backend, ranks, ranks);
    if (own_hash == nullptr) return run;
    model::ModelConfig network = options.config.model;
    network.num_classes = testing::TinyDataset{}.classes;
    const data::CropSize& crop = options.config.data.augmentation.crop;
    const graph::Plan plan = model::inference_plan(network, 1, crop.height, crop.width);
    *own_hash = fnv1a(nullptr, 0);
    for (const auto& parameter : plan.parameters) {
        const auto values = backend->download(parameter, exec::Slot::value);
        *own_hash = fnv1a(values.data(), values.size() * sizeof(float), *own_hash);
    }
    return run;
}

class CpuTrainingRanks : public ::testing::Test {
protected:
    void SetUp() override {
        comm::Communicator& world = testing::world();
        if (world.rank() == 0) testing::write_tiny_dataset(dir_ / "data", {.split = "train"});
        world.barrier("data of the test");
        options_ = testing::tiny_run(dir_.path(), R"toml(
data.resize = {mode = "factor", range = [0.75, 1.5], step = 0}
data.pad_label = "ignore"
train = {iterations = 8, global_batch = 6}
optimizer.lr = 1e-4
optimizer.groups = [{match = "^(aspp|decoder)", lr_multiplier = 10}]
)toml",
                                     {"data.crop=65"});
        options_.config.model.width_divisor = 4;
    }
    void TearDown() override { testing::world().barrier("end of the test"); }

    // A run that is stopped after its first step ends as one that is not, and goes on alone as on
    // all ranks.
    void expect_the_same_after_a_resume() const;

    testing::SharedDir dir_;
    TrainOptions options_;
};

// Gradients and batch-norm sums cross ranks in an order that does not depend on time.
TEST_F(CpuTrainingRanks, TheSameRanksGiveTheSameBitsOnAll) {
    comm::Communicator& world = testing::world();
    options_.config.train.iterations = 3;
    std::uint64_t expected = 0;
    for (const int workers : {1, 3}) {
        options_.run = dir_ / cat("workers", workers);
        options_.config.data.workers = workers;
        std::uint64_t own = 0;
        const Training run = train(options_, world, &own);
        for (const std::string& hash : world.all_gather(hex64(own), "hashes"))
            EXPECT_EQ(hash, hex64(own)) << "the ranks have drifted apart";
        if (expected != 0) {
            EXPECT_EQ(run.result.state_hash, expected);
        }
        expected = run.result.state_hash;
    }
}

// Every node and every wait of the traced steps, of all ranks, and the same parameters as without.
TEST_F(CpuTrainingRanks, ATraceShowsAllRanksAndChangesNothing) {
    comm::Communicator& world = testing::world();
    options_.config.train.iterations = 6;
    options_.run = dir_ / "plain";
    const Training plain = train(options_, world);
    options_.run = dir_ / "traced";
    options_.trace = dir_ / "trace.json";
    const Training traced = train(options_, world);
    EXPECT_EQ(traced.result.state_hash, plain.result.state_hash);
    if (world.rank() != 0) return;

    const io::Value trace = io::parse_json(read_text(options_.trace), "trace");
    std::map<std::int64_t, std::map<std::string, int>> names;  // by rank
    for (const io::Value& value :
         *trace.get_if<io::Object>()->find("traceEvents")->get_if<io::Array>()) {
        const auto& event = *value.get_if<io::Object>();
        ++names[*event.find("pid")->get_if<std::int64_t>()]
               [*event.find("name")->get_if<std::string>()];
        if (const io::Value* length = event.find("dur")) {
            EXPECT_GE(*length->get_if<double>(), 0);
            const std::int64_t step = *event.find("args")
                                           ->get_if<io::Object>()
                                           ->find("step")
                                           ->get_if<std::int64_t>();
            EXPECT_TRUE(step >= 3 && step <= 5) << step;
        }
    }
    ASSERT_EQ(names.size(), static_cast<std::size_t>(world.size()));
    for (auto& [rank, count] : names) {
        EXPECT_EQ(count["wait for data"], 3);
        EXPECT_EQ(count["forward, backward, update"], 3);
        EXPECT_EQ(count["Update"], 3);
        EXPECT_EQ(count["SegmentationLoss"], 3);
    }
}

void CpuTrainingRanks::expect_the_same_after_a_resume() const {
    comm::Communicator& world = testing::world();
    const fs::path path = dir_.path();
    TrainOptions options = options_;
    options.run = path / "whole";
    const Training whole = train(options, world);
    const auto steps = static_cast<std::size_t>(options.config.train.iterations);
    ASSERT_EQ(whole.losses.size(), steps);

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
        ASSERT_EQ(alone.losses.size(), steps - 1);
        for (std::size_t i = 0; i < alone.losses.size(); ++i) {
            EXPECT_NEAR(alone.losses[i], whole.losses[i + 1], 2e-3 * whole.losses[i + 1]) << i;
        }
    }
}

TEST_F(CpuTrainingRanks, ResumeIsBitwiseOnTheSameRanksAndCloseOnOthers) {
    expect_the_same_after_a_resume();
}

TEST_F(CpuTrainingRanks, ResumeIsBitwiseOnTheSameRanksAndCloseOnOthersWithOblongCrops) {
    options_.config.model.width_divisor = 8;
    options_.config.data.augmentation.crop = {65, 129};
    options_.config.train.iterations = 3;
    expect_the_same_after_a_resume();
}

}  // namespace
}  // namespace deeplab::train
