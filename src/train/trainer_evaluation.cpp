// A run's evaluations. The checkpoint of the step has been handed to the writer before: whatever
// happens here, no step is lost, and the run that goes on makes up for an evaluation that was cut.
#include <algorithm>
#include <limits>
#include <utility>

#include "deeplab/base/files.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/activity.h"
#include "deeplab/comm/agreement.h"
#include "describe.h"
#include "trainer.h"

namespace deeplab::train {

namespace fs = std::filesystem;

namespace {

// RUN/evaluating stands while a run evaluates: a start that finds it knows how the one before
// ended.
class EvaluationMark {
public:
    EvaluationMark(fs::path file, std::int64_t step) : file_(std::move(file)) {
        try {
            write_atomically(file_, cat(step, "\n"));
        } catch (const Error&) {
            // The evaluation does without.
        }
    }
    ~EvaluationMark() {
        std::error_code ignored;
        fs::remove(file_, ignored);
    }
    EvaluationMark(const EvaluationMark&) = delete;
    EvaluationMark& operator=(const EvaluationMark&) = delete;

private:
    fs::path file_;
};

fs::path mark_of(const fs::path& run) { return run / "evaluating"; }

void tell_of_mark(const fs::path& run, std::int64_t step) {
    std::error_code error;
    if (!fs::exists(mark_of(run), error) || trim(read_text(mark_of(run))) != cat(step)) return;
    log::warn(
        cat("the last start of this run ended without a word while it evaluated step ", step,
            " — the system may have killed it for its memory, and would do so again — it evaluates "
            "that step once more; if it ends here again, give it more memory, leave large images "
            "out of the split, or go on with --set train.eval_every=0 and evaluate the checkpoints "
            "with deeplab-eval"));
}

}  // namespace

bool Trainer::evaluation_due(std::int64_t done) const {
    const std::int64_t every = setup_.config.train.eval_every;
    return every > 0 && done > 0 && (done % every == 0 || done == iterations());
}

double Trainer::budget_left_s() const {
    if (options_.time_budget_min <= 0) return std::numeric_limits<double>::infinity();
    return 60 * options_.time_budget_min - seconds_since(started_);
}

// The same on all ranks: a signal to one of them before the time. Collective.
Leave Trainer::agree_to_leave(Leave mine, const char* what) {
    std::int64_t wishes[] = {mine == Leave::signal, mine == Leave::time};
    control_->all_reduce(wishes, 2, DType::i64, comm::ReduceOp::max, what);
    return wishes[0] != 0 ? Leave::signal : wishes[1] != 0 ? Leave::time : Leave::no;
}

// The run before may have left the evaluation of its last step to this one, or have been killed
// between that evaluation and the link of the best checkpoint.
void Trainer::make_up() {
    double known[] = {0, -1};  // whether it is missing, and its mIoU where it is not
    if (root() && evaluation_due(first_step_)) {
        const auto miou = reporter_->metrics().miou(first_step_);
        known[0] = miou ? 0 : 1;
        known[1] = miou.value_or(-1);
        if (!miou) tell_of_mark(options_.run, first_step_);
    }
    control_->broadcast(known, sizeof(known), 0, "evaluation to make up for");
    if (known[0] != 0) {
        evaluate_now(first_step_);
    } else if (known[1] > info_.best_miou) {
        info_.best_miou = known[1];
        save(first_step_, true);
    }
}

// After save(). Ends the run (result_.code) where a signal or the time budget leave it no room.
void Trainer::evaluate_now(std::int64_t done) {
    const comm::Phase phase("evaluation", done);
    // What no evaluation has shown to fit into memory may end the process without a word.
    if (!evaluated_) settle_checkpoint(true);
    Leave why = wish_to_leave();
    if (why == Leave::no && root() && evaluation_s_ > budget_left_s()) why = Leave::time;
    why = agree_to_leave(why, "stop before the evaluation");
    if (why != Leave::no) return leave_evaluation(done, why, evaluation_s_);

    const Clock::time_point start = Clock::now();
    std::vector<io::Image> pictures;
    std::optional<evaluate::Confusion> confusion;
    why_cut_ = Leave::no;
    try {
        confusion = judge(done, pictures);
    } catch (const Error& error) {  // the same on all ranks
        settle_checkpoint(true);
        throw Error(
            error.code(),
            cat("the evaluation of step ", done, " failed: ", error.what(),
                ". The checkpoint of that step is written, and --resume begins with its "
                "evaluation: mend the image or leave it out of the split, give the ranks more "
                "memory where that was missing, or go on with --set train.eval_every=0 and "
                "evaluate the checkpoints with deeplab-eval"));
    }
    if (!confusion) {
        why = agree_to_leave(why_cut_, "reason to leave the evaluation");
        return leave_evaluation(done, why, evaluation_s_);
    }
    evaluated_ = true;
    evaluation_s_ = seconds_since(start);

    const evaluate::Metrics metrics = confusion->metrics();
    const std::string hash = hex64(state_hash_at(done));
    if (root()) {
        for (std::size_t i = 0; i < pictures.size(); ++i)
            reporter_->image(static_cast<std::int64_t>(i), done, pictures[i]);
        reporter_->evaluation(done, setup_.val->split, "full", *confusion, setup_.val->records,
                              hash, evaluation_s_);
    }
    result_.miou = metrics.miou;
    settle_checkpoint();  // and with it, which mIoU is the best so far
    if (metrics.miou > info_.best_miou) {
        info_.best_miou = metrics.miou;
        save(done, true);
    }
    if (done < iterations() &&
        agree_to_leave(wish_to_leave(), "stop after the evaluation") != Leave::no)
        result_.code = ExitCode::stopped_early;
}

// Nothing when the run is to stop; pictures: for TensorBoard.
std::optional<evaluate::Confusion> Trainer::judge(std::int64_t done,
                                                  std::vector<io::Image>& pictures) {
    std::optional<EvaluationMark> mark;
    if (root()) mark.emplace(mark_of(options_.run), done);
    if (!val_shards_)
        val_shards_ = std::make_unique<data::ShardSet>(options_.data, setup_.val->split);
    if (!predictor_) {
        predictor_ = std::make_unique<evaluate::Predictor>(
            backend_, setup_.config.model,
            evaluate::InferenceOptions{.normalisation = info_.normalisation()});
    }
    constexpr std::size_t most_pictures = 3;
    const std::vector<io::Rgb> palette = info_.classes.palette();
    const Clock::time_point start = Clock::now();
    const double left_s = budget_left_s();
    const double images = static_cast<double>(val_shards_->size()) / control_->size();
    std::int64_t judged = 0;
    evaluate::EvaluationOptions evaluation;
    evaluation.on_image = [&](std::int64_t, const data::Record&, const io::Image& image,
                              const io::Mask& truth, const io::Mask& predicted) {
        comm::beat();
        ++judged;
        if (root() && pictures.size() < most_pictures)
            pictures.push_back(side_by_side(image, truth, predicted, palette));
    };
    // Rank 0 looks ahead when it has seen some images: what cannot end in time need not go on.
    const auto hopeless = [&] {
        constexpr std::int64_t some = 4;
        constexpr double surely = 1.25;
        if (!root() || judged < some) return false;
        evaluation_s_ = seconds_since(start) / static_cast<double>(judged) * images;
        return evaluation_s_ > surely * left_s;
    };
    weights::AveragedStates averaged = averaged_states();
    auto confusion = evaluate::evaluate_until(*predictor_, *val_shards_, evaluation, *control_,
                                              [&] {
                                                  if (why_cut_ == Leave::no)
                                                      why_cut_ = wish_to_leave();
                                                  if (why_cut_ == Leave::no && hopeless())
                                                      why_cut_ = Leave::time;
                                                  return why_cut_ != Leave::no;
                                              });
    averaged.restore();
    return confusion;
}

// An evaluation that no start could ever finish would be begun for ever: it is refused.
void Trainer::leave_evaluation(std::int64_t done, Leave why, double needed_s) {
    result_.code = ExitCode::stopped_early;
    const bool at_start = done == first_step_;
    comm::agreed(
        *control_, root() && at_start && why == Leave::time, "time of the evaluation", [&] {
            throw UsageError(cat(
                "the evaluation of step ", done, " takes longer than the time budget of ",
                options_.time_budget_min, " minutes",
                needed_s > 0 ? cat(" (about ", human_seconds(needed_s), ")") : "",
                " — a start could never come to its next step — give a longer --time-budget, more "
                "ranks, or --set train.eval_every=0 and evaluate with deeplab-eval"));
        });
    if (!root()) return;
    reporter_->line(
        cat("the evaluation of step ", done,
            why == Leave::time ? " would not end within the time budget" : " was stopped",
            "; the run that goes on makes up for it"));
}

}  // namespace deeplab::train
