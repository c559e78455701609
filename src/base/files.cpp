#include "deeplab/base/files.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <system_error>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"

namespace fs = std::filesystem;

namespace deeplab {
namespace {

fs::path temporary_name(const fs::path& target) {
    static std::atomic<unsigned> counter{0};
    fs::path name = target;
    name += cat(".tmp-", getpid(), "-", counter++);
    return name;
}

// Devices and pipes, and what /dev names (/dev/stdout): a file in their place would be damage.
bool is_written_in_place(const fs::path& target) {
    std::error_code ignored;
    const fs::file_status status = fs::status(target, ignored);
    return fs::is_other(status) || (fs::exists(status) && target.parent_path() == "/dev");
}

fs::path parent_of(const fs::path& path) {
    return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

// A full or broken disk and the process's limits are the machine's failure; anything else is a path
// that the user has to change.
[[noreturn]] void throw_write_error(const fs::path& path, const char* what, int number) {
    const std::string text = cat("cannot ", what, " ", path.string(), ": ", std::strerror(number));
    if (number == ENOSPC || number == EDQUOT || number == EFBIG || is_machines_failure(number)) {
        throw DeviceError(cat(text, " — the output is not complete and was not put in place — ",
                              write_advice(std::strerror(number))));
    }
    throw UsageError(text +
                     " — the output cannot be stored there — choose a folder that can be written");
}

void sync_path(const fs::path& path, int flags, const char* what) {
    const int file = open(path.c_str(), flags | O_CLOEXEC);
    if (file < 0) throw_write_error(path, what, errno);
    const int result = fsync(file);
    const int number = errno;
    close(file);
    // Some network file systems do not offer fsync of a folder; there is nothing better to do
    // there.
    if (result != 0 && number != EINVAL && number != ENOTSUP) throw_write_error(path, what, number);
}

// errno text of a failed read, or "" when `path` was read into `content`. DeviceError where it is
// not the file that is at fault.
template <class Container>
std::string read_into(const fs::path& path, Container& content) {
    std::error_code ignored;
    if (fs::is_directory(path, ignored)) return "it is a folder";
    errno = 0;
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file && is_machines_failure(errno)) throw_machines_failure("read", path, errno);
    if (!file) return errno != 0 ? std::strerror(errno) : "cannot be opened";
    const std::streamoff size = file.tellg();
    if (size >= 0 && file.seekg(0)) {
        content.resize(static_cast<std::size_t>(size));
        file.read(reinterpret_cast<char*>(content.data()), size);
        if (file.gcount() == size) return "";
    }
    if (is_machines_failure(errno)) throw_machines_failure("read", path, errno);
    return errno != 0 ? std::strerror(errno) : "it ended early";
}

}  // namespace

AtomicFile::AtomicFile(fs::path target)
    : target_(std::move(target)),
      temporary_(is_written_in_place(target_) ? target_ : temporary_name(target_)) {}

AtomicFile::~AtomicFile() {
    std::error_code ignored;
    if (!committed_ && temporary_ != target_) fs::remove(temporary_, ignored);
}

void AtomicFile::commit() {
    expects(!committed_, "AtomicFile::commit is called once");
    if (temporary_ == target_) {
        committed_ = true;
        return;
    }
    sync_path(temporary_, O_RDONLY, "write");
    if (std::rename(temporary_.c_str(), target_.c_str()) != 0)
        throw_write_error(target_, "write", errno);
    committed_ = true;
    sync_path(parent_of(target_), O_RDONLY | O_DIRECTORY, "write into");
}

std::string write_advice(const std::string& reason) {
    const auto is = [&](int number) { return reason == std::strerror(number); };
    if (is(ENOSPC) || is(EDQUOT)) return "make room and run again";
    if (is(EFBIG))
        return "a file may not be that large here: raise the limit (ulimit -f unlimited), or "
               "choose another file system";
    if (is(EMFILE) || is(ENFILE)) return "raise the limit of open files (ulimit -n) and run again";
    return "check that the disk has room and the folder can be written";
}

bool is_machines_failure(int number) {
    return number == EMFILE || number == ENFILE || number == EIO || number == ENOMEM;
}

void throw_machines_failure(const std::string& action, const fs::path& path, int number) {
    throw DeviceError(cat("cannot ", action, " ", path.string(), ": ", std::strerror(number),
                          " — the work cannot go on — ",
                          number == EMFILE || number == ENFILE
                              ? "raise the limit of open files (ulimit -n)"
                              : "check disk and memory of this machine"));
}

std::string read_text(const fs::path& path) {
    std::string text;
    const std::string problem = read_into(path, text);
    if (!problem.empty()) {
        throw UsageError(cat("cannot read ", path.string(), ": ", problem,
                             " — it was named as an input — check the path and its permissions"));
    }
    return text;
}

std::vector<unsigned char> read_bytes(const fs::path& path) {
    std::vector<unsigned char> bytes;
    const std::string problem = read_into(path, bytes);
    if (!problem.empty()) {
        throw DataError(
            cat("cannot read ", path.string(), ": ", problem,
                " — it is needed as it was named — check the path, its permissions and the file "
                "system"));
    }
    return bytes;
}

void write_bytes(const fs::path& path, std::span<const unsigned char> bytes) {
    const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0) throw_write_error(path, "write", errno);
    int number = 0;
    while (!bytes.empty() && number == 0) {
        const ssize_t written = write(file, bytes.data(), bytes.size());
        if (written > 0) bytes = bytes.subspan(static_cast<std::size_t>(written));
        if (written == 0) number = EIO;
        if (written < 0 && errno != EINTR) number = errno;
    }
    // Some file systems tell of a full disk only here.
    if (close(file) != 0 && number == 0) number = errno;
    if (number != 0) throw_write_error(path, "write", number);
}

void write_atomically(const fs::path& path, std::string_view text) {
    AtomicFile file(path);
    write_bytes(file.path(), {reinterpret_cast<const unsigned char*>(text.data()), text.size()});
    file.commit();
}

void write_atomically(const fs::path& path, const std::function<void(std::ostream&)>& write) {
    AtomicFile file(path);
    errno = 0;
    std::ofstream out(file.path(), std::ios::binary);
    write(out);
    out.close();
    if (!out) throw_write_error(path, "write", errno != 0 ? errno : EIO);
    file.commit();
}

void require_writable_directory(const fs::path& dir) {
    std::error_code problem;
    fs::create_directories(dir, problem);
    if (problem) throw_write_error(dir, "create the folder", problem.value());
    if (!fs::is_directory(dir, problem)) throw_write_error(dir, "write into", ENOTDIR);
    const fs::path probe = temporary_name(dir / ".deeplab-probe");
    const int file = open(probe.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    const bool written = file >= 0 && write(file, "x", 1) == 1;
    const int number = errno;
    if (file >= 0) {
        close(file);
        unlink(probe.c_str());
    }
    if (!written && (number == EMFILE || number == ENFILE))
        throw_write_error(dir, "write into", number);
    if (!written) {
        throw UsageError(cat("cannot write into ", dir.string(), ": ", std::strerror(number),
                             " — the output belongs there — choose a folder that can be written"));
    }
}

std::uint32_t crc32(std::span<const unsigned char> bytes, std::uint32_t seed) {
    return static_cast<std::uint32_t>(::crc32_z(seed, bytes.data(), bytes.size()));
}

}  // namespace deeplab
