// The search for a convolution's engine, with a library that fails in every way one can.
#include "engine_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "deeplab/base/error.h"
#include "pretended_engines.h"

namespace deeplab::cuda {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::PretendedEngine;
using testing::PretendedEngines;

std::vector<std::size_t> places(const SearchResult& result) {
    std::vector<std::size_t> all;
    for (const Attempt& a : result.attempts) all.push_back(a.place);
    return all;
}
std::int64_t engine(const SearchResult& result) {
    return result.chosen ? result.attempts[*result.chosen].candidate.choice.engine : -1;
}

TEST(EngineSearch, TakesTheFastest) {
    PretendedEngines engines({{.engine = 1, .milliseconds = 3},
                              {.engine = 2, .milliseconds = 1},
                              {.engine = 3, .milliseconds = 2}});
    const SearchResult result = search(engines, {}, Trial::time);
    EXPECT_EQ(engine(result), 2);
    EXPECT_EQ(engines.taken, 2);
    EXPECT_EQ(result.attempts.size(), 3u);
    EXPECT_TRUE(engines.thorough);
}

TEST(EngineSearch, AnEngineThatFailsIsLeftOutWhateverFails) {
    const PretendedEngine works{.engine = 9, .milliseconds = 5};
    const PretendedEngine bad[] = {{.engine = 1, .build_fails = true},
                                   {.engine = 2, .supported = false},
                                   {.engine = 3, .workspace = std::int64_t{1} << 40},
                                   {.engine = 4, .out_of_memory = true},
                                   {.engine = 5, .run_fails = true}};
    for (const Trial trial : {Trial::build, Trial::run, Trial::time}) {
        for (const PretendedEngine& first : bad) {
            const bool seen = trial != Trial::build || !(first.out_of_memory || first.run_fails);
            PretendedEngines engines({first, works});
            const SearchResult result = search(engines, {}, trial);
            EXPECT_EQ(engine(result), seen ? 9 : first.engine) << first.engine;
            EXPECT_EQ(engines.taken, engine(result));
            const Attempt& a = result.attempts.front();
            EXPECT_EQ(a.left_out.empty(), !seen);
            const bool error = first.build_fails || first.out_of_memory || first.run_fails;
            EXPECT_EQ(a.failed, seen && error) << first.engine;
            EXPECT_EQ(engines.recovered, seen && error ? 1 : 0) << "what it left is forgotten";
        }
    }
    PretendedEngines all({bad[0], bad[1], bad[2], bad[3], bad[4]});
    const SearchResult none = search(all, {}, Trial::time);
    EXPECT_FALSE(none.chosen);
    EXPECT_EQ(all.taken, -1);
    const std::string text = no_engine(all.key(), {}, none);
    EXPECT_THAT(text, HasSubstr("cuDNN has no engine for pretended | device | a convolution "
                                "within 1.00 GiB of workspace (1.00 TiB would do) (engine 1: its "
                                "plan cannot be made: plan failed)"));
}

// A device that fails is not the fault of one engine: nothing else would work either.
TEST(EngineSearch, ADeviceThatFailsEndsIt) {
    for (const Trial trial : {Trial::run, Trial::time}) {
        PretendedEngines engines({{.engine = 1}, {.engine = 2, .device_fails = true}});
        if (trial == Trial::run) engines.list.front().run_fails = true;
        try {
            search(engines, {}, trial);
            ADD_FAILURE() << "the device is gone";
        } catch (const DeviceError& error) {
            EXPECT_THAT(error.what(), HasSubstr("the device has failed when engine 2 was tried for "
                                                "pretended | device | a convolution: illegal"));
        }
    }
    PretendedEngines engines({{.engine = 1}, {.engine = 2}});
    engines.no_room = engines.broken = true;
    EXPECT_THROW(search(engines, {}, Trial::time), DeviceError);
}

TEST(EngineSearch, WithoutMemoryToRunThemEnginesAreBuiltAlone) {
    PretendedEngines engines({{.engine = 1, .build_fails = true},
                              {.engine = 2, .milliseconds = 3},
                              {.engine = 3, .milliseconds = 1}});
    engines.no_room = true;
    const SearchResult result = search(engines, {}, Trial::time);
    EXPECT_EQ(engine(result), 2);
    EXPECT_EQ(engines.timed, 0);
    EXPECT_EQ(result.attempts[*result.chosen].milliseconds, 0);
    EXPECT_EQ(result.no_room, "no memory");
}

// Knobs of one engine differ less than engines do: the best configuration of each comes first.
TEST(EngineSearch, EveryEngineIsTriedBeforeSecondConfigurations) {
    PretendedEngines engines({{.engine = 7},
                              {.engine = 7, .knob = 1},
                              {.engine = 7, .knob = 2},
                              {.engine = 4},
                              {.engine = 7, .knob = 3},
                              {.engine = 4, .knob = 1},
                              {.engine = 2}});
    EXPECT_THAT(places(search(engines, {}, Trial::time)), ElementsAre(1, 4, 7, 2, 3, 5, 6));
    TuningOptions four;
    four.candidates = 4;
    EXPECT_THAT(places(search(engines, four, Trial::time)), ElementsAre(1, 4, 7, 2));
}

TEST(EngineSearch, OnlyWhatRunsCountsAsTried) {
    TuningOptions two;
    two.candidates = 2;
    PretendedEngines engines({{.engine = 1, .build_fails = true},
                              {.engine = 2, .supported = false},
                              {.engine = 3, .run_fails = true},
                              {.engine = 4, .run_fails = true},
                              {.engine = 5, .milliseconds = 4},
                              {.engine = 6, .milliseconds = 1}});
    EXPECT_EQ(engine(search(engines, two, Trial::time)), 5) << "goes on until one works, no longer";
}

TEST(EngineSearch, EnginesThatAreCompiledAtRunTimeComeLast) {
    PretendedEngines timed({{.engine = 1, .runtime_compiled = true},
                            {.engine = 2},
                            {.engine = 2, .knob = 1},
                            {.engine = 1, .knob = 1},
                            {.engine = 3}});
    EXPECT_THAT(places(search(timed, {}, Trial::time)), ElementsAre(2, 4, 5, 3, 1));
    PretendedEngines engines({{.engine = 1, .runtime_compiled = true}, {.engine = 2}});
    EXPECT_EQ(engine(search(engines, {}, Trial::run)), 2);
    EXPECT_FALSE(engines.thorough);
    engines.list.back().run_fails = true;
    EXPECT_EQ(engine(search(engines, {}, Trial::run)), 1);
    TuningOptions without;
    without.runtime_compiled = false;
    EXPECT_EQ(engine(search(engines, without, Trial::run)), -1);
}

}  // namespace
}  // namespace deeplab::cuda
