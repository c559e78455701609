#pragma once
// Who owns a run's folder. Used by rank 0 alone.

#include <chrono>
#include <filesystem>
#include <memory>

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

}  // namespace deeplab::train
