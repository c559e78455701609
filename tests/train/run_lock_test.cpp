#include "deeplab/train/run_lock.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "harness/messages.h"
#include "harness/temp_dir.h"

namespace deeplab::train {
namespace {

using deeplab::testing::TempDir;
namespace fs = std::filesystem;

std::string refusal(const fs::path& run, std::chrono::milliseconds heartbeat) {
    return testing::message_of<UsageError>([&] { const RunLock lock(run, heartbeat); });
}

constexpr std::chrono::milliseconds quick{40};

TEST(Lock, ALiveOwnerIsNamed) {
    const TempDir dir;
    {
        const RunLock lock(dir.path());
        const std::string message = refusal(dir.path(), quick);
        EXPECT_NE(message.find(cat("host ", log::host(), ", pid ", getpid(), ", job ")),
                  std::string::npos)
            << message;
    }
    EXPECT_FALSE(fs::exists(dir / "lock"));
    EXPECT_EQ(refusal(dir.path(), quick), "");
}

TEST(Lock, ADeadOwnersLockIsTakenOver) {
    const TempDir dir;
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        new RunLock(dir.path());
        _exit(0);  // as if killed: nothing is removed
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_NE(read_text(dir / "lock").find(std::to_string(child)), std::string::npos);
    const RunLock lock(dir.path());
    EXPECT_NE(read_text(dir / "lock").find(std::to_string(getpid())), std::string::npos);
}

TEST(Lock, OnAnotherHostTheHeartbeatDecides) {
    const TempDir dir;
    const auto write = [&] {
        std::ofstream(dir / "lock") << R"({"host":"elsewhere","pid":1,"job":"77"})";
    };
    write();
    EXPECT_EQ(refusal(dir.path(), quick), "") << "no heartbeat: dead";
    write();
    std::atomic<bool> leave{false};
    std::thread owner([&] {
        while (!leave) {
            fs::last_write_time(dir / "lock", fs::file_time_type::clock::now());
            std::this_thread::sleep_for(quick / 4);
        }
    });
    const std::string message = refusal(dir.path(), quick);
    leave = true;
    owner.join();
    EXPECT_NE(message.find("host elsewhere, pid 1, job 77"), std::string::npos) << message;
}

TEST(Lock, TheSameJobRequeuedElsewhereGoesOnAtOnce) {
    const TempDir dir;
    std::ofstream(dir / "lock") << R"({"host":"elsewhere","pid":1,"job":"77"})";
    setenv("SLURM_JOB_ID", "77", 1);
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(refusal(dir.path(), std::chrono::seconds(10)), "");
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
    unsetenv("SLURM_JOB_ID");
}

}  // namespace
}  // namespace deeplab::train
