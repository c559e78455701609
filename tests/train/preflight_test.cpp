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
    f.checkpoint_bytes = 10;
    f.keep = 2;
    f.free_bytes = 40;
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

TEST(Preflight, WarnsOfTwoRanksOnOneGpu) {
    auto f = two_ranks();
    for (auto& r : f.ranks) {
        r.device = "CUDA device 0: A";
        r.own_device = true;
    }
    EXPECT_THAT(preflight_table(f).warnings, ElementsAre(HasSubstr("one GPU")));
    f.ranks[1].device = "CUDA device 1: A";
    EXPECT_THAT(preflight_table(f).warnings, IsEmpty());
}

TEST(Preflight, WarnsWhenCheckpointsMayNotFit) {
    auto f = two_ranks();
    f.free_bytes = 39;
    EXPECT_THAT(preflight_table(f).warnings, ElementsAre(HasSubstr("4 checkpoints")));
}

}  // namespace
}  // namespace deeplab::train
