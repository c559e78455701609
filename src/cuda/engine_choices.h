#pragma once
// The engine of every convolution of a backend: known from the file or from another rank, found by
// timing, or the first that runs.

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "choice_cache.h"
#include "deeplab/base/clock.h"
#include "deeplab/comm/communicator.h"
#include "deeplab/cuda/cuda_backend.h"
#include "deeplab/exec/backend.h"
#include "engine_search.h"
#include "tuning_log.h"

namespace deeplab::cuda {

// The bits of a run depend on its engines, so ranks of equal devices share theirs: the first of
// them, who leads, reads the file, times what is missing, tells the others and writes the file.
// The others never time and never look at a file. Ranks of another device, or with another cuDNN,
// have a leader of their own.
class EngineChoices {
public:
    // `device`: library and device, as keys of choices begin. Collective over options.ranks.
    EngineChoices(const CudaOptions& options, const std::string& device, TuningOptions tuning = {});

    // The engine plan of the chosen engine is the one taken. What is not known is timed inside of
    // tuned(), else it is the first engine that runs, which no file keeps. DeviceError where no
    // engine works, or the device fails.
    Choice choose(Engines& engines);

    // Runs `build`, which calls choose(): on the ranks that lead first, on the others when they
    // have got their leader's choices. Collective over options.ranks.
    void tuned(const std::function<void()>& build);

    exec::EngineCounts counts() const;

private:
    bool leads() const { return ranks_->rank() == leader_; }
    void share();
    bool take_known(Engines& engines, const Choice& choice);
    Choice find(Engines& engines, const std::string& key);
    void warn_of(const SearchResult& result);

    TuningOptions tuning_;
    bool may_time_;        // at all
    bool timing_ = false;  // now
    std::unique_ptr<comm::Communicator> ranks_;
    int leader_;  // of the ranks with this one's device
    TuningLog log_;
    ChoiceCache cache_;
    std::map<std::string, Choice> first_;  // that ran, where nothing was timed
    std::set<std::string> timed_, known_;  // keys
    std::set<std::string> warned_;         // engines and reasons
    Clock::time_point saved_ = Clock::now();
};

}  // namespace deeplab::cuda
