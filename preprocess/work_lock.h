#pragma once
// One program at a time does a piece of work.

#include <filesystem>
#include <string>

namespace deeplab::preprocess {

// Holds `file` while the object lives; UsageError when another process holds it, naming that
// process. The system frees the lock of a process that died, and the file it left is taken over.
// Where the file system has no locks, the file itself is the lock: one that a dead process of this
// host left is taken over, one of another host has to be deleted by hand.
class WorkLock {
public:
    WorkLock(std::filesystem::path file, const std::string& work);
    ~WorkLock();  // removes the file
    WorkLock(WorkLock&& other) noexcept;
    WorkLock& operator=(WorkLock&&) = delete;

private:
    bool lock(const std::string& work);  // false: to be tried again
    bool sign();                         // writes into the file whose it is

    std::filesystem::path file_;
    int descriptor_ = -1;
};

}  // namespace deeplab::preprocess
