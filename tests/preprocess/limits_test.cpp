// The system's limits, as a user meets them while packing: exit codes and messages.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "deeplab/base/log.h"
#include "harness/process.h"
#include "harness/sanitizers.h"
#include "own_folder.h"
#include "work_lock.h"

namespace fs = std::filesystem;

namespace deeplab::preprocess {
namespace {

using namespace deeplab::testing;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Strings = std::vector<std::string>;

class Limits : public OwnFolder {
protected:
    Limits() {
        std::string ids;
        for (int i = 0; i < 12; ++i) {
            pair(cat("p", i));
            ids += cat("p", i, "\n");
        }
        list(ids);
    }

    Strings command(const Strings& more = {}) const {
        Strings all = {program("deeplab-pack"),  "--images", options.images.string(), "--masks",
                       options.masks.string(),   "--list",   options.list.string(),   "--classes",
                       options.classes.string(), "--out",    options.out.string()};
        all.insert(all.end(), more.begin(), more.end());
        return all;
    }
    // Under a shell that runs `before` first.
    ProcessResult limited(const std::string& before, const Strings& more = {},
                          const std::string& after = "") const {
        Strings all = {"bash", "-c", before + "; \"$@\"" + after, "pack"};
        const Strings own = command(more);
        all.insert(all.end(), own.begin(), own.end());
        return run_process(all);
    }
    bool only_whole_files() const {
        for (const auto& entry : fs::directory_iterator(options.out))
            if (entry.path().string().find(".tmp-") != std::string::npos ||
                entry.path().extension() == ".lock")
                return false;
        return true;
    }
};

TEST_F(Limits, AFileSizeLimitIsNamedBeforeAndWhileWriting) {
    // 12 records of about 550 bytes: more than 4 KiB in one shard.
    const auto before = limited("ulimit -f 4");
    EXPECT_EQ(before.exit_code, 4) << before.both();
    EXPECT_THAT(before.err, AllOf(HasSubstr("ulimit -f"), HasSubstr("--shards N")));
    // Of a shard's own tables the packer knows nothing: the system says it.
    const auto during = limited("ulimit -f 1", {"--shards", "12"});
    EXPECT_EQ(during.exit_code, 4) << during.both();
    EXPECT_THAT(during.err, AllOf(HasSubstr("File too large"), HasSubstr("ulimit -f unlimited")));
    EXPECT_FALSE(fs::exists(options.out / "train.json"));
    EXPECT_TRUE(only_whole_files());
    ASSERT_EQ(limited("true").exit_code, 0);
    EXPECT_EQ(verify(options.out, *comm), 0);
}

TEST_F(Limits, TooManyOpenFilesAreNoBadRecords) {
    DEEPLAB_SKIP_UNDER_SANITIZERS();
    const auto without_files = [&] {
        while (open("/dev/null", O_RDONLY) >= 0) {
        }
        try {
            static_cast<void>(pack(options, *comm));
        } catch (const Error& error) {
            std::fputs(error.what(), stderr);
            std::_Exit(static_cast<int>(error.code()));
        }
        std::_Exit(0);
    };
    EXPECT_EXIT(without_files(), ::testing::ExitedWithCode(4), "Too many open files.*ulimit -n");
}

TEST_F(Limits, ALogThatNobodyReadsDoesNotEndThePack) {
    const auto result = limited("set -o pipefail", {"--shards", "12"}, " 2>&1 | true");
    EXPECT_EQ(result.exit_code, 0) << result.both();
    EXPECT_EQ(verify(options.out, *comm), 0);
}

TEST_F(Limits, TwoPacksAtOnceDoNotMix) {
    fs::create_directories(options.out);
    {
        const WorkLock held(options.out / "train.lock", "split train");
        const auto second = run_process(command());
        EXPECT_EQ(second.exit_code, 2) << second.both();
        EXPECT_THAT(second.err, AllOf(HasSubstr("another deeplab-pack is at work on split train"),
                                      HasSubstr(cat("process ", getpid(), " on ", log::host()))));
        EXPECT_TRUE(fs::exists(options.out / "train.lock"));
        EXPECT_EQ(run_process(command({"--split", "val"})).exit_code, 0);  // another split may
    }
    ASSERT_EQ(run_process(command()).exit_code, 0);
    EXPECT_TRUE(only_whole_files());
}

TEST_F(Limits, AKilledPackLeavesNoLock) {
    fs::create_directories(options.out);
    const fs::path file = options.out / "train.lock";
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        const WorkLock held(file, "split train");
        kill(getpid(), SIGKILL);
    }
    waitpid(child, nullptr, 0);
    ASSERT_TRUE(fs::exists(file));
    const auto result = run_process(command());
    EXPECT_EQ(result.exit_code, 0) << result.both();
    EXPECT_TRUE(only_whole_files());
}

// Without flock (Lustre without -o flock, some NFS) the file itself is the lock.
TEST_F(Limits, WithoutFlockThePackIsTheSame) {
    DEEPLAB_SKIP_UNDER_SANITIZERS();
    write_atomically(dir / "none.c",
                     "#include <"
                     "errno.h>\n"
                     "int flock(int a, int b) { (void)a; (void)b; errno = ENOLCK; return -1; }\n");
    const std::string library = (dir / "none.so").string();
    if (run_process({"cc", "-shared", "-fPIC", "-o", library, (dir / "none.c").string()})
            .exit_code != 0)
        GTEST_SKIP() << "skipped: no C compiler";
    const ProcessOptions without{{"LD_PRELOAD=" + library, "HDF5_USE_FILE_LOCKING=TRUE"}, "", 120};
    const auto result = run_process(command(), without);
    ASSERT_EQ(result.exit_code, 0) << result.both();
    EXPECT_TRUE(only_whole_files());
    const auto again = [&](const std::string& holder) {
        write_atomically(options.out / "train.lock", holder);
        return run_process(command({"--force"}), without);
    };
    const auto alive = again(cat(log::host(), " ", getpid(), "\n"));
    EXPECT_EQ(alive.exit_code, 2) << alive.both();
    EXPECT_THAT(alive.err, HasSubstr("or delete this file"));
    EXPECT_EQ(again("another-host 17\n").exit_code, 2);
    const pid_t gone = fork();
    if (gone == 0) _exit(0);
    waitpid(gone, nullptr, 0);
    EXPECT_EQ(again(cat(log::host(), " ", gone, "\n")).exit_code, 0);
    EXPECT_TRUE(only_whole_files());
}

TEST_F(Limits, AFolderThatCannotBeWrittenIsNamed) {
    write_atomically(dir / "file", "");
    options.out = dir / "file" / "shards";
    const auto result = run_process(command());
    EXPECT_EQ(result.exit_code, 2) << result.both();
    EXPECT_THAT(result.err, HasSubstr(options.out.string()));
}

}  // namespace
}  // namespace deeplab::preprocess
