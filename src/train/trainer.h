#pragma once
// A training run, as run_training makes one: its state, and its functions in three files.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "deeplab/base/clock.h"
#include "deeplab/data/loader.h"
#include "deeplab/evaluate/evaluator.h"
#include "deeplab/report/reporter.h"
#include "deeplab/train/checkpoint_keeper.h"
#include "deeplab/train/run_lock.h"
#include "deeplab/train/run_training.h"
#include "deeplab/weights/averaged_states.h"
#include "startup.h"
#include "trace.h"

namespace deeplab::train {

// One optimizer step on this rank.
struct LocalStep {
    double loss_sum = 0, valid = 0;  // valid: of all ranks
    double data_wait_s = 0, comm_exposed_s = 0, gradient_norm = 0;
    bool stop = false, checkpoint = false;  // agreed between all ranks
    bool finite = true, skipped = false;    // the same on all ranks
};

// Why a run ends before its last step.
enum class Leave : std::int64_t { no, signal, time };

// A micro-batch that has its turn next.
struct NextBatch {
    data::Batch batch;
    bool prefetched = false;  // the executable has taken it
};

class Trainer {
public:
    Trainer(const TrainOptions& options, exec::Backend& backend, comm::Communicator& world,
            comm::Communicator& sums);

    TrainResult run();

private:
    bool root() const { return control_->rank() == 0; }
    std::int64_t iterations() const { return setup_.config.train.iterations; }

    // trainer.cpp: how a run starts.
    void start();
    std::uint64_t starting_values(const std::filesystem::path& checkpoint);
    std::uint64_t fresh_values();
    std::uint64_t initial_weights();
    std::uint64_t resume(const std::filesystem::path& file);
    void learn_skipped_steps(bool goes_on);
    void start_reporter();
    void compile();
    bool samples_on_device() const { return setup_.config.data.cache == "device"; }
    void keep_samples();
    void dry_run();
    void train();
    data::LoaderOptions loader_options() const;

    // trainer_step.cpp: one step, and what becomes of it.
    LocalStep one_step(data::Loader& loader, std::int64_t step);
    Leave wish_to_leave() const;  // of this rank, now; the time is rank 0's
    void last_call(std::int64_t done);
    NextBatch take_batch(data::Loader& loader, std::int64_t step, LocalStep& local);
    void agree(LocalStep& local);
    void run_micro(data::Loader& loader, std::int64_t step, NextBatch next, LocalStep& local);
    exec::MicroBatch inputs(const data::Batch& batch);
    void look_ahead(data::Loader& loader);
    bool tracing(std::int64_t step) const;
    void not_finite(const LocalStep& local, std::int64_t step);
    void roll_back();
    bool report(const LocalStep& local, std::int64_t step);

    // trainer_loop.cpp: all steps, with evaluations and checkpoints between them.
    void loop();
    bool steps();  // false: the run went back
    void after_step(std::int64_t done, const LocalStep& local);
    weights::AveragedStates averaged_states();
    void save(std::int64_t done, bool best);
    void settle_checkpoint(bool on_purpose = false);
    void finish_checkpoints();
    std::uint64_t state_hash_at(std::int64_t done);

    // trainer_evaluation.cpp: evaluations, of steps that have their checkpoint.
    bool evaluation_due(std::int64_t done) const;
    void make_up();
    void evaluate_now(std::int64_t done);
    std::optional<evaluate::Confusion> judge(std::int64_t done, std::vector<io::Image>& pictures);
    void leave_evaluation(std::int64_t done, Leave why, double needed_s);
    double budget_left_s() const;
    Leave agree_to_leave(Leave mine, const char* what);

    const TrainOptions& options_;
    exec::Backend& backend_;
    std::unique_ptr<comm::Communicator> control_, gradients_, batch_norm_;
    Clock::time_point started_, last_checkpoint_;
    Setup setup_;
    weights::WeightsInfo info_;
    TrainResult result_;
    std::int64_t first_step_ = 0;
    std::int64_t hashed_step_ = -1;  // result_.state_hash is of this step
    std::unique_ptr<exec::Executable> executable_;
    std::unique_ptr<RunLock> lock_;               // rank 0
    std::unique_ptr<CheckpointKeeper> keeper_;    // rank 0; ends before the lock is given up
    std::unique_ptr<report::Reporter> reporter_;  // rank 0
    std::unique_ptr<Trace> trace_;                // until its last step
    std::unique_ptr<data::ShardSet> val_shards_;
    std::unique_ptr<evaluate::Predictor> predictor_;
    // What the loader delivered while the step before was under way. Nothing of a step is done
    // here.
    std::optional<NextBatch> ahead_;
    std::vector<exec::DecodedSample> decoded_;  // of the step whose inputs() were made last
    std::vector<std::string> step_ids_;         // of this rank: named where a step is not finite
    std::vector<std::string> changes_;          // of a resumed run's configuration
    std::set<std::int64_t> skipped_;            // steps passed without an update (nonfinite.h)
    report::Interval interval_;
    Clock::time_point interval_start_;
    double trained_s_ = 0, slowest_copy_s_ = 0;
    double evaluation_s_ = 0;    // that the last one took, or this one will; 0: not known
    bool evaluated_ = false;     // in this process: the memory sufficed
    Leave why_cut_ = Leave::no;  // this rank's reason to end the evaluation under way
    // Running statistics before the step under way, where last_call() may want them.
    std::map<std::string, std::vector<float>> states_before_;
    bool hears_last_call_ = false, called_ = false;
    std::int64_t trained_steps_ = 0;
};

}  // namespace deeplab::train
