#pragma once
// The checkpoints in a run's folder. Used by rank 0 alone.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>

namespace deeplab::train {

std::filesystem::path checkpoint_path(const std::filesystem::path& run,
                                      std::int64_t step);  // …/step-0000100.h5
// The run's checkpoints by step, whole or not; what links name is not asked.
std::map<std::int64_t, std::filesystem::path> checkpoints_of(const std::filesystem::path& run);
// The file that latest.h5 names, else the one of the highest step; not opened.
std::optional<std::filesystem::path> latest_checkpoint(const std::filesystem::path& run);
// Makes checkpoints/<name> a symbolic link to `target`, which stands beside it, in one step.
void link_checkpoint(const std::filesystem::path& target, const std::string& name);
// Removes all but the newest `keep` checkpoints and what best.h5 and latest.h5 name. `damaged` ones
// do not count and stay.
void prune_checkpoints(const std::filesystem::path& run, std::int64_t keep,
                       const std::set<std::filesystem::path>& damaged);
// What checkpoints take where the run's folder is, or will be; `run` may be empty.
struct CheckpointRoom {
    std::int64_t bytes = 0;    // of one
    std::int64_t at_once = 0;  // at most: those that are kept, the best, and the one being written
    std::int64_t to_come = 0;  // bytes of those that are not there yet; at least one is written
    std::int64_t free = -1;    // bytes; -1: unknown
};
CheckpointRoom checkpoint_room(const std::filesystem::path& run, std::int64_t bytes,
                               std::int64_t keep);
// Removes the temporary files of writers that were killed; nobody may be writing.
void remove_leftovers(const std::filesystem::path& run);

}  // namespace deeplab::train
