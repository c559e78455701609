#include "work_lock.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"

namespace fs = std::filesystem;

namespace deeplab::preprocess {
namespace {

// "HOST PROCESS"
std::string own_name() { return cat(log::host(), " ", getpid()); }

std::string content_of(int file) {
    char text[300] = "";
    const ssize_t size = pread(file, text, sizeof text - 1, 0);
    return trim(std::string(text, size > 0 ? static_cast<std::size_t>(size) : 0));
}

[[noreturn]] void throw_held(const std::string& work, const std::string& holder,
                             const fs::path& file, const char* more) {
    const std::size_t space = holder.find(' ');
    throw UsageError(
        cat("another deeplab-pack is at work on ", work, " (",
            space == std::string::npos
                ? "unknown process"
                : cat("process ", holder.substr(space + 1), " on ", holder.substr(0, space)),
            ", ", file.string(), ") — two would mix their files — wait until it has ended", more,
            "; where one launcher started both, start them as ranks of one job "
            "(mpirun or srun of the MPI that this program was built with)"));
}

[[noreturn]] void throw_failed(const fs::path& file) {
    throw UsageError(cat("cannot lock ", file.string(), ": ", std::strerror(errno),
                         " — two packs could mix their files — choose a folder that can be "
                         "written"));
}

// The holder was a process of this host that is gone.
bool is_dead(const std::string& holder) {
    const std::size_t space = holder.find(' ');
    if (space == std::string::npos || holder.substr(0, space) != log::host()) return false;
    const long process = std::strtol(holder.c_str() + space, nullptr, 10);
    return process > 0 && kill(static_cast<pid_t>(process), 0) != 0 && errno == ESRCH;
}

bool same_file(int descriptor, const fs::path& path) {
    struct stat open_one {
    }, named{};
    return fstat(descriptor, &open_one) == 0 && stat(path.c_str(), &named) == 0 &&
           open_one.st_dev == named.st_dev && open_one.st_ino == named.st_ino;
}

}  // namespace

WorkLock::WorkLock(fs::path file, const std::string& work) : file_(std::move(file)) {
    // Once more where the file was removed between our opening and locking it, or was left by a
    // process that is gone.
    while (!lock(work)) {
    }
}

bool WorkLock::lock(const std::string& work) {
    constexpr int flags = O_RDWR | O_CREAT | O_CLOEXEC;
    descriptor_ = open(file_.c_str(), flags | O_EXCL, 0666);
    const bool made = descriptor_ >= 0;
    if (!made && errno == EEXIST) descriptor_ = open(file_.c_str(), flags, 0666);
    if (descriptor_ < 0) throw_failed(file_);
    const bool locked = flock(descriptor_, LOCK_EX | LOCK_NB) == 0;
    const bool elsewhere = !locked && (errno == EWOULDBLOCK || errno == EINTR);
    if (locked ? same_file(descriptor_, file_) : made) return sign();
    const std::string holder = content_of(descriptor_);
    close(std::exchange(descriptor_, -1));
    if (elsewhere) throw_held(work, holder, file_, "");
    if (locked) return false;
    if (!is_dead(holder))
        throw_held(work, holder, file_, ", or delete this file where it no longer runs");
    unlink(file_.c_str());
    return false;
}

bool WorkLock::sign() {
    const std::string name = own_name() + "\n";
    if (ftruncate(descriptor_, 0) == 0 &&
        pwrite(descriptor_, name.data(), name.size(), 0) == static_cast<ssize_t>(name.size()))
        return true;
    const int number = errno;
    close(std::exchange(descriptor_, -1));
    errno = number;
    throw_failed(file_);
}

WorkLock::WorkLock(WorkLock&& other) noexcept
    : file_(std::move(other.file_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

WorkLock::~WorkLock() {
    if (descriptor_ < 0) return;
    std::error_code ignored;
    fs::remove(file_, ignored);
    close(descriptor_);
}

}  // namespace deeplab::preprocess
