#include "deeplab/base/files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <iterator>

#include "deeplab/base/error.h"
#include "harness/messages.h"
#include "harness/sanitizers.h"
#include "harness/temp_dir.h"

namespace fs = std::filesystem;

namespace deeplab {
namespace {

using testing::TempDir;

std::size_t entries(const fs::path& dir) {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(dir), fs::directory_iterator()));
}

void write(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }

// A soft limit of this process while an object lives.
class Limited {
public:
    Limited(decltype(RLIMIT_FSIZE) what, rlim_t value) : what_(what) {
        getrlimit(what, &before_);
        const rlimit now{.rlim_cur = value, .rlim_max = before_.rlim_max};
        EXPECT_EQ(setrlimit(what, &now), 0);
    }
    ~Limited() { setrlimit(what_, &before_); }
    Limited(const Limited&) = delete;
    Limited& operator=(const Limited&) = delete;

private:
    decltype(RLIMIT_FSIZE) what_;
    rlimit before_{};
};

TEST(Files, TheSystemsLimitsAreNamed) {
    const TempDir dir;
    write(dir / "there", "text");
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    std::string large;
    {
        const Limited size(RLIMIT_FSIZE, 100);
        large = testing::message_of<DeviceError>(
            [&] { write_atomically(dir / "large", std::string(1000, 'x')); });
    }
    std::signal(SIGXFSZ, handler);
    EXPECT_NE(large.find("File too large"), std::string::npos) << large;
    EXPECT_NE(large.find("ulimit -f"), std::string::npos) << large;
    EXPECT_EQ(entries(dir.path()), 1u) << "nothing of it is left";
}

TEST(Files, TheLimitOfOpenFilesIsNamed) {
    DEEPLAB_SKIP_UNDER_SANITIZERS();
    const TempDir dir;
    write(dir / "there", "text");
    const int next = open("/dev/null", O_RDONLY | O_CLOEXEC);  // the lowest free number
    close(next);
    const Limited files(RLIMIT_NOFILE, static_cast<rlim_t>(next));
    for (const std::string& message :
         {testing::message_of<DeviceError>([&] { read_text(dir / "there"); }),
          testing::message_of<DeviceError>([&] { read_bytes(dir / "there"); }),
          testing::message_of<DeviceError>([&] { write_atomically(dir / "more", "text"); }),
          testing::message_of<DeviceError>([&] { require_writable_directory(dir.path()); })})
        EXPECT_NE(message.find("ulimit -n"), std::string::npos) << message;
}

TEST(AtomicFile, AppearsUnderItsNameAtCommitOnly) {
    const TempDir dir;
    write(dir / "a.txt", "old");
    AtomicFile file(dir / "a.txt");
    EXPECT_EQ(file.path().parent_path(), dir.path()) << "rename needs the same file system";
    write(file.path(), "new");
    EXPECT_EQ(read_text(dir / "a.txt"), "old");
    file.commit();
    EXPECT_EQ(read_text(dir / "a.txt"), "new");
    EXPECT_EQ(entries(dir.path()), 1u);
}

TEST(AtomicFile, WithoutCommitLeavesWhatWasThere) {
    const TempDir dir;
    write(dir / "a.txt", "old");
    {
        const AtomicFile file(dir / "a.txt");
        write(file.path(), "half");
    }
    EXPECT_EQ(read_text(dir / "a.txt"), "old");
    EXPECT_EQ(entries(dir.path()), 1u);
}

TEST(AtomicFile, TwoWritersOfOneNameDoNotMeet) {
    const TempDir dir;
    AtomicFile first(dir / "a.txt"), second(dir / "a.txt");
    EXPECT_NE(first.path(), second.path());
}

TEST(AtomicFile, CommitOfNothingNamesThePath) {
    const TempDir dir;
    AtomicFile file(dir / "a.txt");
    try {
        file.commit();
        FAIL() << "nothing was written";
    } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("a.txt"), std::string::npos) << error.what();
    }
}

TEST(Files, WriteAtomicallyIntoAMissingFolderIsAUsageError) {
    const TempDir dir;
    EXPECT_THROW(write_atomically(dir / "none/a.txt", "x"), UsageError);
    EXPECT_EQ(entries(dir.path()), 0u);
    write_atomically(dir / "a.txt", std::string_view("a\0b", 3));
    EXPECT_EQ(read_text(dir / "a.txt"), std::string("a\0b", 3));
}

TEST(Files, UnreadableFilesAreNamed) {
    const TempDir dir;
    EXPECT_THROW(read_text(dir / "none"), UsageError);
    EXPECT_THROW(read_bytes(dir / "none"), DataError);
    EXPECT_THROW(read_text(dir.path()), UsageError) << "a folder is no file";
    write(dir / "empty", "");
    EXPECT_EQ(read_text(dir / "empty"), "");
    EXPECT_TRUE(read_bytes(dir / "empty").empty());
    try {
        read_bytes(dir / "none");
    } catch (const DataError& error) {
        EXPECT_NE(std::string(error.what()).find((dir / "none").string()), std::string::npos);
        EXPECT_NE(std::string(error.what()).find("No such file"), std::string::npos)
            << error.what();
    }
}

TEST(Files, WritableDirectoryIsProvedAndLeftEmpty) {
    const TempDir dir;
    require_writable_directory(dir / "a/b/c");
    EXPECT_TRUE(fs::is_directory(dir / "a/b/c"));
    EXPECT_EQ(entries(dir / "a/b/c"), 0u);
    write(dir / "file", "");
    EXPECT_THROW(require_writable_directory(dir / "file"), UsageError);
    EXPECT_THROW(require_writable_directory(dir / "file/below"), UsageError);
    EXPECT_THROW(require_writable_directory("/proc/deeplab"), UsageError)
        << "even root cannot write there";
}

// The check value of CRC-32/ISO-HDLC, which zlib and PNG use.
TEST(Files, AdviceFitsTheReason) {
    const auto advises = [](int number, const char* text) {
        return write_advice(std::strerror(number)).find(text) != std::string::npos;
    };
    EXPECT_TRUE(advises(ENOSPC, "make room"));
    EXPECT_TRUE(advises(EFBIG, "ulimit -f"));
    EXPECT_TRUE(advises(EMFILE, "ulimit -n"));
    EXPECT_TRUE(advises(EACCES, "can be written"));
    EXPECT_TRUE(is_machines_failure(EMFILE));
    EXPECT_FALSE(is_machines_failure(ENOENT));
}

TEST(Files, Crc32OfTheCheckText) {
    const std::string text = "123456789";
    const std::span bytes(reinterpret_cast<const unsigned char*>(text.data()), text.size());
    EXPECT_EQ(crc32(bytes), 0xCBF43926u);
    EXPECT_EQ(crc32(bytes.subspan(4), crc32(bytes.first(4))), crc32(bytes));
    EXPECT_EQ(crc32({}), 0u);
}

// As root, --json /dev/null would take the device away from everybody.
TEST(Files, ADeviceOrPipeIsWrittenAndNotReplaced) {
    const testing::TempDir dir;
    const fs::path pipe = dir / "pipe";
    ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
    const int reader = open(pipe.c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_GE(reader, 0);
    write_atomically(pipe, "text");
    EXPECT_TRUE(fs::is_fifo(pipe));
    if (fs::is_fifo(pipe)) {
        char text[5] = {};
        EXPECT_EQ(read(reader, text, 4), 4);
        EXPECT_STREQ(text, "text");
    }
    { const AtomicFile left(pipe); }  // never committed
    EXPECT_TRUE(fs::is_fifo(pipe));
    close(reader);
}

}  // namespace
}  // namespace deeplab
