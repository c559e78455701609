// One step of a run: batches, the count of valid pixels, what is wrong, what is told.
#include <algorithm>
#include <cmath>
#include <thread>
#include <utility>

#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/activity.h"
#include "deeplab/comm/agreement.h"
#include "nonfinite.h"
#include "trainer.h"

namespace deeplab::train {

bool Trainer::tracing(std::int64_t step) const {
    const std::int64_t taken = step - first_step_;
    return trace_ && taken >= Trace::first && taken < Trace::first + Trace::count;
}

// Waiting for the loader is a step's own: what a device does meanwhile is the step before.
NextBatch Trainer::take_batch(data::Loader& loader, std::int64_t step, LocalStep& local) {
    const comm::Phase phase("reading data", step + 1);
    const Clock::time_point asked = Clock::now();
    NextBatch next;
    if (ahead_) {
        next = std::move(*ahead_);
        ahead_.reset();
    } else {
        next.batch = loader.next();
        local.data_wait_s += loader.last_wait_s();
    }
    if (tracing(step)) trace_->loop("wait for data", step, asked, Clock::now());
    return next;
}

Leave Trainer::wish_to_leave() const {
    if (options_.stop != nullptr && options_.stop->load()) return Leave::signal;
    return root() && budget_left_s() <= 0 ? Leave::time : Leave::no;
}

// In the middle of a step, whose Update has not begun: its statistics alone have changed. What is
// left of a second belongs to the writer; then the run goes on, for as long as it may.
void Trainer::last_call(std::int64_t done) {
    if (called_ || done == 0 || !options_.last_call->load()) return;
    if (!root()) {
        called_ = true;
        std::this_thread::sleep_for(std::chrono::seconds(1));
        return;
    }
    if (!keeper_->idle()) return;
    called_ = true;
    if (done == keeper_->newest_step()) return;
    info_.step = done;
    weights::Snapshot snapshot = weights::take_snapshot(backend_, setup_.plan, info_);
    snapshot.states = states_before_;
    keeper_->save_in_haste(std::move(snapshot));
    try {
        keeper_->settle(true);
    } catch (const Error&) {
        // A warning has told of it; the end of this step tells all ranks.
    }
}

// Before the last micro-batch: the count that Update divides by, and what somebody wants to happen
// after the step.
void Trainer::agree(LocalStep& local) {
    const bool stop = wish_to_leave() != Leave::no;
    const double minutes = setup_.config.checkpoint.minutes;
    // A lost one: settle_checkpoint() ends the run on all ranks.
    const bool checkpoint = root() &&
                            (keeper_->lost() ||
                             (minutes > 0 && seconds_since(last_checkpoint_) >= 60 * minutes));
    double message[] = {local.valid, stop ? 1.0 : 0.0, checkpoint ? 1.0 : 0.0};
    control_->all_reduce(message, 3, DType::f64, comm::ReduceOp::sum, "valid pixels of the step");
    local.valid = message[0];
    local.stop = message[1] > 0;
    local.checkpoint = message[2] > 0;
}

LocalStep Trainer::one_step(data::Loader& loader, std::int64_t step) {
    const std::int64_t micros = setup_.config.train.accumulation;
    LocalStep local;
    local.skipped = skipped_.contains(step);
    step_ids_.clear();
    states_before_.clear();
    // Statistics that ranks have of their own would have to be averaged first.
    const bool own_statistics = setup_.config.train.sync_bn != config::SyncBn::global &&
                                !setup_.config.train.freeze_bn && control_->size() > 1;
    hears_last_call_ = options_.last_call != nullptr && backend_.on_host() && !own_statistics;
    if (hears_last_call_ && root())
        for (const auto& s : setup_.plan.states) states_before_[s.name] = backend_.download(s);
    for (std::int64_t micro = 0; micro < micros; ++micro) {
        NextBatch next = take_batch(loader, step, local);
        data::Batch& batch = next.batch;
        ensures(batch.step == step && batch.micro == micro,
                "the loader delivers the batch of this step");
        local.valid += static_cast<double>(batch.valid_pixels);
        step_ids_.insert(step_ids_.end(), batch.ids.begin(), batch.ids.end());
        if (micro + 1 == micros) agree(local);
        if (local.skipped)
            loader.recycle(std::move(batch));
        else
            run_micro(loader, step, std::move(next), local);
    }
    double message[] = {local.loss_sum, wish_to_leave() != Leave::no ? 1.0 : 0.0};
    control_->all_reduce(message, 2, DType::f64, comm::ReduceOp::sum, "loss of the step");
    local.loss_sum = message[0];
    local.stop = local.stop || message[1] > 0;
    local.finite = local.finite && std::isfinite(local.loss_sum);
    return local;
}

void Trainer::run_micro(data::Loader& loader, std::int64_t step, NextBatch next, LocalStep& local) {
    const comm::Phase phase("forward, backward, update", step + 1);
    const Clock::time_point began = Clock::now();
    data::Batch& batch = next.batch;
    exec::MicroBatch inputs = this->inputs(batch);
    inputs.samples = batch.keys;
    inputs.learning_rate = config::learning_rate(setup_.config, step);
    inputs.valid_pixels = local.valid;
    inputs.first_micro = batch.micro == 0;
    inputs.last_micro = batch.micro + 1 == setup_.config.train.accumulation;
    inputs.prefetched = next.prefetched;
    if (hears_last_call_) inputs.between_nodes = [this, step] { last_call(step); };
    executable_->start(inputs);
    if (samples_on_device() && !next.prefetched) loader.on_device(batch);
    loader.recycle(std::move(batch));
    look_ahead(loader);
    const exec::MicroBatchResult result = executable_->finish();
    if (tracing(step)) {
        trace_->loop("forward, backward, update", step, began, Clock::now());
        trace_->nodes(setup_.plan, step, began, executable_->node_seconds());
    }
    local.loss_sum += result.loss_sum;
    local.comm_exposed_s += result.comm_exposed_s;
    local.gradient_norm = result.gradient_norm;
    // The gradient is the sum over all ranks: it is finite for all or for none.
    local.finite = local.finite && result.finite;
}

// Images and labels, or decoded samples.
exec::MicroBatch Trainer::inputs(const data::Batch& batch) {
    decoded_.clear();
    for (std::size_t i = 0; i < batch.decoded.size(); ++i) {
        const data::LabelledImage& decoded = *batch.decoded[i];
        decoded_.push_back({decoded.image.pixels, decoded.mask.labels, batch.crops[i].words,
                            samples_on_device() ? std::int64_t{batch.keys[i].sample} : -1});
    }
    exec::MicroBatch inputs;
    inputs.images = batch.images;
    inputs.labels = batch.labels;
    inputs.decoded = decoded_;
    return inputs;
}

// While the device computes, the next batch goes there, where the loader has it.
void Trainer::look_ahead(data::Loader& loader) {
    if (!loader.ready()) return;
    ahead_ = NextBatch{loader.next()};
    if (skipped_.contains(ahead_->batch.step)) return;
    executable_->prefetch(inputs(ahead_->batch));
    ahead_->prefetched = true;
    if (samples_on_device()) loader.on_device(ahead_->batch);
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
    const double lr = config::learning_rate(setup_.config, step);
    comm::agreed(*control_, root(), "record of the step", [&] {
        record_nonfinite(options_.run, {step, loss, lr, all, skip});
    });
    const std::string what = cat("the loss or its gradient is not finite in step ", step + 1,
                                 " (loss ", loss, ", lr ", lr, ", images ", all, ")");
    if (skip) skipped_.insert(step);
    if (!skip || diverged(skipped_, step)) {
        throw DeviceError(cat(
            what, " — the run has diverged and stops", skip ? ": skipping steps did not help" : "",
            " — start a new run with a smaller optimizer.lr, with optimizer.warmup or "
            "optimizer.clip_norm, from the start or with --init from a checkpoint of this one: "
            "what it has is intact"));
    }
    if (root()) reporter_->line(cat(what, " — going back, and passing this step"));
    roll_back();
}

void Trainer::roll_back() {
    settle_checkpoint();
    std::string checkpoint;
    comm::agreed(*control_, root(), "checkpoint to go back to", [&] {
        const StartingPoint begin = find_starting_point(options_.run);
        if (begin.newest) checkpoint = begin.newest->string();
    });
    checkpoint = control_->all_gather(checkpoint, "name of the checkpoint").front();
    comm::agreed(*control_, true, "weights to go back to", [&] {
        first_step_ = 0;
        hashed_step_ = -1;
        for (const auto& p : setup_.plan.parameters) {
            const auto size = static_cast<std::size_t>(p.shape.elements());
            backend_.upload(p, exec::Slot::momentum, std::vector<float>(size, 0.0f));
        }
        starting_values(checkpoint);
    });
    interval_ = {};
    if (trace_) {
        trace_.reset();
        compile();  // without the nodes' clocks
    }
    start_reporter();
}

// Adds a step to the interval and, when it is due, sums its times over ranks and tells the user.
bool Trainer::report(const LocalStep& local, std::int64_t step) {
    interval_.step = step + 1;
    interval_.steps += local.skipped ? 0 : 1;
    interval_.skipped += local.skipped ? 1 : 0;
    interval_.data_wait_s += local.data_wait_s;
    interval_.comm_exposed_s += local.comm_exposed_s;
    const bool due = (step + 1) % setup_.config.train.log_every == 0 || step + 1 == iterations();
    if (!local.skipped) result_.loss = local.valid > 0 ? local.loss_sum / local.valid : 0;
    interval_.loss = local.skipped ? std::nan("") : result_.loss;
    interval_.learning_rate = config::learning_rate(setup_.config, step);
    if (options_.on_step && !local.skipped)
        options_.on_step({step + 1, result_.loss, interval_.learning_rate, local.gradient_norm});
    if (!due) return false;
    double message[] = {interval_.data_wait_s, interval_.comm_exposed_s};
    control_->all_reduce(message, 2, DType::f64, comm::ReduceOp::sum, "times of the interval");
    interval_.seconds = seconds_since(interval_start_);
    trained_s_ += interval_.seconds;
    trained_steps_ += interval_.steps;
    if (step + 1 == iterations()) state_hash_at(step + 1);
    if (root()) {
        report::Interval mean = interval_;
        mean.data_wait_s = message[0] / control_->size();
        mean.comm_exposed_s = message[1] / control_->size();
        reporter_->steps(mean, step + 1 == iterations() ? hex64(result_.state_hash) : "");
    }
    interval_ = {};
    interval_start_ = Clock::now();
    return true;
}

}  // namespace deeplab::train
