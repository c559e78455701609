#pragma once
// A training run: start-up checks, the loop, evaluation, checkpoints, the run's folder. Knows a
// backend and communicators, not what they are.

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "deeplab/base/error.h"
#include "deeplab/comm/communicator.h"
#include "deeplab/config/config.h"
#include "deeplab/exec/backend.h"

namespace deeplab::train {

// A step that has been taken; the same on all ranks.
struct StepReport {
    std::int64_t step = 0;  // 1: after the first update
    double loss = 0;        // mean over the valid pixels of the global batch
    double learning_rate = 0, gradient_norm = 0;
};

struct TrainOptions {
    config::Config config;
    std::filesystem::path data, run;
    std::filesystem::path init;     // weights to start from; empty: fresh values
    bool reset_classifier = false;  // of init: its classifier is not taken
    bool keep_classifier = false;   // of init: it is, though its classes have other names
    bool resume = false;  // goes on where the run's latest checkpoint stands, if it has one
    bool allow_changed_data = false;  // of resume: with other masks, or other names of classes
    bool dry_run = false;             // prints memory, ranks and devices; writes RUN/plan.txt alone
    bool verbose = false;             // of dry_run: prints the plan, too, and writes nothing
    double time_budget_min = 0;       // stop with a checkpoint after this long; 0: no limit
    int threads = 1;                  // of this rank
    // An error in the steps of one of several ranks ends the job there (comm::end_job_on_error);
    // else it is thrown.
    bool ends_job = false;
    bool cuda_graph = true;       // CUDA: a micro-batch's launches as one
    std::filesystem::path trace;  // a time line of some steps; empty: none
    std::string command;          // for environment.json
    // Set by a signal: stop with a checkpoint after this step, or after this image of an
    // evaluation.
    const std::atomic<bool>* stop = nullptr;
    // Set when this process may be killed within a second: the state of the last whole step goes
    // into a checkpoint while the next one is under way (rank 0, on a host's backend).
    const std::atomic<bool>* last_call = nullptr;
    std::function<void(const StepReport&)>
        on_step;  // after each step that was not passed; on this rank
};

struct TrainResult {
    ExitCode code = ExitCode::ok;  // or stopped_early
    std::int64_t step = 0;         // optimizer steps taken, those before a resume included
    double loss = -1;              // of the last step; -1: this process took none
    double miou = -1;              // of the last evaluation; -1: none
    double images_per_s = 0;       // over this process's steps, without evaluation and checkpoints
    std::int64_t skipped = 0;      // steps passed without an update (on_nonfinite = "rollback")
    std::uint64_t state_hash = 0;  // weights::state_hash after the last step
};

// Collective. `world` carries what the ranks agree on (host memory); gradients and batch-norm sums
// travel on duplicates of `sums`, which may be another kind of communicator over the same ranks.
// The backend must be fresh (not allocated).
TrainResult run_training(const TrainOptions& options, exec::Backend& backend,
                         comm::Communicator& world, comm::Communicator& sums);

// What such a run would need, as JSON (`deeplab-train --dry-run --json`): from the configuration,
// the manifests and the plan alone. No device is touched, nothing is written. `on_device`: it would
// train on GPUs. Collective; the text is rank 0's.
std::string needs_of(const TrainOptions& options, comm::Communicator& world, bool on_device);

}  // namespace deeplab::train
