#include "engine_search.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "deeplab/base/clock.h"
#include "deeplab/base/error.h"
#include "deeplab/base/text.h"

namespace deeplab::cuda {
namespace {
// What is wrong, without why that matters and what to do: of one engine it may not matter.
std::string reason(const DeviceError& error) {
    const std::string text = error.what();
    return text.substr(0, text.find(" — "));
}

// Candidates with their places, in the order of trial.
std::vector<Attempt> in_order(std::vector<Candidate> candidates) {
    std::vector<Attempt> order;
    for (Candidate& candidate : candidates) {
        Attempt attempt;
        attempt.candidate = std::move(candidate);
        attempt.place = order.size() + 1;
        order.push_back(std::move(attempt));
    }
    // Configurations of one engine differ less than engines do.
    std::set<std::int64_t> engines;
    std::set<std::size_t> later;  // places
    for (const Attempt& a : order) {
        if (!a.candidate.runtime_compiled && !engines.insert(a.candidate.choice.engine).second)
            later.insert(a.place);
    }
    const auto turn = [&](const Attempt& a) {
        return a.candidate.runtime_compiled ? 2 : later.contains(a.place) ? 1 : 0;
    };
    std::stable_sort(order.begin(), order.end(),
                     [&](const Attempt& a, const Attempt& b) { return turn(a) < turn(b); });
    return order;
}

void recover(Engines& engines, const std::string& what) {
    try {
        engines.recover();
    } catch (const DeviceError& fault) {
        throw DeviceError(cat("the device has failed when ", what, " was tried for ", engines.key(),
                              ": ", fault.what()));
    }
}

void try_one(Engines& engines, const TuningOptions& options, Trial trial, Attempt& attempt) {
    const Choice& choice = attempt.candidate.choice;
    const Clock::time_point begin = Clock::now();
    const auto built = [&] { attempt.build_seconds = seconds_since(begin); };
    try {
        const std::optional<std::int64_t> workspace = engines.build(choice);
        built();
        attempt.workspace = workspace.value_or(-1);
        if (!workspace) {
            attempt.left_out = "not supported";
        } else if (*workspace > options.workspace_limit) {
            attempt.left_out = "too large a workspace";
        } else if (trial == Trial::time) {
            attempt.milliseconds = engines.time();
        } else if (trial == Trial::run) {
            engines.run();
        }
    } catch (const DeviceError& error) {
        if (attempt.workspace < 0) built();
        attempt.failed = true;
        attempt.left_out = cat(
            attempt.workspace < 0 ? "its plan cannot be made: " : "it does not run: ",
            reason(error));
        recover(engines, cat("engine ", choice.engine));
    }
}

}  // namespace

SearchResult search(Engines& engines, const TuningOptions& options, Trial trial) {
    SearchResult result;
    if (trial != Trial::build) {
        try {
            engines.prepare();
        } catch (const DeviceError& error) {
            result.no_room = reason(error);
            recover(engines, "memory");
            trial = Trial::build;
        }
    }
    std::vector<Attempt> order = in_order(engines.candidates(trial == Trial::time));
    result.candidates = order.size();
    int tried = 0;
    for (Attempt& attempt : order) {
        if (attempt.candidate.runtime_compiled && !options.runtime_compiled) continue;
        try_one(engines, options, trial, attempt);
        const bool works = attempt.left_out.empty();
        // Those that could not even be run do not count.
        if (works || (attempt.failed && attempt.workspace >= 0)) ++tried;
        const auto best = [&] { return result.attempts[*result.chosen].milliseconds; };
        if (works && (!result.chosen || attempt.milliseconds < best())) {
            engines.take();
            result.chosen = result.attempts.size();
        }
        result.attempts.push_back(std::move(attempt));
        if (result.chosen && (trial != Trial::time || tried >= options.candidates)) break;
    }
    return result;
}

std::string no_engine(const std::string& key, const TuningOptions& options,
                      const SearchResult& result) {
    constexpr std::int64_t none = std::numeric_limits<std::int64_t>::max();
    std::int64_t smallest = none;  // of the workspaces that were too large
    std::string failure;
    for (const Attempt& a : result.attempts) {
        if (a.failed && failure.empty())
            failure = cat(" (engine ", a.candidate.choice.engine, ": ", a.left_out, ")");
        if (a.workspace > options.workspace_limit) smallest = std::min(smallest, a.workspace);
    }
    const auto size = [](std::int64_t bytes) {
        return human_bytes(static_cast<std::uint64_t>(std::max<std::int64_t>(bytes, 0)));
    };
    return cat("cuDNN has no engine for ", key,
               smallest == none ? std::string()
                                : cat(" within ", size(options.workspace_limit), " of workspace (",
                                      size(smallest), " would do)"),
               failure,
               " — the network cannot run there — use another precision, a smaller batch or a "
               "newer cuDNN");
}

}  // namespace deeplab::cuda
