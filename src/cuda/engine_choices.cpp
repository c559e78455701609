#include "engine_choices.h"

#include <algorithm>

#include "deeplab/base/clock.h"
#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/activity.h"

namespace deeplab::cuda {
namespace {

std::unique_ptr<comm::Communicator> ranks_of(const CudaOptions& options) {
    if (options.engines == EnginePolicy::first || options.ranks == nullptr)
        return comm::make_self();
    return options.ranks->duplicate();
}

int first_with(comm::Communicator& ranks, const std::string& device) {
    const auto devices = ranks.all_gather(device, "devices of the ranks");
    return static_cast<int>(std::find(devices.begin(), devices.end(), device) - devices.begin());
}

}  // namespace

EngineChoices::EngineChoices(const CudaOptions& options, const std::string& device,
                             TuningOptions tuning)
    : tuning_(tuning),
      may_time_(options.engines == EnginePolicy::timed),
      ranks_(ranks_of(options)),
      leader_(first_with(*ranks_, device)),
      log_(may_time_ ? options.tuning_log : std::filesystem::path()),
      cache_(may_time_ && leads() ? options.choices : std::filesystem::path()) {
    share();
}

// The others' choices become their leader's.
void EngineChoices::share() {
    const auto texts = ranks_->all_gather(leads() && ranks_->size() > 1 ? cache_.text() : "",
                                          "engines of the convolutions");
    if (!leads()) cache_.merge(texts[static_cast<std::size_t>(leader_)], cat("rank ", leader_));
}

void EngineChoices::tuned(const std::function<void()>& build) {
    if (!may_time_) {
        build();
        return;
    }
    const comm::Phase phase("choosing engines");
    if (leads()) {
        timing_ = true;
        try {
            build();
        } catch (...) {
            timing_ = false;
            cache_.save();
            throw;
        }
        timing_ = false;
        cache_.save();
        log::info(cat("engines: ", timed_.size(), " timed, ", known_.size(), " known"));
    }
    share();
    if (leads())
        cache_.save();  // leaders of other devices may have written at the same time
    else
        build();
}

bool EngineChoices::take_known(Engines& engines, const Choice& choice) {
    try {
        const std::optional<std::int64_t> workspace = engines.build(choice);
        if (!workspace || *workspace > tuning_.workspace_limit) return false;
    } catch (const DeviceError&) {
        engines.recover();
        return false;
    }
    engines.take();
    return true;
}

Choice EngineChoices::choose(Engines& engines) {
    comm::beat();
    const std::string key = cat(engines.key(), " | workspace ", tuning_.workspace_limit,
                                tuning_.runtime_compiled ? " runtime" : "");
    if (const std::optional<Choice> known = cache_.find(key)) {
        if (take_known(engines, *known)) {
            if (!timed_.contains(key)) known_.insert(key);
            return *known;
        }
        log::warn(cat("engine ", known->engine, ", which was chosen before, cannot do ",
                      engines.key(), " — ",
                      timing_ ? "engines are timed anew" : "the first one that runs is taken"));
        cache_.erase(key);
    }
    if (!timing_) {
        const auto first = first_.find(key);
        if (first != first_.end() && take_known(engines, first->second)) return first->second;
        return first_[key] = find(engines, key);
    }
    const Choice choice = find(engines, key);
    cache_.insert(key, choice);
    if (choice.milliseconds > 0) timed_.insert(key);
    const auto now = Clock::now();
    if (now - saved_ >= tuning_.save_every) {
        saved_ = now;
        cache_.save();
    }
    return choice;
}

Choice EngineChoices::find(Engines& engines, const std::string& key) {
    const SearchResult result = search(engines, tuning_, timing_ ? Trial::time : Trial::run);
    warn_of(result);
    if (timing_) log_.append(key, result);
    if (!result.chosen) throw DeviceError(no_engine(engines.key(), tuning_, result));
    const Attempt& found = result.attempts[*result.chosen];
    Choice choice = found.candidate.choice;
    choice.milliseconds = found.milliseconds;
    return choice;
}

// Once for each engine and reason: a network has a hundred convolutions.
void EngineChoices::warn_of(const SearchResult& result) {
    if (!result.no_room.empty() && warned_.insert("").second) {
        log::warn(cat("engines of convolutions cannot be tried beside the network: ",
                      result.no_room, " (the first whose engine plan can be made is taken)"));
    }
    for (const Attempt& a : result.attempts) {
        if (!a.failed) continue;
        const std::int64_t engine = a.candidate.choice.engine;
        const std::string stage = a.left_out.substr(0, a.left_out.find(':'));
        if (!warned_.insert(cat(engine, " ", stage)).second) continue;
        log::warn(cat("engine ", engine, " is left out: ", a.left_out,
                      " (said once; DEEPLAB_TUNING_LOG=FILE records every candidate)"));
    }
}

exec::EngineCounts EngineChoices::counts() const {
    return {static_cast<std::int64_t>(timed_.size()), static_cast<std::int64_t>(known_.size())};
}

}  // namespace deeplab::cuda
