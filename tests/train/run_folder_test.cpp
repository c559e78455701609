#include "deeplab/train/run_folder.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "harness/temp_dir.h"

namespace deeplab::train {
namespace {

using deeplab::testing::TempDir;
namespace fs = std::filesystem;

io::Object train_line(std::int64_t step, double loss) {
    io::Object line;
    line["step"] = step;
    line["loss"] = loss;
    return line;
}

io::Object evaluation_line(std::int64_t step, double miou) {
    io::Object line;
    line["step"] = step;
    line["split"] = "val";
    line["miou"] = miou;
    return line;
}

TEST(Metrics, AfterAResumeThereAreNoLaterStepsAndNoDuplicates) {
    const TempDir dir;
    const fs::path file = dir / "metrics.jsonl";
    {
        MetricsLog log(file, 0);
        log.append(train_line(10, 1.5));
        log.append(train_line(20, 1.25));
        log.append(evaluation_line(20, 0.5));
        log.append(train_line(30, 1.0));
    }
    std::ofstream(file, std::ios::app) << "{\"step\": 40, \"lo";  // killed within the line
    {
        MetricsLog log(file, 20);
        EXPECT_EQ(log.miou(20), 0.5);
        EXPECT_FALSE(log.miou(30).has_value());
        log.append(train_line(30, 2.0));
    }
    EXPECT_EQ(split(trim(read_text(file)), '\n'),
              (std::vector<std::string>{
                  io::to_json(train_line(10, 1.5)), io::to_json(train_line(20, 1.25)),
                  io::to_json(evaluation_line(20, 0.5)), io::to_json(train_line(30, 2.0))}));
    { const MetricsLog log(file, 0); }
    EXPECT_EQ(read_text(file), "");
}

// A limit of the file's size stands for a full disk: both refuse a part of a line.
TEST(Metrics, LinesThatFoundNoRoomAreWrittenWhenThereIsSome) {
    const TempDir dir;
    const fs::path file = dir / "metrics.jsonl";
    MetricsLog log(file, 0);
    log.append(train_line(1, 1.5));
    const std::string first = read_text(file);
    rlimit before{};
    ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit full{.rlim_cur = first.size() + 5, .rlim_max = before.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &full), 0);
    EXPECT_THROW(log.append(train_line(2, 1.25)), DeviceError);
    EXPECT_THROW(log.append(evaluation_line(2, 0.5)), DeviceError);
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
    std::signal(SIGXFSZ, handler);
    EXPECT_EQ(read_text(file), first) << "no part of a line";
    EXPECT_EQ(log.miou(2), 0.5);
    log.flush();
    EXPECT_EQ(read_text(file), first + io::to_json(train_line(2, 1.25)) + "\n" +
                                   io::to_json(evaluation_line(2, 0.5)) + "\n");
}

TEST(Checkpoints, LinksAreReplacedAndOldFilesRemoved) {
    const TempDir dir;
    fs::create_directories(dir / "checkpoints");
    EXPECT_FALSE(latest_checkpoint(dir.path()).has_value());
    for (const std::int64_t step : {100, 200, 300, 400}) {
        const fs::path file = checkpoint_path(dir.path(), step);
        std::ofstream(file) << step;
        link_checkpoint(file, "latest.h5");
        if (step == 100) link_checkpoint(file, "best.h5");
        prune_checkpoints(dir.path(), 2, {});
    }
    std::ofstream(dir / "checkpoints/step-0000500.h5.tmp-1-0") << "left over";
    remove_leftovers(dir.path());
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(dir / "checkpoints"))
        names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    EXPECT_EQ(names, (std::vector<std::string>{"best.h5", "latest.h5", "step-0000100.h5",
                                               "step-0000300.h5", "step-0000400.h5"}));
    EXPECT_EQ(fs::read_symlink(dir / "checkpoints/latest.h5"), "step-0000400.h5");
    EXPECT_EQ(latest_checkpoint(dir.path())->filename(), "step-0000400.h5");
    fs::remove(dir / "checkpoints/step-0000400.h5");  // a dangling link
    EXPECT_EQ(latest_checkpoint(dir.path())->filename(), "step-0000300.h5");
}

std::string refusal(const fs::path& run, std::chrono::milliseconds heartbeat) {
    try {
        const RunLock lock(run, heartbeat);
    } catch (const UsageError& error) {
        return error.what();
    }
    return "";
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
