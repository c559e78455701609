#pragma once
// Checkpoints: one HDF5 file with all that is needed to go on, on any number of ranks. Atomic:
// temporary name, fsync, rename, fsync of the directory. Layout: parameters/<name>,
// momentum/<name>, states/<name> (f32, PyTorch's shapes) and attributes.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "deeplab/data/loader.h"
#include "deeplab/data/shard.h"
#include "deeplab/exec/backend.h"
#include "deeplab/model/deeplab.h"

namespace deeplab::weights {

// What a weights file says of itself.
struct WeightsInfo {
    model::ModelConfig model;
    data::ClassTable classes;
    std::int64_t step = 0;    // optimizer steps taken
    double best_miou = -1;    // so far
    std::string config_toml;  // the run's configuration: config::to_stored_toml
    std::string train_list_hash;
    // Of the splits (data::to_text of a SplitContent); "" in files of before, and of a run that
    // does not evaluate. Of checkpoints alone.
    std::string train_content, val_content;

    data::Normalisation normalisation() const { return {model.mean, model.std}; }
};

// The host's copy of a model.
struct Snapshot {
    WeightsInfo info;
    std::map<std::string, std::vector<float>> parameters, momentum, states;
    std::map<std::string, std::vector<std::int64_t>>
        extents;  // of parameters and states: PyTorch's shapes
};

Snapshot take_snapshot(exec::Backend& backend, const graph::Plan& plan, const WeightsInfo& info);
// DataError naming the first tensor that is missing or has another shape, and what the file holds
// instead.
void apply_snapshot(exec::Backend& backend, const graph::Plan& plan, const Snapshot& snapshot,
                    bool with_momentum);

// Returns the snapshot's state_hash. Keeps the HDF5 library from readers for no longer than a
// tensor's copy; needs the file's size in memory while it writes. Error when it cannot be written:
// what stood under the name is then as it was.
std::uint64_t save_checkpoint(const std::filesystem::path& file, const Snapshot& snapshot);
// The same, with its name before the disk has it all: a process that is killed loses less, and a
// machine that fails may leave a damaged file, which the next start passes over.
std::uint64_t save_in_haste(const std::filesystem::path& file, const Snapshot& snapshot);
// DataError for anything but a whole checkpoint, io::NewerFile for one that takes a newer program.
Snapshot load_checkpoint(const std::filesystem::path& file);
// FNV-1a over parameters, momentum and states by name: equal state, equal hash.
std::uint64_t state_hash(const Snapshot& snapshot);

// A checkpoint file, or a RUN folder (its best, else its latest).
std::filesystem::path find_weights(const std::filesystem::path& weights);

}  // namespace deeplab::weights
