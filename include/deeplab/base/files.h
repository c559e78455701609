#pragma once
// Files that appear whole or not at all.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <iosfwd>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace deeplab {

// Owns a temporary name next to `target`; commit() makes it durable under the final name (fsync,
// rename, fsync of the directory). A writer that goes away without commit() leaves `target` as it
// was and removes the temporary file.
// Devices, pipes and what stands in /dev are written in place.
class AtomicFile {
public:
    explicit AtomicFile(std::filesystem::path target);
    ~AtomicFile();
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;

    const std::filesystem::path& path() const {
        return temporary_;
    }               // write here, close it, then commit()
    void commit();  // throws Error naming the path

private:
    std::filesystem::path target_, temporary_;
    bool committed_ = false;
};

// What a user can do about a write that failed, by the system's text of the reason
// (std::strerror): a full disk, a limit of size (ulimit -f), or else rights.
std::string write_advice(const std::string& reason);
// Whether errno `number` tells of the machine and not of a path or its content: too many open files
// (ulimit -n), a broken disk, no memory. The second throws the DeviceError that says so.
bool is_machines_failure(int number);
[[noreturn]] void throw_machines_failure(const std::string& action,
                                         const std::filesystem::path& path, int number);

std::string read_text(const std::filesystem::path& path);  // throws UsageError when unreadable
std::vector<unsigned char> read_bytes(
    const std::filesystem::path& path);  // throws DataError when unreadable
// Creates or empties `path` and writes all of `bytes`, not atomically. Error naming the path: a
// DeviceError when the disk is full or broken, else a UsageError.
void write_bytes(const std::filesystem::path& path, std::span<const unsigned char> bytes);
void write_atomically(const std::filesystem::path& path, std::string_view text);
// The same with what `write` puts into the stream.
void write_atomically(const std::filesystem::path& path,
                      const std::function<void(std::ostream&)>& write);

// Creates `dir` (and parents) and proves that a file can be written there; UsageError otherwise.
void require_writable_directory(const std::filesystem::path& dir);

// CRC-32 as in zlib (polynomial 0xEDB88320).
std::uint32_t crc32(std::span<const unsigned char> bytes, std::uint32_t seed = 0);

}  // namespace deeplab
