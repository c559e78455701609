#include "../../src/train/preflight.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace deeplab::train {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

PreflightFacts two_ranks() {
    PreflightFacts f;
    const RankFacts r{.host = "n1",
                      .device = "CPU",
                      .processors = {0, 1},
                      .node_processors = 4,
                      .planned_bytes = 100,
                      .available_bytes = 200};
    f.ranks = {r, r};
    f.ranks[1].processors = {2, 3};
    f.checkpoints = {.bytes = 10, .at_once = 4, .to_come = 40, .free = 40};
    return f;
}

TEST(Preflight, WritesProcessorsAsRanges) {
    EXPECT_EQ(processor_ranges({0, 1, 2, 3, 8}), "0-3,8");
    EXPECT_EQ(processor_ranges({}), "");
}

TEST(Preflight, WarnsOfNothingWhereAllFits) {
    const auto table = preflight_table(two_ranks());
    EXPECT_THAT(table.warnings, IsEmpty());
    EXPECT_THAT(table.text, HasSubstr("processors 2-3 of 4"));
}

TEST(Preflight, ListsWhatAResumedRunChanged) {
    auto f = two_ranks();
    f.changes = {"train.iterations: 5 -> 8"};
    EXPECT_THAT(preflight_table(f).text, HasSubstr("changed   train.iterations: 5 -> 8\n"));
}

TEST(Preflight, WarnsOfSharedProcessorsOnlyWhileOthersIdle) {
    auto f = two_ranks();
    f.ranks[1].processors = {0, 1};
    EXPECT_THAT(preflight_table(f).warnings, ElementsAre(HasSubstr("share processors 0-1 of 4")));
    for (auto& r : f.ranks) r.processors = {0, 1, 2, 3};
    EXPECT_THAT(preflight_table(f).warnings, IsEmpty());
}

TEST(Preflight, WarnsOfMoreRanksThanProcessors) {
    auto f = two_ranks();
    for (auto& r : f.ranks) {
        r.processors = {0};
        r.node_processors = 1;
    }
    EXPECT_THAT(preflight_table(f).warnings, ElementsAre(HasSubstr("2 ranks on n1, which has 1 ")));
}

TEST(Preflight, SumsTheMemoryOfAHostsRanks) {
    auto f = two_ranks();
    for (auto& r : f.ranks) r.available_bytes = 199;
    EXPECT_THAT(preflight_table(f).warnings, ElementsAre(HasSubstr("of memory")));
    f.ranks[1].host = "n2";
    EXPECT_THAT(preflight_table(f).warnings, IsEmpty());
}

// A launcher that shows each rank one GPU makes every one of them number 0.
TEST(Preflight, WarnsOfTwoRanksOnOneGpuByItsPlace) {
    auto f = two_ranks();
    for (auto& r : f.ranks) {
        r.device = "CUDA device 0: A";
        r.identity = "n1 0000:1A:00.0";
    }
    EXPECT_THAT(preflight_table(f).warnings, ElementsAre(HasSubstr("one GPU")));
    f.ranks[1].identity = "n1 0000:1B:00.0";
    EXPECT_THAT(preflight_table(f).warnings, IsEmpty());
    for (auto& r : f.ranks) r.identity = "";
    EXPECT_THAT(preflight_table(f).warnings, IsEmpty()) << "processors";
}

// Everything at once, on 128 hosts: the terminal gets a few lines, the file all of them.
TEST(Preflight, AThousandRanksTakeNoMoreLinesThanOne) {
    PreflightFacts f = two_ranks();
    f.ranks.clear();
    for (int i = 0; i < 1024; ++i) {
        f.ranks.push_back(
            {.host = "n" + std::to_string(i / 8),
             .device = "CUDA device " + std::to_string(i % 4) + ": A",
             .identity = "n" + std::to_string(i / 8) + " device " + std::to_string(i % 4),
             .processors = {0},
             .node_processors = 4,
             .planned_bytes = 100,
             .available_bytes = i / 8 == 77 ? 300 : 400});
    }
    for (int i = 0; i < 30; ++i) f.changes.push_back("key: 1 -> 2");
    f.checkpoints.free = 0;
    f.bandwidth = 1e9;
    f.data = "train: 10 images";
    const auto table = preflight_table(f);
    EXPECT_LE(table.lines.size(), PreflightTable::most_lines);
    EXPECT_LE(table.told.size(), PreflightTable::most_warnings);
    EXPECT_LE(table.lines.size() + table.told.size() + 5, 15u) << "with a head and --init's lines";
    EXPECT_EQ(table.warnings.size(), 4u * 128 + 1);
    EXPECT_THAT(table.lines, testing::Contains(HasSubstr("1024 ranks on 128 hosts")));
    EXPECT_THAT(table.lines, testing::Contains(HasSubstr("n77  800 B planned, 300 B available")));
    EXPECT_THAT(table.lines, testing::Contains(HasSubstr("and 29 more")));
    EXPECT_THAT(table.told, testing::Contains(HasSubstr("on 127 other hosts")));
    EXPECT_THAT(table.told.back(), HasSubstr("2 other kinds of warnings"));
    EXPECT_THAT(table.text, HasSubstr("rank 1023"));
    for (const auto& line : table.lines) EXPECT_THAT(line, testing::Not(HasSubstr("\n")));
    f.ranks.resize(1);
    EXPECT_LE(preflight_table(f).lines.size(), PreflightTable::most_lines);
}

TEST(Preflight, WarnsWhenCheckpointsMayNotFit) {
    auto f = two_ranks();
    f.checkpoints.free = 39;
    EXPECT_THAT(preflight_table(f).warnings, ElementsAre(HasSubstr("4 checkpoints")));
}

}  // namespace
}  // namespace deeplab::train
