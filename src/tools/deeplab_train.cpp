// deeplab-train: trains DeepLabV3+ as an MPI job.

#include <iostream>
#include <string>
#include <vector>

#include "deeplab/base/command_line.h"
#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/base/version.h"
#include "deeplab/tools/support.h"
#include "deeplab/train/rank_agreement.h"
#include "deeplab/train/run_training.h"
#include "deeplab/train/watchdog.h"

namespace {

using namespace deeplab;

struct Arguments {
    std::string config, data, out, device = "auto", comm = "auto", engines = "timed", init, trace;
    std::vector<std::string> set;
    bool reset_classifier = false, keep_classifier = false, resume = false;
    bool allow_changed_data = false, dry_run = false, verbose = false, no_graph = false;
    bool keys = false, json = false;
    double time_budget = 0;
    std::int64_t threads = 0;
};

CommandLine::Use value(const std::string& name, bool required = false) {
    return {required, {}, name};
}
CommandLine::Use one_of(const std::vector<std::string>& choices) { return {false, choices, ""}; }

bool parse(int argc, char** argv, Arguments& a) {
    CommandLine line("deeplab-train", "Trains DeepLabV3+ on packed shards, one rank per device.",
                     "mpirun -np 2 --bind-to none deeplab-train --config "
                     "jobs/configs/quickstart_cpu.toml --data DATA --out RUN\n"
                     "mpirun -np 2 --bind-to none deeplab-train --config RUN/config.toml --data "
                     "DATA --out RUN --resume");
    line.option("--config", a.config,
                "configuration (TOML); with --resume by default RUN/config.toml", value("FILE"));
    line.option("--data", a.data, "folder of shards, written by deeplab-pack", value("DIR"));
    line.option("--out", a.out, "the run's folder", value("RUN"));
    line.list("--set", a.set,
              "key=value over the configuration, e.g. --set train.seed=3; repeatable");
    line.flag("--keys", a.keys,
              "print every key of the configuration, its default and what it does, and exit");
    line.option("--device", a.device, "where to run", one_of({"auto", "cpu", "cuda"}));
    line.option("--comm", a.comm, "how gradients travel", one_of({"auto", "nccl", "mpi"}));
    line.option(
        "--init", a.init,
        "weights to start from: a checkpoint, a run's folder, safetensors or a PyTorch .pth",
        value("WEIGHTS"));
    line.flag("--reset-classifier", a.reset_classifier,
              "of --init: start the classifier afresh, for other classes");
    line.flag("--keep-classifier", a.keep_classifier,
              "of --init: take the classifier though the data's classes have other names");
    line.flag("--resume", a.resume, "go on at the run's latest checkpoint; start if it has none");
    line.flag(
        "--allow-changed-data", a.allow_changed_data,
        "of --resume: go on though masks or names of classes are not those of the run's start");
    line.flag("--dry-run", a.dry_run,
              "print parameters, work, memory, ranks and devices; write RUN/plan.txt alone");
    line.flag("--verbose", a.verbose, "of --dry-run: print the plan, too; write nothing");
    line.flag(
        "--json", a.json,
        "of --dry-run: print what the run needs as JSON, from configuration, data and plan "
        "alone: no device is touched, nothing is written; of --keys: the keys' values as JSON");
    line.option("--time-budget", a.time_budget,
                "minutes after which to stop with a checkpoint and exit code 75; 0: no limit");
    line.option(
        "--threads", a.threads,
        "threads of each rank; 0: the processors of its affinity mask, shared by the host's ranks");
    line.option("--engines", a.engines,
                "CUDA: convolutions by the fastest engines, timed at the first start and kept, or "
                "by the first that run",
                one_of({"timed", "first"}));
    line.flag("--no-graph", a.no_graph, "CUDA: launch the step's kernels one by one");
    line.option("--trace", a.trace,
                "write a time line of the steps 3 to 5 of all ranks, for chrome://tracing or "
                "ui.perfetto.dev",
                value("FILE"));
    return line.parse(argc, argv);
}

void check_dry_run(const Arguments& a) {
    if (a.verbose && !a.dry_run) {
        throw UsageError(
            "--verbose is of --dry-run — a run keeps its plan in RUN/plan.txt — add --dry-run, or "
            "leave it out");
    }
    if (a.json && (!a.dry_run || a.verbose)) {
        throw UsageError(
            "--json is of --dry-run and of --keys, without --verbose — scripts read it, so nothing "
            "else is printed — add --dry-run or --keys, or leave --json or --verbose out");
    }
    if (!a.trace.empty() && a.dry_run) {
        throw UsageError(
            "--trace is of a training run — a dry run takes no step to draw — leave one of the two "
            "out");
    }
}

void check(Arguments& a) {
    if (a.data.empty()) {
        throw UsageError(
            "--data is missing — deeplab-train cannot run without it — see deeplab-train --help");
    }
    check_dry_run(a);
    if (a.reset_classifier && a.init.empty()) {
        throw UsageError(
            "--reset-classifier is of --init — without weights every tensor starts afresh — add "
            "--init WEIGHTS, or leave it out");
    }
    if (a.keep_classifier && (a.init.empty() || a.reset_classifier)) {
        throw UsageError(
            "--keep-classifier is of --init, and --reset-classifier is its opposite — there is no "
            "classifier to keep — add --init WEIGHTS, or leave one of them out");
    }
    if (a.allow_changed_data && !a.resume) {
        throw UsageError(
            "--allow-changed-data is of --resume — a new run has no data to differ from — add "
            "--resume, or leave it out");
    }
    if (a.out.empty() && !a.dry_run) {
        throw UsageError(
            "--out is missing — checkpoints and metrics need a folder — give --out RUN, or "
            "--dry-run");
    }
    if (!a.config.empty()) return;
    if (!a.resume) {
        throw UsageError(
            "--config is missing — there is nothing to say what to train — give --config FILE.toml "
            "(jobs/configs holds some), or --resume with the --out of a run");
    }
    a.config = a.out + "/config.toml";
}

std::string command_of(int argc, char** argv) {
    std::string text;
    for (int i = 0; i < argc; ++i) text += cat(i == 0 ? "" : " ", argv[i]);
    return text;
}

std::string summary(const train::TrainResult& r) {
    return cat(r.code == ExitCode::ok ? "done" : "stopped early, continue with --resume", ": step ",
               r.step, "  loss ", r.loss < 0 ? std::string("of no step") : fixed(r.loss, 4),
               "  mIoU ", r.miou < 0 ? std::string("not evaluated") : fixed(r.miou, 4), "  ",
               fixed(r.images_per_s, 1),
               r.skipped > 0 ? cat(" images/s  skipped ", r.skipped) : " images/s", "  state ",
               hex64(r.state_hash));
}

int run(const Arguments& a, comm::Communicator& world, const std::string& command) {
    train::TrainOptions options;
    options.config = config::load_config(a.config, a.set);
    options.data = a.data;
    options.run = a.out;
    options.init = a.init;
    options.reset_classifier = a.reset_classifier;
    options.keep_classifier = a.keep_classifier;
    options.allow_changed_data = a.allow_changed_data;
    options.resume = a.resume;
    options.dry_run = a.dry_run;
    options.verbose = a.verbose;
    options.time_budget_min = a.time_budget;
    options.trace = a.trace;
    options.command = command;
    options.stop = &tools::stop_requested();
    options.last_call = &tools::last_call();
    options.cuda_graph = !a.no_graph;
    // Before the watchdog, whose own exchange depends on train.watchdog_s.
    train::require_same_start(world, options);
    if (a.json) {
        const bool on_device = tools::may_use_gpu(tools::parse_device(a.device));
        const std::string needs = train::needs_of(options, world, on_device);
        if (world.rank() == 0) std::cout << needs << std::flush;
        return 0;
    }
    options.threads = tools::thread_count(world, a.threads);
    options.ends_job = true;
    const auto backend = [&] {  // a driver that hangs as it starts is somebody's, too
        const train::Watchdog watchdog(world, options.config.train.watchdog_s);
        return tools::make_backend(
            {tools::parse_device(a.device), options.threads,
             options.config.train.precision == Precision::tf32, a.comm, a.engines},
            world);
    }();
    log::info(cat("deeplab-train ", version(), " on ", world.size(),
                  world.size() == 1 ? " rank, " : " ranks, ", backend->description()));
    const train::TrainResult result = train::run_training(options, *backend, world, world);
    if (world.rank() == 0 && !a.dry_run) std::cout << summary(result) << std::endl;
    return static_cast<int>(result.code);
}

}  // namespace

int main(int argc, char** argv) {
    tools::stop_requested();  // before anything that takes long: a signal is never lost
    comm::MpiSession session(&argc, &argv);
    const std::string command = command_of(argc, argv);
    return comm::run_guarded(session, [&] {
        Arguments arguments;
        if (!parse(argc, argv, arguments)) return 0;
        if (arguments.keys) {
            if (session.world().rank() != 0) return 0;
            std::cout << (arguments.json ? config::to_json(
                                               config::load_config(arguments.config, arguments.set))
                                         : config::config_reference())
                      << std::flush;
            return 0;
        }
        check(arguments);
        return run(arguments, session.world(), command);
    });
}
