// What a user asks of the whole program beside training, on the stand-ins: evaluation, samples on
// the device, a time line; and what goes wrong with devices.
#include <gmock/gmock.h>

#include <set>

#include "job.h"

namespace deeplab::testing {
namespace {

using ::testing::HasSubstr;

class WholeProgramRuns : public WholeProgram {
protected:
    // The last evaluation's.
    double miou(const std::string& run) const {
        double last = -1;
        for (const auto& line : split(trim(read_text(folder(run) / "metrics.jsonl")), '\n')) {
            const io::Value value = io::parse_json(line, "metrics");
            const io::Value* miou = value.get_if<io::Object>()->find("miou");
            if (miou != nullptr) last = *miou->get_if<double>();
        }
        return last;
    }
    void ends_with_4(const Job& job, const std::string& why) const {
        const ProcessResult result = start(job);
        EXPECT_EQ(result.exit_code, 4) << result.both();
        EXPECT_THAT(result.err, HasSubstr(why));
    }
};

// One rank evaluates an image that is larger than the step, between steps of both: they stay the
// graphs they were, and have the same bits.
TEST_F(WholeProgramRuns, EvaluateAndKeepSamplesOnTheDeviceWithTheSameBits) {
    train({.run = "plain", .ranks = 2});
    train({.run = "all",
           .ranks = 2,
           .more = {"--set", "train.eval_every=2", "--set", "data.cache=device"}});
    EXPECT_EQ(hash("all"), hash("plain"));
    train({.run = "cpu", .device = "cpu", .more = {"--set", "train.eval_every=6"}});
    EXPECT_NEAR(miou("all"), miou("cpu"), 0.01);
    EXPECT_TRUE(std::filesystem::exists(folder("all") / "checkpoints/best.h5"));
}

// Micro-batches have graphs of their own.
TEST_F(WholeProgramRuns, SlowAccumulateAndShuffleStreamsWithTheSameBits) {
    const std::vector<std::string> more = {"--set", "train.accumulation=2", "--set",
                                           "train.global_batch=12"};
    train({.run = "late", .ranks = 2, .more = more});
    train({.run = "shuffled",
           .ranks = 2,
           .more = more,
           .environment = {"DEEPLAB_TEST_STREAMS=shuffled"}});
    EXPECT_EQ(hash("late"), hash("shuffled"));
    Job launches{.run = "launches", .ranks = 2, .more = more};
    launches.more.emplace_back("--no-graph");
    launches.environment = {"DEEPLAB_TEST_STREAMS=at-once"};
    train(launches);
    EXPECT_EQ(hash("late"), hash("launches"));
}

TEST_F(WholeProgramRuns, SlowATimeLineHasEveryRanksNodesAndChangesNoBit) {
    train({.run = "plain", .ranks = 2});
    const std::string file = (dir_ / "trace.json").string();
    train({.run = "traced", .ranks = 2, .more = {"--trace", file}});
    EXPECT_EQ(hash("traced"), hash("plain"));
    const io::Value trace = io::parse_json(read_text(file), "trace");
    std::set<std::int64_t> ranks;
    double seconds = 0;
    for (const io::Value& value :
         *trace.get_if<io::Object>()->find("traceEvents")->get_if<io::Array>()) {
        const io::Object& event = *value.get_if<io::Object>();
        const io::Value* duration = event.find("dur");
        if (duration == nullptr || *event.find("tid")->get_if<std::int64_t>() != 1) continue;
        ranks.insert(*event.find("pid")->get_if<std::int64_t>());
        if (const double* us = duration->get_if<double>()) seconds += *us / 1e6;
    }
    EXPECT_THAT(ranks, ::testing::ElementsAre(0, 1));
    EXPECT_GT(seconds, 0.01);
}

TEST_F(WholeProgramRuns, ARankWithoutADeviceEndsTheJobForAll) {
    for (const char* device : {"cuda", "auto"}) {
        ends_with_4({.ranks = 2,
                     .device = device,
                     .before = "[ $rank = 0 ] || export DEEPLAB_TEST_DEVICE=count=0"},
                    "1 of 2 ranks see no GPU");
    }
    EXPECT_FALSE(std::filesystem::exists(folder("run") / "checkpoints"));
}

TEST_F(WholeProgramRuns, WithoutADeviceOnlyAutoTrains) {
    const std::vector<std::string> none = {"DEEPLAB_TEST_DEVICE=count=0"};
    ends_with_4({.environment = none}, "--device cuda cannot be used");
    ends_with_4({.ranks = 2, .environment = none}, "--device cuda cannot be used");
    train({.device = "auto", .more = {"--set", "train.iterations=1"}, .environment = none});
}

// In a step, from a graph.
TEST_F(WholeProgramRuns, ADeviceThatFailsIsToldByItsRank) {
    const Job job{.ranks = 2, .before = "[ $rank = 0 ] || export DEEPLAB_TEST_DEVICE=fails=3"};
    const ProcessResult result = start(job);
    EXPECT_EQ(result.exit_code, 4) << result.both();
    EXPECT_THAT(result.err, HasSubstr("[rank 1 @ "));
    EXPECT_THAT(result.err, HasSubstr("an illegal memory access was encountered"));
    EXPECT_EQ(losses("run").size(), 3u);
}

TEST_F(WholeProgramRuns, MemoryThatDoesNotSufficeIsTold) {
    ends_with_4({.environment = {"DEEPLAB_TEST_DEVICE=memory=1000000"}}, "out of device memory");
    ends_with_4({.more = {"--set", "data.cache=device"},
                 .environment = {"DEEPLAB_TEST_DEVICE=memory=1000000000"}},
                "keeps all images and masks");
}

// Of cuDNN's three engines one has no plans and one does not run.
TEST_F(WholeProgramRuns, EnginesThatFailAreLeftOut) {
    const ProcessResult result = train(
        {.environment = {"DEEPLAB_TEST_ENGINES=unbuildable=0 unrunnable=1"}});
    EXPECT_THAT(result.err, HasSubstr("engine 0 is left out: its plan cannot be made"));
    EXPECT_THAT(result.err, HasSubstr("engine 1 is left out: it does not run"));
    ends_with_4({.run = "other",
                 .environment = {"DEEPLAB_TEST_ENGINES=unbuildable=0 unrunnable=1 failing=2"}},
                "CUDNN_STATUS_EXECUTION_FAILED (failing)");
}

}  // namespace
}  // namespace deeplab::testing
