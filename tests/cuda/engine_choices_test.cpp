// How engines are found, remembered, counted and recorded by one rank.
#include "engine_choices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "harness/temp_dir.h"
#include "pretended_engines.h"

namespace deeplab::cuda {
namespace {

using ::testing::HasSubstr;
using testing::PretendedEngine;
using testing::PretendedEngines;
using ::testing::StartsWith;

class EngineChoicesTest : public ::testing::Test {
protected:
    CudaOptions options(EnginePolicy policy = EnginePolicy::timed) const {
        CudaOptions o;
        o.engines = policy;
        o.choices = file_;
        o.tuning_log = log_;
        return o;
    }
    static PretendedEngines named(const std::string& name, std::vector<PretendedEngine> engines) {
        PretendedEngines all(std::move(engines));
        all.name = cat("library | device | ", name);
        return all;
    }
    static Choice tuned(EngineChoices& choices, Engines& engines) {
        Choice choice;
        choices.tuned([&] { choice = choices.choose(engines); });
        return choice;
    }
    static std::size_t count(const std::string& text, const std::string& part) {
        std::size_t found = 0;
        for (std::size_t at = text.find(part); at != std::string::npos;
             at = text.find(part, at + 1))
            ++found;
        return found;
    }

    testing::TempDir dir_;
    const std::filesystem::path file_ = dir_ / "choices.txt", log_ = dir_ / "log.tsv";
    const std::vector<PretendedEngine> slow_and_fast_ = {{.engine = 1, .milliseconds = 3},
                                                         {.engine = 2, .milliseconds = 1}};
};

TEST_F(EngineChoicesTest, AreTimedOnceAndKnownAfterwards) {
    EngineChoices first(options(), "library | device");
    auto a = named("a", slow_and_fast_), b = named("b", slow_and_fast_);
    EXPECT_EQ(tuned(first, a).engine, 2);
    EXPECT_EQ(tuned(first, b).engine, 2);
    EXPECT_EQ(first.counts().timed, 2);
    EXPECT_EQ(first.counts().known, 0);
    EXPECT_EQ(tuned(first, a).engine, 2) << "another plan with the same convolution";
    EXPECT_EQ(first.counts().known, 0) << "this process has timed it";
    EXPECT_EQ(a.timed, 2);

    EngineChoices second(options(), "library | device");
    auto again = named("a", slow_and_fast_), c = named("c", slow_and_fast_);
    again.list[0].milliseconds = 0.1;
    EXPECT_EQ(tuned(second, again).engine, 2) << "today's times do not matter";
    EXPECT_EQ(again.timed, 0);
    tuned(second, c);
    EXPECT_EQ(second.counts().timed, 1);
    EXPECT_EQ(second.counts().known, 1);
}

TEST_F(EngineChoicesTest, NothingIsTimedWhereNoPlanIsTuned) {
    EngineChoices choices(options(), "library | device");
    auto a = named("a", slow_and_fast_), b = named("b", slow_and_fast_);
    tuned(choices, a);
    EXPECT_EQ(choices.choose(a).engine, 2) << "what is known";
    EXPECT_EQ(choices.choose(b).engine, 1) << "else the first that runs";
    b.list[0].run_fails = true;
    EXPECT_EQ(choices.choose(b).engine, 1) << "the same one for the same convolution";
    EXPECT_EQ(b.timed, 0);
    EXPECT_EQ(choices.counts().timed, 1);
    EXPECT_EQ(ChoiceCache(file_).size(), 1u) << "the file has measured ones only";
    EXPECT_EQ(tuned(choices, b).engine, 2) << "that b has run before does not count as known";
}

TEST_F(EngineChoicesTest, TheFirstThatRunsLooksAtNoFile) {
    ChoiceCache file(file_);
    auto a = named("a", slow_and_fast_);
    {
        EngineChoices timed(options(), "library | device");
        tuned(timed, a);
    }
    std::filesystem::remove(log_);
    const std::string before = read_text(file_);
    EngineChoices choices(options(EnginePolicy::first), "library | device");
    EXPECT_EQ(tuned(choices, a).engine, 1);
    auto b = named("b", {{.engine = 1, .build_fails = true},
                         {.engine = 2, .run_fails = true},
                         {.engine = 3, .milliseconds = 7},
                         {.engine = 4}});
    EXPECT_EQ(tuned(choices, b).engine, 3) << "it has really been tried";
    EXPECT_EQ(b.timed, 0);
    EXPECT_EQ(choices.counts().timed + choices.counts().known, 0);
    EXPECT_EQ(read_text(file_), before);
    EXPECT_FALSE(std::filesystem::exists(log_));
}

TEST_F(EngineChoicesTest, AreKeptWhileOthersAreTimed) {
    TuningOptions at_once;
    at_once.save_every = std::chrono::seconds(0);
    EngineChoices choices(options(), "library | device", at_once);
    auto a = named("a", slow_and_fast_), b = named("b", slow_and_fast_);
    choices.tuned([&] {
        choices.choose(a);
        EXPECT_EQ(ChoiceCache(file_).size(), 1u) << "a process that is killed now loses nothing";
        choices.choose(b);
    });
    // The default waits some seconds, and a compilation that fails saves what was found.
    std::filesystem::remove(file_);
    EngineChoices slower(options(), "library | device");
    b.list = {{.engine = 1, .build_fails = true}};
    EXPECT_THROW(slower.tuned([&] {
        slower.choose(a);
        EXPECT_FALSE(std::filesystem::exists(file_));
        slower.choose(b);
    }),
                 DeviceError);
    EXPECT_EQ(ChoiceCache(file_).size(), 1u);
    auto c = named("c", slow_and_fast_);
    EXPECT_EQ(slower.choose(c).engine, 1) << "timing has ended with that";
}

TEST_F(EngineChoicesTest, AWarningForEachEngineNotForEachConvolution) {
    EngineChoices choices(options(), "library | device");
    ::testing::internal::CaptureStderr();
    for (const char* name : {"a", "b", "c"}) {
        auto engines = named(name, {{.engine = 1, .build_fails = true},
                                    {.engine = 2, .run_fails = true},
                                    {.engine = 3, .supported = false},
                                    {.engine = 4}});
        EXPECT_EQ(tuned(choices, engines).engine, 4);
    }
    const std::string text = ::testing::internal::GetCapturedStderr();
    EXPECT_EQ(count(text, "engine 1 is left out: its plan cannot be made: plan failed"), 1u)
        << text;
    EXPECT_EQ(count(text, "engine 2 is left out: it does not run: it failed"), 1u) << text;
    EXPECT_EQ(count(text, "left out"), 2u) << text;
}

TEST_F(EngineChoicesTest, WithoutRoomToTimeTheyAreNotKept) {
    EngineChoices choices(options(), "library | device");
    auto a = named("a", slow_and_fast_), b = named("b", slow_and_fast_);
    a.no_room = b.no_room = true;
    ::testing::internal::CaptureStderr();
    EXPECT_EQ(tuned(choices, a).engine, 1);
    EXPECT_EQ(tuned(choices, b).engine, 1);
    const std::string text = ::testing::internal::GetCapturedStderr();
    EXPECT_EQ(count(text, "cannot be tried beside the network: no memory"), 1u) << text;
    EXPECT_FALSE(std::filesystem::exists(file_));
    EXPECT_EQ(choices.counts().timed, 0);
}

TEST_F(EngineChoicesTest, WhatIsKnownAndCannotBeUsedIsReplaced) {
    EngineChoices first(options(), "library | device");
    auto a = named("a", slow_and_fast_);
    tuned(first, a);
    for (const bool fails : {true, false}) {
        EngineChoices second(options(), "library | device");
        auto changed = named("a", slow_and_fast_);
        changed.list[1].build_fails = fails;
        changed.list[1].workspace = fails ? 0 : std::int64_t{1} << 40;
        ::testing::internal::CaptureStderr();
        EXPECT_EQ(second.choose(changed).engine, 1);
        EXPECT_THAT(::testing::internal::GetCapturedStderr(),
                    HasSubstr("engine 2, which was chosen before, cannot do library | device | a"));
        EXPECT_EQ(changed.recovered, fails ? 1 : 0) << "what it left is forgotten";
        EXPECT_EQ(tuned(second, changed).engine, 1);
        EXPECT_EQ(ChoiceCache(file_).size(), 1u);
        EngineChoices restored(options(), "library | device");
        changed.list[1] = slow_and_fast_[1];
        changed.list[0].build_fails = true;
        tuned(restored, changed);
    }
}

TEST_F(EngineChoicesTest, AWorkspaceOfTheLimitIsTakenAgain) {
    TuningOptions tuning;
    tuning.workspace_limit = PretendedEngine{}.workspace;
    for (const int timed : {2, 0}) {
        EngineChoices choices(options(), "library | device", tuning);
        auto a = named("a", slow_and_fast_);
        EXPECT_EQ(tuned(choices, a).engine, 2);
        EXPECT_EQ(a.timed, timed);
    }
}

TEST_F(EngineChoicesTest, NoEngineAtAllIsAnErrorThatSaysWhy) {
    EngineChoices choices(options(), "library | device");
    auto a = named("a", {{.engine = 5, .run_fails = true}});
    try {
        tuned(choices, a);
        FAIL() << "no engine works";
    } catch (const DeviceError& error) {
        EXPECT_THAT(error.what(),
                    HasSubstr("cuDNN has no engine for library | device | a (engine 5: it does "
                              "not run: it failed) — the network cannot run there"));
    }
    EXPECT_THAT(read_text(log_), HasSubstr("it does not run")) << "recorded all the same";
}

TEST_F(EngineChoicesTest, EveryCandidateIsRecorded) {
    EngineChoices choices(options(), "library | device");
    auto a = named("a", {{.engine = 1, .milliseconds = 3, .runtime_compiled = true},
                         {.engine = 1, .knob = 8, .milliseconds = 0.5, .workspace = 4096},
                         {.engine = 2, .run_fails = true},
                         {.engine = 3, .supported = false}});
    tuned(choices, a);
    auto b = named("b", {{.engine = 6}});
    tuned(choices, b);
    choices.choose(b);
    const auto lines = split(trim(read_text(log_)), '\n');
    ASSERT_EQ(lines.size(), 6u) << read_text(log_);
    EXPECT_EQ(lines[0],
              "convolution\tplace\tof\tengine\tknobs\tnotes\tworkspace\tbuild_s\tms\tresult");
    const auto fields = [&](std::size_t line) {
        auto all = split(lines[line], '\t');
        EXPECT_EQ(all.size(), 10u) << lines[line];
        all.resize(10);
        EXPECT_THAT(all[7], StartsWith("0.")) << "seconds";
        all.erase(all.begin() + 7);
        return all;
    };
    const std::string key = "library | device | a | workspace 1073741824 runtime";
    using Fields = std::vector<std::string>;
    EXPECT_EQ(fields(1), (Fields{key, "2", "4", "1", "1=8", "notes", "4096", "0.5000", "chosen"}));
    EXPECT_EQ(fields(2),
              (Fields{key, "3", "4", "2", "1=0", "notes", "64", "", "it does not run: it failed"}));
    EXPECT_EQ(fields(3), (Fields{key, "4", "4", "3", "1=0", "notes", "", "", "not supported"}));
    EXPECT_EQ(fields(4), (Fields{key, "1", "4", "1", "1=0", "notes", "64", "3.0000", "slower"}));
    EXPECT_THAT(lines[5], StartsWith("library | device | b")) << "appended, without a second title";
}

TEST_F(EngineChoicesTest, ARecordThatCannotBeWrittenIsOneWarning) {
    CudaOptions o = options();
    o.tuning_log = dir_.path();  // a folder where a file should be
    EngineChoices choices(o, "library | device");
    auto a = named("a", slow_and_fast_), b = named("b", slow_and_fast_);
    ::testing::internal::CaptureStderr();
    tuned(choices, a);
    EXPECT_EQ(tuned(choices, b).engine, 2);
    EXPECT_EQ(count(::testing::internal::GetCapturedStderr(), "cannot write"), 1u);
}

}  // namespace
}  // namespace deeplab::cuda
