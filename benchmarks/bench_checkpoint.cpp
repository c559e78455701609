#include "bench_checkpoint.h"

#include <array>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "deeplab/base/clock.h"
#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/model/deeplab.h"
#include "deeplab/weights/checkpoint.h"
#include "network_step.h"

namespace deeplab::bench {
namespace {

namespace fs = std::filesystem;

struct Options {
    std::string backbone = "resnet101", out;
    std::int64_t repeats = 5;
};

// Removes the file however the measurement ends.
struct Scratch {
    fs::path file;
    ~Scratch() {
        std::error_code ignored;
        fs::remove(file, ignored);
    }
};

graph::Plan plan_of(const model::ModelConfig& config) {
    return model::training_plan(config, {.batch = 2, .height = 65, .width = 65},
                                {.momentum = 0.9f, .weight_decay = 4e-5f, .groups = {}});
}

// A run's state before its first step.
void fill(exec::Backend& backend, const graph::Plan& plan) {
    backend.allocate(plan);
    for (const auto& p : plan.parameters) {
        const std::vector<float> value = model::initial_value(p, plan, 1);
        backend.upload(p, exec::Slot::value, value);
        backend.upload(p, exec::Slot::momentum, value);  // numbers that do not compress to nothing
    }
    for (const auto& s : plan.states)
        backend.upload(s,
                       std::vector<float>(static_cast<std::size_t>(s.shape.elements()), s.initial));
}

constexpr std::array<const char*, 4> parts = {"snapshot", "write", "read", "apply"};
constexpr std::array<const char*, 4> meanings = {"device to host; training waits",
                                                 "HDF5, fsync, rename; a thread of its own",
                                                 "of the file, with its checks", "host to device"};

Report run(const Options& o, comm::Communicator& world) {
    if (o.repeats < 1 || o.repeats > 10000)
        throw UsageError(
            "--repeats is 1 to 10000 — there would be nothing to measure — correct the command "
            "line");
    if (world.size() > 1)
        throw UsageError(
            "checkpoint measures one process — rank 0 alone writes checkpoints, others would "
            "disturb it — start it without mpirun");
    require_writable_directory(o.out);
    weights::WeightsInfo info;
    info.classes = data::voc_classes();
    info.model.backbone = o.backbone;
    info.model.num_classes = static_cast<int>(info.classes.classes.size());
    const graph::Plan plan = plan_of(info.model);
    const auto backend = make_backend({.device = "cpu", .threads = 1}, world);
    fill(*backend, plan);

    const Scratch scratch{fs::path(o.out) / "deeplab-bench-checkpoint.h5"};
    std::array<std::vector<double>, parts.size()> times;
    double bytes = 0;
    for (std::int64_t i = 0; i < o.repeats; ++i) {
        weights::Snapshot saved, loaded;
        times[0].push_back(
            seconds_of([&] { saved = weights::take_snapshot(*backend, plan, info); }));
        times[1].push_back(seconds_of([&] { weights::save_checkpoint(scratch.file, saved); }));
        bytes = static_cast<double>(fs::file_size(scratch.file));
        times[2].push_back(seconds_of([&] { loaded = weights::load_checkpoint(scratch.file); }));
        times[3].push_back(
            seconds_of([&] { weights::apply_snapshot(*backend, plan, loaded, true); }));
        ensures(weights::state_hash(loaded) == weights::state_hash(saved),
                "a checkpoint holds the state that was saved");
    }
    Report report;
    report.title = cat("checkpoint of ", o.backbone, ", ",
                       human_bytes(static_cast<std::uint64_t>(bytes)), ": ",
                       backend->description());
    report.columns = {"part", "ms", "gb_per_s", "what"};
    for (std::size_t p = 0; p < parts.size(); ++p) {
        const double seconds = median(times[p]);
        report.rows.push_back({parts[p], 1e3 * seconds, bytes / seconds / 1e9, meanings[p]});
        report.summary[cat("checkpoint_", o.backbone, "_", parts[p], "_ms")] = 1e3 * seconds;
    }
    report.summary[cat("checkpoint_", o.backbone, "_bytes")] = bytes;
    report.settings["backbone"] = o.backbone;
    report.settings["repeats"] = o.repeats;
    report.notes = {cat("medians of ", o.repeats, "; every file read back had the state's hash"),
                    "the file is read right after it was written: from the system's cache, not "
                    "from the disk"};
    return report;
}

}  // namespace

Bench checkpoint(CommandLine& program) {
    const auto o = std::make_shared<Options>();
    CommandLine& line = program.command("checkpoint",
                                        "Snapshot, writing and reading of a run's state");
    line.option("--backbone", o->backbone, "network, with initial weights",
                {false, model::backbone_names(), ""});
    line.option("--out", o->out, "folder on the file system to measure; the file is removed again",
                {true, {}, "DIR"});
    line.option("--repeats", o->repeats, "the medians are shown");
    return {&line, [o](comm::Communicator& world) { return run(*o, world); }};
}

}  // namespace deeplab::bench
