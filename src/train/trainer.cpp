#include "deeplab/train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "averaged_states.h"
#include "deeplab/base/files.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/activity.h"
#include "deeplab/data/loader.h"
#include "deeplab/train/checkpoint.h"
#include "deeplab/train/checkpoint_keeper.h"
#include "deeplab/train/evaluator.h"
#include "deeplab/train/weights.h"
#include "describe.h"
#include "nonfinite.h"
#include "preflight.h"
#include "reporter.h"
#include "startup.h"
#include "trace.h"
#include "watchdog.h"

namespace deeplab::train {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

std::unique_ptr<comm::Communicator> batch_norm_group(SyncBn sync, comm::Communicator& traffic) {
    switch (sync) {
        case SyncBn::global: return traffic.duplicate();
        case SyncBn::node: return traffic.split_by_node();
        case SyncBn::none: return comm::make_self();
    }
    throw LogicError("unknown sync_bn");
}

// One optimizer step on this rank.
struct LocalStep {
    double loss_sum = 0, valid = 0;  // valid: of all ranks
    double data_wait_s = 0, comm_exposed_s = 0, gradient_norm = 0;
    bool stop = false, checkpoint = false;  // agreed between all ranks
    bool finite = true, skipped = false;    // the same on all ranks
};

class Trainer {
public:
    Trainer(const TrainOptions& options, exec::Backend& backend, comm::Communicator& world,
            comm::Communicator& traffic)
        : options_(options),
          backend_(backend),
          control_(world.duplicate()),
          gradients_(traffic.duplicate()),
          batch_norm_(batch_norm_group(options.config.train.sync_bn, traffic)),
          started_(Clock::now()),
          last_checkpoint_(started_) {}

    TrainResult run();

private:
    bool root() const { return control_->rank() == 0; }
    std::int64_t iterations() const { return setup_.config.train.iterations; }

    void start();
    void fresh_values();
    void initial_weights();
    void resume(const std::filesystem::path& file);
    void compile();
    bool tracing(std::int64_t step) const;
    void dry_run();
    data::LoaderOptions loader_options() const;

    void loop();
    LocalStep one_step(data::Loader& loader, std::int64_t step);
    void not_finite(const LocalStep& local, std::int64_t step);
    void starting_values(const std::filesystem::path& checkpoint);
    void start_reporter();
    void roll_back();
    bool steps();  // false: the run went back
    bool report(const LocalStep& local, std::int64_t step);
    void after_step(std::int64_t done, const LocalStep& local);

    bool evaluation_due(std::int64_t done) const;
    bool evaluate_now(std::int64_t done);  // true: the best so far
    AveragedStates averaged_states();
    void save(std::int64_t done, bool best);
    void settle_checkpoint();
    void finish_checkpoints();
    std::uint64_t state_hash_at(std::int64_t done);

    const TrainOptions& options_;
    exec::Backend& backend_;
    std::unique_ptr<comm::Communicator> control_, gradients_, batch_norm_;
    Clock::time_point started_, last_checkpoint_;
    Setup setup_;
    WeightsInfo info_;
    TrainResult result_;
    std::int64_t first_step_ = 0;
    std::int64_t hashed_step_ = -1;  // result_.state_hash is of this step
    std::unique_ptr<exec::Executable> executable_;
    std::unique_ptr<RunLock> lock_;             // rank 0
    std::unique_ptr<CheckpointKeeper> keeper_;  // rank 0; ends before the lock is given up
    std::unique_ptr<Reporter> reporter_;        // rank 0
    std::unique_ptr<Trace> trace_;              // until its last step
    std::unique_ptr<data::ShardSet> val_shards_;
    std::unique_ptr<Predictor> predictor_;
    std::vector<std::string> step_ids_;  // of this rank: named where a step is not finite
    std::set<std::int64_t> skipped_;     // steps passed without an update (nonfinite.h)
    Interval interval_;
    Clock::time_point interval_start_;
    double trained_s_ = 0, slowest_copy_s_ = 0;
    std::int64_t trained_steps_ = 0;
};

void Trainer::start() {
    agreed(*control_, root(), "the run's folder", [&] {
        if (!options_.dry_run) check_run_folder(options_);
    });
    setup_ = prepare(options_, *control_, batch_norm_->size());
    info_.model = setup_.config.model;
    info_.classes = setup_.train.classes;
    info_.train_list_hash = hex64(setup_.train.list_hash);
    info_.config_toml = to_toml(setup_.config);
    if (options_.dry_run) return;

    std::string checkpoint;
    agreed(*control_, root(), "the run's folder", [&] {
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
    agreed(*control_, true, "weights to start from", [&] { starting_values(checkpoint); });
    settle_checkpoint();
    if (!options_.trace.empty()) trace_ = std::make_unique<Trace>(options_.trace, *control_);
    compile();
    std::string skipped;
    agreed(*control_, root(), "skipped steps", [&] {
        if (checkpoint.empty() && !options_.resume) forget_nonfinite(options_.run);
        for (const std::int64_t step : skipped_steps(options_.run)) skipped += cat(step, " ");
    });
    skipped = control_->all_gather(skipped, "skipped steps").front();
    for (const auto& step : split(trim(skipped), ' '))
        if (!step.empty()) skipped_.insert(std::stoll(step));
    if (root()) write_atomically(options_.run / "config.toml", info_.config_toml);
    start_reporter();
}

void Trainer::starting_values(const std::filesystem::path& checkpoint) {
    if (!checkpoint.empty())
        resume(checkpoint);
    else if (!options_.init.empty())
        initial_weights();
    else
        fresh_values();
}

void Trainer::start_reporter() {
    if (!root()) return;
    reporter_.reset();
    reporter_ = std::make_unique<Reporter>(options_.run, first_step_, iterations(),
                                           setup_.config.train.global_batch, info_.classes);
}

void Trainer::fresh_values() {
    const auto seed = static_cast<std::uint64_t>(setup_.config.train.seed);
    for (const auto& p : setup_.plan.parameters) {
        backend_.upload(p, exec::Slot::value, model::initial_value(p, setup_.plan, seed));
    }
    for (const auto& s : setup_.plan.states) {
        backend_.upload(
            s, std::vector<float>(static_cast<std::size_t>(s.shape.elements()), s.initial));
    }
}

void Trainer::initial_weights() {
    const WeightsFile file(options_.init);
    const auto seed = static_cast<std::uint64_t>(setup_.config.train.seed);
    const ImportedWeights weights = import_weights(
        file, setup_.plan, {.seed = seed, .reset_classifier = options_.reset_classifier});
    apply_snapshot(backend_, setup_.plan, weights.snapshot, false);
    if (!root()) return;
    log::info(
        cat("starting from ", file.path().string(), ", ", file.kind(), "; ", summary(weights)));
    if (!options_.dry_run) write_atomically(options_.run / "initial_weights.txt", to_text(weights));
}

void Trainer::resume(const std::filesystem::path& file) {
    const Snapshot snapshot = load_checkpoint(file);
    const Config before = parse_config(snapshot.info.config_toml,
                                       cat("configuration in ", file.string()), {});
    if (const auto names = frozen_differences(before, setup_.config); !names.empty()) {
        std::string list;
        for (const auto& name : names) list += cat(list.empty() ? "" : ", ", name);
        throw UsageError(cat(list, names.size() == 1 ? " differs" : " differ",
                             " from the run's configuration (", file.string(),
                             ") — the resumed run would be another one — restore the old value, or "
                             "start a new run with "
                             "--init ",
                             file.string()));
    }
    if (snapshot.info.train_list_hash != info_.train_list_hash) {
        throw DataError(cat("the images of split ", setup_.train.split,
                            " are not those that the run was started on (list hash ",
                            info_.train_list_hash, ", the run's ", snapshot.info.train_list_hash,
                            ") — the order of samples "
                            "would not go on — give the --data folder of the run's start"));
    }
    apply_snapshot(backend_, setup_.plan, snapshot, true);
    first_step_ = snapshot.info.step;
    result_.state_hash = state_hash(snapshot);
    hashed_step_ = first_step_;
    log::info(cat("resuming at step ", first_step_, " of ", iterations(), " from ",
                  file.filename().string()));
}

void Trainer::compile() {
    const Config::Train& train = setup_.config.train;
    executable_ = backend_.compile(
        setup_.plan, {gradients_.get(), batch_norm_.get()},
        {.seed = static_cast<std::uint64_t>(train.seed),
         .overlap = train.overlap,
         .gradient_traffic = train.grad_dtype == "bf16" ? DType::bf16 : DType::f32,
         .graph = options_.graph,
         .deterministic = train.deterministic});
}

bool Trainer::tracing(std::int64_t step) const {
    const std::int64_t taken = step - first_step_;
    return trace_ && taken >= Trace::first && taken < Trace::first + Trace::count;
}

void Trainer::dry_run() {
    backend_.allocate(setup_.plan);
    agreed(*control_, !options_.init.empty(), "weights to start from", [&] { initial_weights(); });
    compile();
    preflight(setup_, backend_, executable_->memory(), *control_, {});
    print_dry_run(setup_, backend_, executable_->memory(), *control_);
}

data::LoaderOptions Trainer::loader_options() const {
    const Config& config = setup_.config;
    data::LoaderOptions o;
    o.dir = options_.data;
    o.split = config.data.train_split;
    o.augmentation = config.data.augmentation;
    o.normalisation = info_.normalisation;
    o.seed = static_cast<std::uint64_t>(config.train.seed);
    o.global_batch = config.train.global_batch;
    o.accumulation = config.train.accumulation;
    o.rank = control_->rank();
    o.size = control_->size();
    o.first_step = first_step_;
    o.last_step = iterations();
    o.workers = loader_workers(config, options_.threads);
    o.raw = backend_.takes_raw_samples();
    o.cache_host = config.data.cache == "host";
    o.cache_bytes = static_cast<std::int64_t>(config.data.cache_gib * 0x1p30);
    return o;
}

data::Batch next_batch(data::Loader& loader, std::int64_t step) {
    const comm::Phase phase("reading data", step + 1);
    return loader.next();
}

LocalStep Trainer::one_step(data::Loader& loader, std::int64_t step) {
    const Config& config = setup_.config;
    const std::int64_t micros = config.train.accumulation;
    LocalStep local;
    std::vector<exec::SampleId> samples;
    std::vector<exec::RawSample> raw;
    step_ids_.clear();
    for (std::int64_t micro = 0; micro < micros; ++micro) {
        const Clock::time_point asked = Clock::now();
        data::Batch batch = next_batch(loader, step);
        if (tracing(step)) trace_->loop("wait for data", step, asked, Clock::now());
        ensures(batch.step == step && batch.micro == micro,
                "the loader delivers the batch of this step");
        local.data_wait_s += loader.last_wait_s();
        local.valid += static_cast<double>(batch.valid_pixels);
        step_ids_.insert(step_ids_.end(), batch.ids.begin(), batch.ids.end());
        const bool last = micro + 1 == micros;
        if (last) {
            // The step's one message: the count that Update divides by, and what somebody wants to
            // happen after it.
            const bool out_of_time = options_.time_budget_min > 0 &&
                                     seconds_since(started_) >= 60 * options_.time_budget_min;
            const bool stop = out_of_time || (options_.stop != nullptr && options_.stop->load());
            const double minutes = config.checkpoint.minutes;
            // A lost one: settle_checkpoint() ends the run on all ranks.
            const bool checkpoint = root() && (keeper_->lost() ||
                                               (minutes > 0 &&
                                                seconds_since(last_checkpoint_) >= 60 * minutes));
            double message[] = {local.valid, stop ? 1.0 : 0.0, checkpoint ? 1.0 : 0.0};
            control_->all_reduce(message, 3, DType::f64, comm::ReduceOp::sum,
                                 "valid pixels of the step");
            local.valid = message[0];
            local.stop = message[1] > 0;
            local.checkpoint = message[2] > 0;
        }
        local.skipped = skipped_.contains(step);
        if (local.skipped) {
            loader.recycle(std::move(batch));
            continue;
        }
        samples.clear();
        for (const auto& key : batch.keys) samples.push_back({key.epoch, key.sample});
        raw.clear();
        for (std::size_t i = 0; i < batch.decoded.size(); ++i) {
            const data::LabelledImage& decoded = *batch.decoded[i];
            raw.push_back({decoded.image.pixels, decoded.mask.labels, batch.crops[i].words});
        }
        const Clock::time_point began = Clock::now();
        const comm::Phase phase("forward, backward, update", step + 1);
        const exec::StepResult result = executable_->run(
            {.images = batch.images,
             .labels = batch.labels,
             .raw = raw,
             .samples = samples,
             .learning_rate = learning_rate(config, step),
             .valid_pixels = local.valid,
             .first_micro = micro == 0,
             .last_micro = last});
        if (tracing(step)) {
            trace_->loop("forward, backward, update", step, began, Clock::now());
            trace_->nodes(setup_.plan, step, began, executable_->node_seconds());
        }
        local.loss_sum += result.loss_sum;
        local.comm_exposed_s += result.comm_exposed_s;
        local.gradient_norm = result.gradient_norm;
        // The gradient is the sum over all ranks: it is finite for all or for none.
        local.finite = local.finite && result.finite;
        loader.recycle(std::move(batch));
    }
    control_->all_reduce(&local.loss_sum, 1, DType::f64, comm::ReduceOp::sum, "loss of the step");
    local.finite = local.finite && std::isfinite(local.loss_sum);
    return local;
}

// All ranks come here in the same step.
void Trainer::not_finite(const LocalStep& local, std::int64_t step) {
    std::string mine;
    for (const auto& id : step_ids_) mine += cat(mine.empty() ? "" : " ", id);
    std::string all;
    for (const auto& text : control_->all_gather(mine, "ids of the batch"))
        all += cat(all.empty() ? "" : " ", text);
    const bool skip = setup_.config.train.on_nonfinite == "rollback";
    const double loss = local.loss_sum / std::max(local.valid, 1.0);
    const double lr = learning_rate(setup_.config, step);
    agreed(*control_, root(), "record of the step", [&] {
        record_nonfinite(options_.run, {step, loss, lr, all, skip});
    });
    const std::string what = cat("the loss or its gradient is not finite in step ", step + 1,
                                 " (loss ", loss, ", lr ", lr, ", images ", all, ")");
    if (skip) skipped_.insert(step);
    if (!skip || diverged(skipped_, step)) {
        throw DeviceError(cat(
            what, " — the run has diverged and stops", skip ? ": skipping steps did not help" : "",
            " — start again with a smaller optimizer.lr, with optimizer.warmup or "
            "optimizer.clip_norm; the last checkpoint is intact"));
    }
    if (root()) reporter_->line(cat(what, " — going back, and passing this step"));
    roll_back();
}

void Trainer::roll_back() {
    settle_checkpoint();
    std::string checkpoint;
    agreed(*control_, root(), "checkpoint to go back to", [&] {
        const StartingPoint begin = find_starting_point(options_.run);
        if (begin.newest) checkpoint = begin.newest->string();
    });
    checkpoint = control_->all_gather(checkpoint, "name of the checkpoint").front();
    agreed(*control_, true, "weights to go back to", [&] {
        first_step_ = 0;
        hashed_step_ = -1;
        for (const auto& p : setup_.plan.parameters) {
            const auto size = static_cast<std::size_t>(p.shape.elements());
            backend_.upload(p, exec::Slot::momentum, std::vector<float>(size, 0.0f));
        }
        starting_values(checkpoint);
    });
    interval_ = {};
    trace_.reset();
    start_reporter();
}

// Adds a step to the interval and, when it is due, sums the losses over ranks and tells the user.
bool Trainer::report(const LocalStep& local, std::int64_t step) {
    interval_.step = step + 1;
    interval_.steps += local.skipped ? 0 : 1;
    interval_.skipped += local.skipped ? 1 : 0;
    interval_.data_wait_s += local.data_wait_s;
    interval_.comm_exposed_s += local.comm_exposed_s;
    const bool due = (step + 1) % setup_.config.train.log_every == 0 || step + 1 == iterations();
    if (!due && !local.stop && !options_.on_step) return false;

    double message[] = {interval_.data_wait_s, interval_.comm_exposed_s};
    control_->all_reduce(message, 2, DType::f64, comm::ReduceOp::sum, "times of the interval");
    if (!local.skipped) result_.loss = local.valid > 0 ? local.loss_sum / local.valid : 0;
    interval_.loss = local.skipped ? std::nan("") : result_.loss;
    interval_.learning_rate = learning_rate(setup_.config, step);
    if (options_.on_step && !local.skipped)
        options_.on_step({step + 1, result_.loss, interval_.learning_rate, local.gradient_norm});
    if (!due) return false;
    interval_.seconds = seconds_since(interval_start_);
    trained_s_ += interval_.seconds;
    trained_steps_ += interval_.steps;
    if (step + 1 == iterations()) state_hash_at(step + 1);
    if (root()) {
        Interval mean = interval_;
        mean.data_wait_s = message[0] / control_->size();
        mean.comm_exposed_s = message[1] / control_->size();
        reporter_->steps(mean, step + 1 == iterations() ? hex64(result_.state_hash) : "");
    }
    interval_ = {};
    interval_start_ = Clock::now();
    return true;
}

bool Trainer::evaluation_due(std::int64_t done) const {
    const std::int64_t every = setup_.config.train.eval_every;
    return every > 0 && done > 0 && (done % every == 0 || done == iterations());
}

bool Trainer::evaluate_now(std::int64_t done) {
    const comm::Phase phase("evaluation", done);
    const Clock::time_point start = Clock::now();
    if (!val_shards_)
        val_shards_ = std::make_unique<data::ShardSet>(options_.data, setup_.val->split);
    if (!predictor_) {
        predictor_ = std::make_unique<Predictor>(
            backend_, setup_.config.model, InferenceOptions{.normalisation = info_.normalisation});
    }
    constexpr std::int64_t pictures = 3;  // for TensorBoard
    const std::vector<io::Rgb> palette = info_.classes.palette();
    std::int64_t shown = 0;
    EvaluationOptions evaluation;
    evaluation.on_image = [&](std::int64_t, const data::Record&, const io::Image& image,
                              const io::Mask& truth, const io::Mask& predicted) {
        comm::beat();
        if (!root() || shown >= pictures) return;
        reporter_->image(shown++, done, side_by_side(image, truth, predicted, palette));
    };
    AveragedStates averaged = averaged_states();
    const Confusion confusion = evaluate(*predictor_, *val_shards_, evaluation, *control_);
    averaged.restore();

    const Metrics metrics = confusion.metrics();
    const std::string hash = hex64(state_hash_at(done));
    if (root())
        reporter_->evaluation(done, setup_.val->split, "full", confusion, setup_.val->records, hash,
                              seconds_since(start));
    result_.miou = metrics.miou;
    if (!(metrics.miou > info_.best_miou)) return false;
    info_.best_miou = metrics.miou;
    return true;
}

// Of what a checkpoint of this step holds; the same on all ranks. Collective.
std::uint64_t Trainer::state_hash_at(std::int64_t done) {
    if (hashed_step_ == done) return result_.state_hash;
    AveragedStates averaged = averaged_states();
    if (root()) result_.state_hash = state_hash(take_snapshot(backend_, setup_.plan, info_));
    averaged.restore();
    control_->broadcast(&result_.state_hash, sizeof(result_.state_hash), 0, "hash of the state");
    hashed_step_ = done;
    return result_.state_hash;
}

AveragedStates Trainer::averaged_states() {
    const Config::Train& train = setup_.config.train;
    return {backend_, setup_.plan, *control_, train.sync_bn != SyncBn::global && !train.freeze_bn};
}

// Waits for the checkpoint that is being written. The same Error on all ranks when the run has no
// whole one; a best one that was not written is not the best.
void Trainer::settle_checkpoint() {
    const comm::Phase phase("waiting for a checkpoint to be written", result_.step);
    agreed(*control_, root(), "checkpoint", [&] { keeper_->settle(); });
    if (root()) info_.best_miou = keeper_->best_miou();
    control_->broadcast(&info_.best_miou, sizeof(info_.best_miou), 0, "best mIoU");
}

// After settle_checkpoint(). The steps wait for the copy only.
void Trainer::save(std::int64_t done, bool best) {
    const comm::Phase phase("copying the state for a checkpoint", done);
    AveragedStates averaged = averaged_states();
    if (root()) {
        info_.step = done;
        const Clock::time_point began = Clock::now();
        Snapshot snapshot = take_snapshot(backend_, setup_.plan, info_);
        slowest_copy_s_ = std::max(slowest_copy_s_, seconds_since(began));
        keeper_->save(std::move(snapshot), best);
    }
    averaged.restore();
    last_checkpoint_ = Clock::now();
}

// No rank leaves before the last checkpoint has its name.
void Trainer::finish_checkpoints() {
    const comm::Phase phase("waiting for the last checkpoint to be written", result_.step);
    agreed(*control_, root(), "last checkpoint", [&] {
        keeper_->finish();
        if (slowest_copy_s_ > 0)
            log::info(cat("checkpoints: ", keeper_->summary(), "; a step waited at most ",
                          fixed(slowest_copy_s_, 2), " s for the copy"));
    });
    if (hashed_step_ != result_.step) {
        if (root()) result_.state_hash = keeper_->state_hash();
        control_->broadcast(&result_.state_hash, sizeof(result_.state_hash), 0,
                            "hash of the state");
    }
    control_->barrier("last checkpoint");
}

void Trainer::after_step(std::int64_t done, const LocalStep& local) {
    // A stopping run has little time: the evaluation of this step is made up for by the run that
    // goes on.
    const bool stopping = local.stop && done < iterations();
    const bool evaluates = !stopping && evaluation_due(done);
    const std::int64_t every = setup_.config.checkpoint.every;
    const bool due = (every > 0 && done % every == 0) || local.checkpoint || done == iterations();
    if (evaluates || due || stopping) settle_checkpoint();
    const bool best = evaluates && evaluate_now(done);
    if (due || best || stopping) save(done, best);
    interval_start_ = Clock::now();
    if (stopping) result_.code = ExitCode::stopped_early;
}

void Trainer::loop() {
    std::int64_t missing = root() && evaluation_due(first_step_) &&
                                   !reporter_->metrics().has_evaluation(first_step_)
                               ? 1
                               : 0;
    control_->all_reduce(&missing, 1, DType::i64, comm::ReduceOp::max, "evaluation to make up for");
    if (missing != 0 && evaluate_now(first_step_)) save(first_step_, true);

    while (!steps()) {
    }
    result_.skipped = static_cast<std::int64_t>(skipped_.size());
}

bool Trainer::steps() {
    result_.step = first_step_;
    if (first_step_ >= iterations()) return true;
    data::Loader loader(loader_options());
    interval_start_ = Clock::now();
    for (std::int64_t step = first_step_; step < iterations() && result_.code == ExitCode::ok;
         ++step) {
        const comm::Phase phase("training", step + 1);
        const LocalStep local = one_step(loader, step);
        if (!local.finite) {
            not_finite(local, step);
            return false;
        }
        result_.step = step + 1;
        if (trace_ && (step + 1 == first_step_ + Trace::first + Trace::count ||
                       step + 1 == iterations() || local.stop)) {
            trace_->write();
            trace_.reset();
            compile();  // without the nodes' clocks
        }
        // Time that evaluation and checkpoints take is not the steps': the interval pauses.
        const bool reported = report(local, step);
        const double so_far = reported ? 0 : seconds_since(interval_start_);
        after_step(step + 1, local);
        interval_start_ -= std::chrono::duration_cast<Clock::duration>(
            std::chrono::duration<double>(so_far));
    }
    return true;
}

TrainResult Trainer::run() {
    start();
    if (options_.dry_run) {
        dry_run();
        return result_;
    }
    const std::string environment = environment_json(options_, backend_, *control_, *gradients_,
                                                     first_step_);  // collective
    if (root()) write_atomically(options_.run / "environment.json", environment);
    preflight(setup_, backend_, executable_->memory(), *control_, options_.run);
    {
        const Watchdog watchdog(*control_, setup_.config.train.watchdog_s);
        loop();
        finish_checkpoints();
    }
    if (trained_s_ > 0) {
        result_.images_per_s = static_cast<double>(trained_steps_ *
                                                   setup_.config.train.global_batch) /
                               trained_s_;
    }
    if (root()) reporter_->finish();
    return result_;
}

}  // namespace

TrainResult run_training(const TrainOptions& options, exec::Backend& backend,
                         comm::Communicator& world, comm::Communicator& traffic) {
    if (options.time_budget_min < 0 || !std::isfinite(options.time_budget_min)) {
        throw UsageError(cat("the time budget is ", options.time_budget_min,
                             " minutes — the run could not take a step — give a "
                             "positive number, or 0 for no limit"));
    }
    return Trainer(options, backend, world, traffic).run();
}

}  // namespace deeplab::train
