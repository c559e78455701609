#pragma once
// One table before the first step: what the run is about to use, and what of it looks wrong.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "startup.h"

namespace deeplab::train {

struct RankFacts {
    std::string host, device;
    std::string identity = "";          // of exec::Backend
    std::vector<int> processors;        // where the rank may run
    int node_processors = 0;            // of the host
    std::int64_t planned_bytes = 0;     // of host memory: a device's own has been taken by now
    std::int64_t available_bytes = -1;  // of the host; -1: unknown
};

struct PreflightFacts {
    std::vector<RankFacts> ranks;
    double bandwidth = 0;  // bytes of the all-reduced message per second; 0: one rank
    std::string data;
    CheckpointRoom checkpoints;
    std::vector<std::string> changes;  // since the run's start, of a resumed one: "key: old -> new"
};

struct PreflightTable {
    std::string text;                   // lines, the warnings not among them
    std::vector<std::string> warnings;  // "what — why — what to do"
    // For the terminal: at most `most_lines` lines and `most_warnings` warnings, for any number of
    // ranks, hosts and changes.
    static constexpr std::size_t most_lines = 7, most_warnings = 3;
    std::vector<std::string> lines, told;
};

// "0-3,8" for {0, 1, 2, 3, 8}.
std::string processor_ranges(const std::vector<int>& processors);
PreflightTable preflight_table(const PreflightFacts& facts);

// Measures, then rank 0 prints the table's short form and writes RUN/preflight.txt. An empty `run`:
// it prints the whole table, and nothing is written. Called before RUN/environment.json is renewed,
// which tells how many ranks the run had. Collective.
void preflight(const Setup& setup, exec::Backend& backend, comm::Communicator& control,
               const std::filesystem::path& run, std::vector<std::string> changes);

}  // namespace deeplab::train
