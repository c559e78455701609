#include "deeplab/train/run_training.h"

#include <cmath>
#include <iostream>
#include <utility>
#include <vector>

#include "continuity.h"
#include "deeplab/base/files.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/activity.h"
#include "deeplab/comm/agreement.h"
#include "deeplab/data/split_content.h"
#include "deeplab/train/rank_agreement.h"
#include "deeplab/train/run_folder.h"
#include "deeplab/train/watchdog.h"
#include "deeplab/weights/weights.h"
#include "describe.h"
#include "nonfinite.h"
#include "preflight.h"
#include "trainer.h"

namespace deeplab::train {

Trainer::Trainer(const TrainOptions& options, exec::Backend& backend, comm::Communicator& world,
                 comm::Communicator& sums)
    : options_(options),
      backend_(backend),
      control_(world.duplicate()),
      gradients_(sums.duplicate()),
      // For "global"; start() knows whether all ranks have the same train.sync_bn.
      batch_norm_(sums.duplicate()),
      started_(Clock::now()),
      last_checkpoint_(started_) {}

void Trainer::start() {
    require_same_start(*control_, options_);
    if (const config::SyncBn sync = options_.config.train.sync_bn; sync != config::SyncBn::global)
        batch_norm_ = batch_norm_group(sync, *gradients_);
    comm::agreed(*control_, root(), "the run's folder", [&] {
        if (!options_.dry_run) check_run_folder(options_);
    });
    setup_ = prepare(options_, *control_, batch_norm_->size());
    info_.model = setup_.config.model;
    info_.classes = setup_.train.classes;
    info_.train_list_hash = hex64(setup_.train.list_hash);
    info_.train_content = data::to_text(data::content_of(setup_.train));
    if (setup_.val) info_.val_content = data::to_text(data::content_of(*setup_.val));
    info_.config_toml = config::to_stored_toml(setup_.config);
    comm::agreed(*control_, samples_on_device(), "place of the samples", [&] {
        if (backend_.takes_decoded_samples()) return;
        throw UsageError(cat(
            "data.cache is \"device\", and ", log::host(), " trains on ", backend_.description(),
            " — there is no memory but the host's — use --device cuda, or data.cache = \"host\""));
    });
    if (options_.dry_run) return;

    std::string checkpoint;
    comm::agreed(*control_, root(), "the run's folder", [&] {
        require_writable_directory(options_.run);
        lock_ = std::make_unique<RunLock>(options_.run);
        require_writable_directory(options_.run / "checkpoints");
        if (!options_.trace.empty())
            require_writable_directory(std::filesystem::absolute(options_.trace).parent_path());
        check_run_folder(options_);  // another run may have come first
        const StartingPoint begin = find_starting_point(options_.run);
        if (begin.newest) checkpoint = begin.newest->string();
        keeper_ = std::make_unique<CheckpointKeeper>(options_.run, setup_.config.checkpoint.keep,
                                                     begin);
    });
    checkpoint = control_->all_gather(checkpoint, "name of the checkpoint").front();
    check_shards(options_, setup_, *control_);
    backend_.allocate(setup_.plan);
    std::uint64_t hash = 0;
    comm::agreed(*control_, true, "weights to start from",
                 [&] { hash = starting_values(checkpoint); });
    require_same_values(*control_, hash,
                        !checkpoint.empty()      ? cat("the checkpoint ", checkpoint)
                        : !options_.init.empty() ? "the weights of --init"
                                                 : "the initial values");
    settle_checkpoint();
    if (!options_.trace.empty()) trace_ = std::make_unique<Trace>(options_.trace, *control_);
    compile();
    keep_samples();
    learn_skipped_steps(!checkpoint.empty() || options_.resume);
    comm::agreed(*control_, root(), "configuration and plan of the run", [&] {
        write_atomically(options_.run / "config.toml", config::to_toml(setup_.config));
        write_atomically(options_.run / "plan.txt", plan_text(setup_.plan));
    });
    start_reporter();
}

// Steps that the run has passed before; a new run forgets those of another one in its folder.
void Trainer::learn_skipped_steps(bool goes_on) {
    std::string skipped;
    comm::agreed(*control_, root(), "skipped steps", [&] {
        if (!goes_on) forget_nonfinite(options_.run);
        for (const std::int64_t step : skipped_steps(options_.run)) skipped += cat(step, " ");
    });
    skipped = control_->all_gather(skipped, "skipped steps").front();
    for (const auto& step : split(trim(skipped), ' '))
        if (!step.empty()) skipped_.insert(std::stoll(step));
}

// Returns their hash.
std::uint64_t Trainer::starting_values(const std::filesystem::path& checkpoint) {
    if (!checkpoint.empty()) return resume(checkpoint);
    return options_.init.empty() ? fresh_values() : initial_weights();
}

void Trainer::start_reporter() {
    if (!root()) return;
    reporter_.reset();
    reporter_ = std::make_unique<report::Reporter>(options_.run, first_step_, iterations(),
                                                   setup_.config.train.global_batch, info_.classes);
}

std::uint64_t Trainer::fresh_values() {
    const auto seed = static_cast<std::uint64_t>(setup_.config.train.seed);
    std::uint64_t hash = fnv1a(nullptr, 0);
    for (const auto& p : setup_.plan.parameters) {
        const std::vector<float> values = model::initial_value(p, setup_.plan, seed);
        hash = fnv1a(values.data(), values.size() * sizeof(float), hash);
        backend_.upload(p, exec::Slot::value, values);
    }
    for (const auto& s : setup_.plan.states) {
        backend_.upload(
            s, std::vector<float>(static_cast<std::size_t>(s.shape.elements()), s.initial));
    }
    return hash;
}

std::uint64_t Trainer::initial_weights() {
    const weights::WeightsFile file(options_.init);
    check_initial_network(file, setup_.config.model);
    const auto seed = static_cast<std::uint64_t>(setup_.config.train.seed);
    const weights::ImportedWeights weights = weights::import_weights(
        file, setup_.plan, {.seed = seed, .reset_classifier = options_.reset_classifier});
    const auto notes = check_initial_classes(file, setup_.train.classes, options_);
    weights::apply_snapshot(backend_, setup_.plan, weights.snapshot, false);
    const std::uint64_t hash = weights::state_hash(weights.snapshot);
    if (!root()) return hash;
    std::vector<std::string> lines = split(weights::summary(weights), '\n');
    constexpr std::size_t most = 4;
    if (lines.size() > most && !options_.dry_run) {
        lines.resize(most - 1);
        lines.emplace_back("  more         initial_weights.txt in the run's folder");
    }
    std::string text = cat("starting from ", file.path().string(), ", ", file.kind(), "; ");
    for (const auto& line : lines) text += cat(&line == &lines.front() ? "" : "\n", line);
    log::info(text);
    for (const auto& note : notes) log::warn(note);
    if (!options_.dry_run)
        write_atomically(options_.run / "initial_weights.txt", weights::to_text(weights));
    return hash;
}

std::uint64_t Trainer::resume(const std::filesystem::path& file) {
    const weights::Snapshot snapshot = weights::load_checkpoint(file);
    const Continuation from = check_resumed(snapshot.info, info_, setup_.config, options_, file);
    changes_ = from.changes;
    weights::apply_snapshot(backend_, setup_.plan, snapshot, true);
    first_step_ = snapshot.info.step;
    result_.state_hash = weights::state_hash(snapshot);
    hashed_step_ = first_step_;
    log::info(cat("resuming at step ", first_step_, " of ", iterations(), " from ",
                  file.filename().string()));
    if (root())
        for (const auto& note : from.notes) log::warn(note);
    return fnv1a(&first_step_, sizeof(first_step_), result_.state_hash);
}

void Trainer::compile() {
    const comm::Phase phase("compiling the plan");
    const config::Config::Train& train = setup_.config.train;
    if (ahead_) ahead_->prefetched = false;  // by the executable before
    executable_ = backend_.compile(
        setup_.plan, {gradients_.get(), batch_norm_.get()},
        {.seed = static_cast<std::uint64_t>(train.seed),
         .overlap = train.overlap,
         .gradient_type = train.grad_dtype == "bf16" ? DType::bf16 : DType::f32,
         .cuda_graph = options_.cuda_graph,
         .tune = !options_.dry_run,  // takes minutes
         .time_nodes = trace_ != nullptr,
         .deterministic = train.deterministic,
         // The watchdog speaks first: it knows who is late.
         .wait_limit_s = 1.5 * train.watchdog_s});
}

// After compile(): what a step needs comes first. Evaluation shares the step's memory.
void Trainer::keep_samples() {
    if (!samples_on_device()) return;
    std::vector<std::int64_t> pixels(static_cast<std::size_t>(setup_.train.records));
    comm::agreed(*control_, root(), "sizes of the samples",
                 [&] { pixels = data::ShardSet(options_.data, setup_.train.split).pixels(); });
    control_->broadcast(pixels.data(), pixels.size() * sizeof(pixels[0]), 0,
                        "sizes of the samples");
    comm::agreed(*control_, true, "memory for the samples", [&] { backend_.keep_samples(pixels); });
}

void Trainer::dry_run() {
    backend_.allocate(setup_.plan);
    comm::agreed(*control_, !options_.init.empty(), "weights to start from",
                 [&] { initial_weights(); });
    compile();
    keep_samples();
    preflight(setup_, backend_, *control_, {}, {});
    print_dry_run(setup_, executable_->memory(), *control_);
    comm::agreed(*control_, root(), "file of the plan", [&] {
        const std::string text = plan_text(setup_.plan);
        if (options_.verbose) std::cout << text;
        // A run that is there keeps the plan that it has.
        const bool writes = !options_.verbose && !options_.run.empty() &&
                            !latest_checkpoint(options_.run);
        if (writes) {
            require_writable_directory(options_.run);
            write_atomically(options_.run / "plan.txt", text);
        }
        std::cout << "dry run: "
                  << (writes ? cat("the plan is in ", (options_.run / "plan.txt").string(),
                                   ", nothing else was written")
                             : "nothing was written")
                  << std::endl;
    });
}

data::LoaderOptions Trainer::loader_options() const {
    const config::Config& config = setup_.config;
    data::LoaderOptions o;
    o.dir = options_.data;
    o.split = config.data.train_split;
    o.augmentation = config.data.augmentation;
    o.normalisation = info_.normalisation();
    o.seed = static_cast<std::uint64_t>(config.train.seed);
    o.global_batch = config.train.global_batch;
    o.accumulation = config.train.accumulation;
    o.rank = control_->rank();
    o.size = control_->size();
    o.first_step = first_step_;
    o.last_step = iterations();
    o.workers = loader_workers(config, options_.threads);
    o.decoded = backend_.takes_decoded_samples();
    o.cache_host = config.data.cache == "host";
    o.cache_device = samples_on_device();
    o.cache_bytes = static_cast<std::int64_t>(config.data.cache_gib * 0x1p30);
    return o;
}

// What a device does not hold up is brought to its end after an error, too: a checkpoint that is
// being written, the lock.
void Trainer::train() {
    const auto steps_and_checkpoints = [&] {
        loop();
        finish_checkpoints();
    };
    if (!options_.ends_job) return steps_and_checkpoints();
    comm::end_job_on_error(*control_, steps_and_checkpoints, [&] {
        keeper_.reset();
        lock_.reset();
    });
}

TrainResult Trainer::run() {
    {
        const Watchdog watchdog(*control_, options_.config.train.watchdog_s);
        start();
        if (options_.dry_run) {
            dry_run();
            return result_;
        }
        preflight(setup_, backend_, *control_, options_.run, changes_);
        const std::string environment = environment_json(options_, backend_, *control_, *gradients_,
                                                         first_step_);  // collective
        if (root()) write_atomically(options_.run / "environment.json", environment);
        train();
    }
    if (trained_s_ > 0) {
        result_.images_per_s = static_cast<double>(trained_steps_ *
                                                   setup_.config.train.global_batch) /
                               trained_s_;
    }
    if (root()) reporter_->finish();
    return result_;
}

TrainResult run_training(const TrainOptions& options, exec::Backend& backend,
                         comm::Communicator& world, comm::Communicator& sums) {
    if (options.time_budget_min < 0 || !std::isfinite(options.time_budget_min)) {
        throw UsageError(cat("the time budget is ", options.time_budget_min,
                             " minutes — the run could not take a step — give a "
                             "positive number, or 0 for no limit"));
    }
    return Trainer(options, backend, world, sums).run();
}

std::string needs_of(const TrainOptions& options, comm::Communicator& world, bool on_device) {
    const auto batch_norm = batch_norm_group(options.config.train.sync_bn, world);
    const Setup setup = prepare(options, world, batch_norm->size());
    if (world.rank() != 0) return "";
    return needs_json(setup, world.size(), on_device, room_for_checkpoints(setup, options.run));
}

}  // namespace deeplab::train
