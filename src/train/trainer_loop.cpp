// All steps of a run, with evaluations and checkpoints between them.
#include <algorithm>
#include <utility>

#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/activity.h"
#include "deeplab/comm/agreement.h"
#include "nonfinite.h"
#include "trainer.h"

namespace deeplab::train {

// Of what a checkpoint of this step holds; the same on all ranks. Collective.
std::uint64_t Trainer::state_hash_at(std::int64_t done) {
    if (hashed_step_ == done) return result_.state_hash;
    weights::AveragedStates averaged = averaged_states();
    if (root())
        result_.state_hash = weights::state_hash(
            weights::take_snapshot(backend_, setup_.plan, info_));
    averaged.restore();
    control_->broadcast(&result_.state_hash, sizeof(result_.state_hash), 0, "hash of the state");
    hashed_step_ = done;
    return result_.state_hash;
}

weights::AveragedStates Trainer::averaged_states() {
    const config::Config::Train& train = setup_.config.train;
    return {backend_, setup_.plan, *control_,
            train.sync_bn != config::SyncBn::global && !train.freeze_bn};
}

// Waits for the checkpoint that is being written. The same Error on all ranks when the run has no
// whole one; a best one that was not written is not the best.
void Trainer::settle_checkpoint(bool on_purpose) {
    const comm::Phase phase("waiting for a checkpoint to be written", result_.step);
    comm::agreed(*control_, root(), "checkpoint", [&] { keeper_->settle(on_purpose); });
    if (root()) info_.best_miou = keeper_->best_miou();
    control_->broadcast(&info_.best_miou, sizeof(info_.best_miou), 0, "best mIoU");
}

// After settle_checkpoint(). The steps wait for the copy only.
void Trainer::save(std::int64_t done, bool best) {
    const comm::Phase phase("copying the state for a checkpoint", done);
    weights::AveragedStates averaged = averaged_states();
    if (root()) {
        info_.step = done;
        const Clock::time_point began = Clock::now();
        weights::Snapshot snapshot = weights::take_snapshot(backend_, setup_.plan, info_);
        slowest_copy_s_ = std::max(slowest_copy_s_, seconds_since(began));
        keeper_->save(std::move(snapshot), best);
    }
    averaged.restore();
    last_checkpoint_ = Clock::now();
}

// No rank leaves before the last checkpoint has its name.
void Trainer::finish_checkpoints() {
    const comm::Phase phase("waiting for the last checkpoint to be written", result_.step);
    comm::agreed(*control_, root(), "last checkpoint", [&] {
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

// The checkpoint comes first: an evaluation is long, and may be cut, or not fit into memory. A run
// that stops leaves it to the one that goes on.
void Trainer::after_step(std::int64_t done, const LocalStep& local) {
    const bool evaluates = evaluation_due(done);
    const bool stopping = local.stop && (done < iterations() || evaluates);
    const std::int64_t every = setup_.config.checkpoint.every;
    const bool due = (every > 0 && done % every == 0) || local.checkpoint || done == iterations();
    if (evaluates || due || stopping) {
        settle_checkpoint();
        save(done, false);
    }
    if (stopping)
        result_.code = ExitCode::stopped_early;
    else if (evaluates)
        evaluate_now(done);
    interval_start_ = Clock::now();
}

void Trainer::loop() {
    result_.step = first_step_;
    make_up();
    while (result_.code == ExitCode::ok && !steps()) {
    }
    result_.skipped = static_cast<std::int64_t>(skipped_.size());
}

bool Trainer::steps() {
    result_.step = first_step_;
    if (first_step_ >= iterations()) return true;
    data::Loader loader(loader_options());
    ahead_.reset();
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

}  // namespace deeplab::train
