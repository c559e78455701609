#pragma once
// A run's folder: who owns it, its metrics, its checkpoints. Used by rank 0 alone.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "deeplab/io/value.h"

namespace deeplab::train {

// RUN/lock holds host, pid and job of the live owner. Two mechanisms, since file systems differ:
// flock (released by the kernel when the owner dies), and a heartbeat, the file's modification
// time, that is watched for three beats when the owner is on another host or the file system has no
// flock. The same job under the same id (requeued) never waits.
class RunLock {
public:
    // UsageError naming host, pid and job when a live owner holds it; a dead one's lock is taken
    // over.
    explicit RunLock(const std::filesystem::path& run,
                     std::chrono::milliseconds heartbeat = std::chrono::seconds(10));
    ~RunLock();  // removes the file
    RunLock(const RunLock&) = delete;
    RunLock& operator=(const RunLock&) = delete;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

// RUN/metrics.jsonl: one JSON object a line, keyed by "step"; evaluation lines have "split".
class MetricsLog {
public:
    // Keeps the whole lines of steps up to `last_step` (0: none), one per step and kind; the file
    // is rewritten atomically.
    MetricsLog(const std::filesystem::path& file, std::int64_t last_step);
    ~MetricsLog();
    MetricsLog(const MetricsLog&) = delete;
    MetricsLog& operator=(const MetricsLog&) = delete;

    void append(const io::Object& line);
    // Writes the lines that are not in the file yet. An Error when that is impossible: the file
    // then ends with a whole line, and the next call tries again.
    void flush();
    // Of the evaluation of this step, if there was one; -1 when none of the classes was there.
    std::optional<double> miou(std::int64_t step) const;

private:
    void note(const io::Object& line);

    std::filesystem::path file_;
    int out_ = -1;
    std::int64_t whole_ = 0;                    // bytes of whole lines in the file
    std::string pending_;                       // lines that are not
    std::map<std::int64_t, double> evaluated_;  // mIoU by step
};

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
// Removes the temporary files of writers that were killed; nobody may be writing.
void remove_leftovers(const std::filesystem::path& run);

}  // namespace deeplab::train
