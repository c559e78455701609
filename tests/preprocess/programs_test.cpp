// The programs as a user runs them: ranks, exit codes, messages, and what a killed one leaves.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <thread>

#include "deeplab/base/error.h"
#include "harness/process.h"
#include "harness/temp_dir.h"
#include "pack.h"
#include "voc_folder.h"

namespace fs = std::filesystem;

namespace deeplab::preprocess {
namespace {

using namespace deeplab::testing;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;

std::map<std::string, std::vector<unsigned char>> contents(const fs::path& dir) {
    std::map<std::string, std::vector<unsigned char>> files;
    for (const auto& entry : fs::directory_iterator(dir))
        files[entry.path().filename().string()] = read_bytes(entry.path());
    return files;
}

TEST(PackProgram, OneTwoAndThreeRanksWriteTheSameBytes) {
    if (!have_mpirun()) GTEST_SKIP() << "skipped: no mpirun";
    const TempDir dir;
    VocFolder voc(dir.path());
    voc.fill(17);
    std::vector<std::map<std::string, std::vector<unsigned char>>> results;
    std::vector<std::string> summaries;
    for (const int ranks : {1, 2, 3}) {
        const fs::path out = dir / cat("out", ranks);
        const auto result = run_process(
            with_ranks(ranks, {program("deeplab-pack"), "--voc", dir.path().string(), "--split",
                               "val", "--shards", "4", "--out", out.string()}));
        ASSERT_EQ(result.exit_code, 0) << result.both();
        EXPECT_THAT(result.err, HasSubstr("packed 17 images"));
        const auto first = result.err.find("classes of split val: 17 images");
        ASSERT_NE(first, std::string::npos) << result.err;
        summaries.push_back(result.err.substr(first, result.err.find("writing") - first));
        results.push_back(contents(out));
        EXPECT_EQ(results.back().size(), 5u);  // 4 shards and the manifest
        const auto checked = run_process(
            with_ranks(ranks, {program("deeplab-pack"), "verify", out.string()}));
        EXPECT_EQ(checked.exit_code, 0) << checked.both();
    }
    EXPECT_EQ(results[0], results[1]);
    EXPECT_EQ(results[0], results[2]);
    EXPECT_EQ(summaries[0], summaries[1]);
    EXPECT_EQ(summaries[0], summaries[2]);
}

TEST(PackProgram, TheFindingsOfAllRanksAreOneTable) {
    if (!have_mpirun()) GTEST_SKIP() << "skipped: no mpirun";
    const TempDir dir;
    VocFolder voc(dir.path());
    const auto ids = voc.fill(9);
    for (const std::size_t i : {1u, 3u, 6u}) fs::remove(voc.image(ids[i]));
    const auto result = run_process(
        with_ranks(3, {program("deeplab-pack"), "--voc", dir.path().string(), "--split", "val",
                       "--out", (dir / "out").string()}));
    EXPECT_EQ(result.exit_code, 3) << result.both();
    const std::string text = result.both();
    EXPECT_THAT(text, HasSubstr("3 problems"));
    EXPECT_EQ(text.find("3 problems"), text.rfind("3 problems"));  // said once
    EXPECT_LT(text.find(ids[1] + " "), text.find(ids[3] + " "));   // in list order
    EXPECT_FALSE(fs::exists(dir / "out" / "val.json"));
}

TEST(PackProgram, WrongCommandLinesExitWithTwo) {
    const TempDir dir;
    const auto run = [&](std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), program("deeplab-pack"));
        const auto result = run_process(arguments);
        return cat(result.exit_code, " ", result.both());
    };
    EXPECT_THAT(run({"--shard", "3"}), AllOf(HasSubstr("2 "), HasSubstr("--shards")));
    EXPECT_THAT(run({"--voc", "x", "--split", "val"}), AllOf(HasSubstr("2 "), HasSubstr("--out")));
    EXPECT_THAT(run({"--voc", "/nowhere", "--split", "val", "--out", (dir / "o").string()}),
                AllOf(HasSubstr("2 "), HasSubstr("/nowhere")));
    EXPECT_THAT(run({"--encoding", "sauce"}), AllOf(HasSubstr("2 "), HasSubstr("source")));
    EXPECT_THAT(run({"verify"}), HasSubstr("2 "));
    EXPECT_THAT(run({"--help"}),
                AllOf(HasSubstr("0 "), HasSubstr("--missing"), HasSubstr("Example")));
    EXPECT_FALSE(fs::exists(dir / "o"));
}

TEST(MakeShapesProgram, DrawsWhatThePackerTakes) {
    const TempDir dir;
    const std::string data = (dir / "data").string();
    auto result = run_process({program("deeplab-make-shapes"), "--out", data, "--train", "4",
                               "--val", "2", "--size", "64x48"});
    ASSERT_EQ(result.exit_code, 0) << result.both();
    result = run_process({program("deeplab-pack"), "--voc", data, "--split", "val", "--classes",
                          data + "/classes.toml", "--out", (dir / "shards").string()});
    ASSERT_EQ(result.exit_code, 0) << result.both();
    data::ShardSet set(dir / "shards", "val");
    EXPECT_EQ(set.size(), 2);
    EXPECT_EQ(set.read(0).width, 64);
    EXPECT_EQ(set.read(0).height, 48);
    result = run_process({program("deeplab-make-shapes"), "--out", data});
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.err, HasSubstr("exists"));
}

TEST(PackProgram, KilledItLeavesNothingThatLooksFinished) {
    const TempDir dir;
    VocFolder voc(dir.path());
    voc.fill(300);
    const fs::path out = dir / "out";
    std::vector<std::string> arguments = {program("deeplab-pack"),
                                          "--voc",
                                          dir.path().string(),
                                          "--split",
                                          "val",
                                          "--shards",
                                          "300",
                                          "--out",
                                          out.string()};
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        std::vector<char*> argv;
        for (std::string& argument : arguments) argv.push_back(argument.data());
        argv.push_back(nullptr);
        execv(argv[0], argv.data());
        _exit(127);
    }
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!fs::exists(out / "val-00003-of-00300.h5") && std::chrono::steady_clock::now() < end)
        std::this_thread::sleep_for(std::chrono::microseconds(200));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "it ended before it was killed";
    EXPECT_TRUE(fs::exists(out / "val-00003-of-00300.h5"));
    EXPECT_FALSE(fs::exists(out / "val.json"));
    EXPECT_THROW(data::ShardSet(out, "val"), DataError);

    // The same command again keeps the finished shards and leaves what a run without a kill leaves.
    const auto first = out / "val-00000-of-00300.h5";
    const auto written = fs::last_write_time(first);
    auto result = run_process(arguments);
    ASSERT_EQ(result.exit_code, 0) << result.both();
    EXPECT_THAT(result.err, ContainsRegex("kept [0-9]+ of 300 shards"));
    EXPECT_EQ(fs::last_write_time(first), written);
    arguments.back() = (dir / "other").string();
    result = run_process(arguments);
    ASSERT_EQ(result.exit_code, 0) << result.both();
    EXPECT_EQ(contents(out), contents(dir / "other"));
}

TEST(PackProgram, WhatAnEarlierPackLeftIsKeptOnlyIfItIsTheSame) {
    const TempDir dir;
    VocFolder voc(dir.path());
    const auto ids = voc.fill(12);
    const fs::path out = dir / "out";
    const std::vector<std::string> arguments = {program("deeplab-pack"),
                                                "--voc",
                                                dir.path().string(),
                                                "--split",
                                                "val",
                                                "--shards",
                                                "4",
                                                "--out",
                                                out.string()};
    ASSERT_EQ(run_process(arguments).exit_code, 0);
    const auto complete = contents(out);
    const auto shard = [&](int s) { return out / data::shard_name("val", s, 4); };
    fs::remove(out / "val.json");
    // One flipped bit in the pixels, another in the tables' ids, a file cut short.
    auto bytes = complete.at(shard(1).filename().string());
    bytes[bytes.size() - 30] ^= 1;
    put(shard(1), bytes);
    bytes = complete.at(shard(2).filename().string());
    const std::string& id = ids[6];
    const auto at = std::search(bytes.begin(), bytes.end(), id.begin(), id.end());
    ASSERT_NE(at, bytes.end());
    *at ^= 1;
    put(shard(2), bytes);
    fs::resize_file(shard(3), fs::file_size(shard(3)) / 2);
    auto result = run_process(arguments);
    ASSERT_EQ(result.exit_code, 0) << result.both();
    EXPECT_THAT(result.err, HasSubstr("kept 1 of 4 shards"));
    EXPECT_EQ(contents(out), complete);
    fs::remove(out / "val.json");
    voc.add(ids[0], 50);  // its shard is of another time
    result = run_process(arguments);
    ASSERT_EQ(result.exit_code, 0) << result.both();
    EXPECT_THAT(result.err, HasSubstr("kept 3 of 4 shards"));
    EXPECT_EQ(run_process({program("deeplab-pack"), "verify", out.string()}).exit_code, 0);
}

}  // namespace
}  // namespace deeplab::preprocess
