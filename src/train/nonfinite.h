#pragma once
// Steps whose loss or gradient was not finite: RUN/nonfinite.jsonl, a line for each, with the ids
// of its whole batch. Used by rank 0 alone.
//
// train.on_nonfinite = "stop": the run ends with exit code 4. "rollback": the run goes back to its
// newest checkpoint, or to the values it started from (weights, momentum and running statistics:
// what made the step not finite may be in all of them, and a forward pass has already changed the
// statistics), takes the steps since then again, and passes that step without an update. The list
// stays with the run, so that a resumed run, also on another number of ranks, passes the same
// steps.

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>

namespace deeplab::train {

struct NonFinite {
    std::int64_t step = 0;  // from 0
    double loss = 0, learning_rate = 0;
    std::string ids;  // separated by spaces
    bool skipped = false;
};

// Durable when it returns. A step stands in the file once.
void record_nonfinite(const std::filesystem::path& run, const NonFinite& found);
// Steps (from 0) that a run passes; empty without a file.
std::set<std::int64_t> skipped_steps(const std::filesystem::path& run);
// Of a run that starts anew.
void forget_nonfinite(const std::filesystem::path& run);

// Batches do not fail like that, a diverged network does: 3 steps in a row, or more than 20 in all.
bool diverged(const std::set<std::int64_t>& skipped, std::int64_t step);

}  // namespace deeplab::train
