#pragma once
// Whether all ranks were started alike. Ranks that differ would train on a mixture, or wait for
// each other without end: so that is compared before any exchange whose shape depends on it.

#include <cstdint>
#include <string>
#include <vector>

#include "deeplab/comm/communicator.h"
#include "deeplab/data/shard.h"
#include "deeplab/train/run_training.h"

namespace deeplab::train {

// What must be the same on all ranks: a name, its value here, and what to do where it differs.
struct Fact {
    std::string name, value, remedy;
};

// The program's version and commit, which every comparison begins with.
Fact program_fact();

// Collective: an Error with `code` on all ranks, with the same message, when a fact's value is not
// the same on all. It names the first such fact, its values with their ranks and hosts, and which
// other facts differ.
void require_same(comm::Communicator& control, const std::vector<Fact>& facts, ExitCode code);

// The first exchange of a run: the program's version, the options and the keys of the configuration
// that all ranks must share. Those that may differ are --threads, --device, --no-graph,
// --time-budget, paths (--data, --out, --init: what they hold is compared by the functions below)
// and the keys that its table lets differ. UsageError. Ends the job when the others have not come
// after train.watchdog_s.
void require_same_start(comm::Communicator& control, const TrainOptions& options);

// The splits' contents by the checksums of their shards, and their classes; null ones are left out.
// DataError.
void require_same_data(comm::Communicator& control,
                       const std::vector<const data::Manifest*>& splits);

// Collective: DeviceError naming the ranks whose plan differs from the others'.
void require_same_plan(comm::Communicator& world, std::uint64_t plan_hash);

// Weights, as every rank has read or made them. `origin` names them: "the checkpoint step-5.h5".
// DataError.
void require_same_values(comm::Communicator& control, std::uint64_t hash,
                         const std::string& origin);

}  // namespace deeplab::train
