#pragma once
// A run's checkpoints while it trains: written in the background, and chosen from at its start.
// Used by rank 0 alone.

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include "deeplab/weights/checkpoint.h"

namespace deeplab::train {

// What a run goes on from.
struct StartingPoint {
    std::optional<std::filesystem::path> newest;  // the newest whole checkpoint; none: a new run
    std::int64_t step = 0;                        // of newest
    double best_miou = -1;                        // so far; -1 when best.h5 names no whole file
    std::set<std::filesystem::path> damaged;      // newer than newest, or what best.h5 named
};

// Reads checkpoints from the newest to the oldest until one is whole. A damaged one is named in a
// warning and stays where it is; latest.h5 is made to name the chosen one. Also removes the
// temporary files of writers that were killed: only the owner of the run's lock may call it.
// DataError naming every file and its reason when there are checkpoints and none is whole.
StartingPoint find_starting_point(const std::filesystem::path& run);

// Writes snapshots on a thread of its own: checkpoint, fsync, rename, best.h5, latest.h5, removal
// of old ones. One at a time: before the next one the run waits until the last is in place. A
// snapshot that could not be written is told as a warning while the run has an older whole
// checkpoint, and the next is tried as usual; the run's last one must succeed (finish()).
//
// One thread calls the member functions; it receives all signals (the writer blocks them).
class CheckpointKeeper {
public:
    // Puts a snapshot into a file, whole or not at all, and returns its state_hash.
    using Write = std::function<std::uint64_t(const std::filesystem::path&,
                                              const weights::Snapshot&)>;

    CheckpointKeeper(std::filesystem::path run, std::int64_t keep, StartingPoint start,
                     Write write = weights::save_checkpoint);
    ~CheckpointKeeper();  // finishes the write under way
    CheckpointKeeper(const CheckpointKeeper&) = delete;
    CheckpointKeeper& operator=(const CheckpointKeeper&) = delete;

    // Hands a snapshot over, after settle(). best: best.h5 is to name it.
    void save(weights::Snapshot snapshot, bool best);
    // The same by save_in_haste(): the process may be killed any moment.
    void save_in_haste(weights::Snapshot snapshot);
    // Waits for the write under way; says so the first time that it takes more than a second,
    // unless the caller waits on purpose. Throws its Error when it failed and the run has no whole
    // checkpoint.
    void settle(bool on_purpose = false);
    // Waits for the write under way. Throws its Error when it failed.
    void finish();

    bool lost() const;                 // settle() would throw, without waiting
    bool idle() const;                 // settle() would not wait
    std::int64_t newest_step() const;  // of the newest whole checkpoint; -1: there is none
    double best_miou() const;  // of the checkpoint that best.h5 names; -1: none. After settle()
    std::uint64_t state_hash() const;  // of the last one written. After finish()
    // "3 written, the slowest in 1.2 s in the background". After finish().
    std::string summary() const;
    std::int64_t waits() const { return waits_; }  // of settle(), so far

private:
    struct Job {
        weights::Snapshot snapshot;
        bool best = false, in_haste = false;
    };

    void hand_over(Job job);
    void work();
    void put_in_place(const Job& job);

    const std::filesystem::path run_;
    const std::int64_t keep_;
    const Write write_;
    std::set<std::filesystem::path> damaged_;  // the writer's own
    std::int64_t waits_ = 0;                   // the caller's own
    bool told_ = false;                        // the caller's own: that it waits

    mutable std::mutex mutex_;  // over all below
    std::condition_variable changed_;
    std::optional<Job> job_;  // handed over and not yet in place
    bool leaving_ = false;
    std::int64_t newest_step_;  // of the newest whole checkpoint; -1: there is none
    double best_miou_;
    std::uint64_t state_hash_ = 0;
    std::int64_t written_ = 0;
    double slowest_s_ = 0;        // of put_in_place()
    std::exception_ptr failure_;  // of the last write

    std::thread writer_;
};

}  // namespace deeplab::train
