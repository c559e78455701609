#include "deeplab/train/checkpoint_keeper.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <system_error>
#include <utility>

#include "deeplab/base/clock.h"
#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/io/features.h"
#include "deeplab/train/run_folder.h"

namespace deeplab::train {

namespace fs = std::filesystem;

namespace {

// A thread begins with its creator's mask. The stop signals must reach the threads that the
// program installed its handlers for, and no write or fsync is interrupted.
std::thread without_signals(std::function<void()> body) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread made(std::move(body));
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return made;
}

std::string text_of(const std::exception_ptr& failure) {
    try {
        std::rethrow_exception(failure);
    } catch (const std::exception& error) {
        return error.what();
    }
}

// best.h5 names a whole file and start.best_miou is its mIoU, or the next evaluation decides anew.
void check_best(const fs::path& run, StartingPoint& start) {
    const fs::path link = run / "checkpoints" / "best.h5";
    std::error_code error;
    const fs::path target = fs::read_symlink(link, error);
    if (error) {
        if (fs::exists(link, error)) return;  // a copy of a run, without links
        // The writer was killed between the first best checkpoint and its link.
        if (start.best_miou >= 0) link_checkpoint(*start.newest, "best.h5");
        return;
    }
    const fs::path file = link.parent_path() / target.filename();
    if (start.newest == file) return;
    try {
        // The writer was killed between a better checkpoint, the newest one, and its link.
        if (weights::load_checkpoint(file).info.best_miou < start.best_miou)
            link_checkpoint(*start.newest, "best.h5");
    } catch (const io::NewerFile&) {
        throw;
    } catch (const DataError& problem) {
        // The link stays: it tells the next start too that the best one is lost.
        if (fs::exists(file, error)) start.damaged.insert(file);
        start.best_miou = -1;
        log::warn(cat("best.h5 is of no use until the next evaluation: ", problem.what()));
    }
}

}  // namespace

StartingPoint find_starting_point(const fs::path& run) {
    remove_leftovers(run);
    StartingPoint start;
    std::string reasons;
    const auto files = checkpoints_of(run);
    for (auto file = files.rbegin(); file != files.rend() && !start.newest; ++file) {
        try {
            const weights::Snapshot snapshot = weights::load_checkpoint(file->second);
            start.newest = file->second;
            start.step = snapshot.info.step;
            start.best_miou = snapshot.info.best_miou;
        } catch (const io::NewerFile&) {
            throw;  // an older checkpoint would be continued, and steps of this one written over
        } catch (const DataError& problem) {
            start.damaged.insert(file->second);
            reasons += cat(reasons.empty() ? "" : "; ", problem.what());
            log::warn(cat("skipped: ", problem.what()));
        }
    }
    if (files.empty()) return start;
    if (!start.newest) {
        throw DataError(cat("none of the run's ", files.size(), " checkpoints is whole: ", reasons,
                            " — a fresh start would throw the run's steps away — restore one of "
                            "them, or choose another --out"));
    }
    link_checkpoint(*start.newest, "latest.h5");
    check_best(run, start);
    return start;
}

CheckpointKeeper::CheckpointKeeper(fs::path run, std::int64_t keep, StartingPoint start,
                                   Write write)
    : run_(std::move(run)),
      keep_(keep),
      write_(std::move(write)),
      damaged_(std::move(start.damaged)),
      newest_step_(start.newest ? start.step : -1),
      best_miou_(start.best_miou),
      writer_(without_signals([this] { work(); })) {}

CheckpointKeeper::~CheckpointKeeper() {
    {
        const std::lock_guard held(mutex_);
        leaving_ = true;
    }
    changed_.notify_all();
    writer_.join();
}

void CheckpointKeeper::save(weights::Snapshot snapshot, bool best) {
    hand_over({.snapshot = std::move(snapshot), .best = best});
}

void CheckpointKeeper::save_in_haste(weights::Snapshot snapshot) {
    hand_over({.snapshot = std::move(snapshot), .in_haste = true});
}

void CheckpointKeeper::hand_over(Job job) {
    {
        const std::lock_guard held(mutex_);
        expects(!job_, "CheckpointKeeper::save: after settle()");
        job_ = std::move(job);
    }
    changed_.notify_all();
}

void CheckpointKeeper::settle(bool on_purpose) {
    std::unique_lock held(mutex_);
    const auto idle = [this] { return !job_; };
    if (!idle()) {
        ++waits_;
        if (!on_purpose && !changed_.wait_for(held, std::chrono::seconds(1), idle) && !told_) {
            told_ = true;
            log::warn(cat("the run waits until the checkpoint of step ", job_->snapshot.info.step,
                          " is written: the file system is slower than checkpoint.every, "
                          "checkpoint.minutes or train.eval_every ask for (this is said once)"));
        }
        changed_.wait(held, idle);
    }
    if (failure_ && newest_step_ < 0) std::rethrow_exception(failure_);
}

void CheckpointKeeper::finish() {
    std::unique_lock held(mutex_);
    changed_.wait(held, [this] { return !job_; });
    if (failure_) std::rethrow_exception(failure_);
}

bool CheckpointKeeper::lost() const {
    const std::lock_guard held(mutex_);
    return !job_ && failure_ && newest_step_ < 0;
}

bool CheckpointKeeper::idle() const {
    const std::lock_guard held(mutex_);
    return !job_;
}

std::int64_t CheckpointKeeper::newest_step() const {
    const std::lock_guard held(mutex_);
    return newest_step_;
}

double CheckpointKeeper::best_miou() const {
    const std::lock_guard held(mutex_);
    return best_miou_;
}

std::uint64_t CheckpointKeeper::state_hash() const {
    const std::lock_guard held(mutex_);
    return state_hash_;
}

std::string CheckpointKeeper::summary() const {
    const std::lock_guard held(mutex_);
    return cat(written_, " written, the slowest in ", fixed(slowest_s_, 2), " s in the background");
}

void CheckpointKeeper::work() {
    std::unique_lock held(mutex_);
    for (;;) {
        changed_.wait(held, [this] { return job_ || leaving_; });
        if (!job_) return;
        const Job& job = *job_;  // nobody else touches it until it is reset
        std::exception_ptr failure;
        held.unlock();
        const auto began = Clock::now();
        try {
            put_in_place(job);
        } catch (...) {
            failure = std::current_exception();
        }
        const double took = seconds_since(began);
        held.lock();
        written_ += failure ? 0 : 1;
        slowest_s_ = std::max(slowest_s_, took);
        failure_ = failure;
        if (failure) {
            log::warn(cat("the checkpoint of step ", job.snapshot.info.step,
                          " was not written: ", text_of(failure),
                          newest_step_ < 0 ? std::string(" (the run has no other one)")
                                           : cat(" (that of step ", newest_step_, " is whole)")));
        }
        job_.reset();
        changed_.notify_all();
    }
}

void CheckpointKeeper::put_in_place(const Job& job) {
    const weights::WeightsInfo& info = job.snapshot.info;
    const fs::path file = checkpoint_path(run_, info.step);
    const std::uint64_t hash = job.in_haste ? weights::save_in_haste(file, job.snapshot)
                                            : write_(file, job.snapshot);
    damaged_.erase(file);
    {
        const std::lock_guard held(mutex_);
        newest_step_ = info.step;
        state_hash_ = hash;
    }
    if (job.best) {
        link_checkpoint(file, "best.h5");
        const std::lock_guard held(mutex_);
        best_miou_ = info.best_miou;
    }
    link_checkpoint(file, "latest.h5");
    prune_checkpoints(run_, keep_, damaged_);
}

}  // namespace deeplab::train
