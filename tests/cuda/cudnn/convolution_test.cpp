// Convolutions as cuDNN plans them for described devices: nothing here needs a GPU.
#include "convolution.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "convolution_cases.h"
#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "harness/source_dir.h"
#include "runtime.h"
#include "runtime_compiler.h"

namespace deeplab::cuda {
namespace {

using testing::convolution_cases;

const Target& device(const std::string& name) {
    static std::map<std::string, Target> targets;
    if (targets.empty()) testing::hold_runtime_compiler();
    if (!targets.contains(name)) {
        const std::string json = read_text(testing::source_dir() / "tests/cuda/device-properties" /
                                           (name + ".json"));
        targets.emplace(name, Target::described(json, name));
    }
    return targets.at(name);
}

ConvolutionProblem problem(Pass pass, Precision precision, bool deterministic = false) {
    return testing::problem_of({"decoder", {2, 64, 33, 33}, 64, 3, {1, 1, 1, 1}}, pass, precision,
                               deterministic);
}

template <class Note>
bool has(const std::vector<Note>& notes, Note note) {
    return std::find(notes.begin(), notes.end(), note) != notes.end();
}

bool any(const ConvolutionProblem& p, cudnnBackendNumericalNote_t note) {
    const auto configs = ConvolutionGraph(p, device("h200")).configs(true);
    EXPECT_FALSE(configs.empty());
    return std::any_of(configs.begin(), configs.end(),
                       [&](const EngineConfig& c) { return has(c.numerics, note); });
}

TEST(ConvolutionGraph, EveryShapeHasAPlanForEveryPass) {
    for (const char* name : {"a100", "h200"}) {
        for (const testing::ConvolutionCase& c : convolution_cases()) {
            for (const Pass pass : {Pass::forward, Pass::data, Pass::weights}) {
                for (const Precision precision :
                     {Precision::fp32, Precision::tf32, Precision::bf16}) {
                    const ConvolutionProblem p = testing::problem_of(c, pass, precision, true);
                    ChoiceCache cache({});
                    EXPECT_NO_THROW(
                        choose_plan(ConvolutionGraph(p, device(name)), cache, {}, nullptr))
                        << name << " " << c.name << " " << key(p);
                }
            }
        }
    }
}

TEST(ConvolutionGraph, PrecisionAndDeterminismLeaveEnginesOut) {
    using enum cudnnBackendNumericalNote_t;
    for (const Pass pass : {Pass::forward, Pass::data, Pass::weights}) {
        EXPECT_FALSE(any(problem(pass, Precision::fp32), CUDNN_NUMERICAL_NOTE_TENSOR_CORE));
        EXPECT_TRUE(any(problem(pass, Precision::tf32), CUDNN_NUMERICAL_NOTE_TENSOR_CORE));
        EXPECT_TRUE(any(problem(pass, Precision::bf16), CUDNN_NUMERICAL_NOTE_TENSOR_CORE));
        for (const Precision precision : {Precision::fp32, Precision::tf32, Precision::bf16}) {
            const ConvolutionProblem p = problem(pass, precision);
            EXPECT_FALSE(any(p, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION));
            EXPECT_FALSE(any(p, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS));
        }
    }
    EXPECT_TRUE(
        any(problem(Pass::weights, Precision::fp32), CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC));
    EXPECT_FALSE(
        any(problem(Pass::weights, Precision::fp32, true), CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC));
}

TEST(ConvolutionGraph, ConfigurationsAreDistinctAndTheThoroughAnswerIsLonger) {
    const ConvolutionGraph graph(problem(Pass::forward, Precision::bf16), device("h200"));
    const auto quick = graph.configs(false), thorough = graph.configs(true);
    ASSERT_GT(quick.size(), 1u);
    EXPECT_GT(thorough.size(), quick.size());
    EXPECT_EQ(thorough.front().choice, quick.front().choice);
    for (std::size_t i = 0; i < thorough.size(); ++i) {
        for (std::size_t j = 0; j < i; ++j)
            EXPECT_FALSE(thorough[i].choice == thorough[j].choice) << i << " and " << j;
    }
    EXPECT_NE(quick.front().notes().find("tensor-core"), std::string::npos);
}

std::string json_of(const EnginePlan& plan) {
    const auto text = plan.descriptor.get_list<char>(CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                                                     CUDNN_TYPE_CHAR);
    return {text.begin(), text.end()};
}

// What the cache keeps is enough: another graph object gives the same plan.
TEST(ConvolutionGraph, AChoiceMakesItsPlanAgain) {
    for (const Pass pass : {Pass::forward, Pass::data, Pass::weights}) {
        const ConvolutionProblem p = problem(pass, Precision::bf16);
        const ConvolutionGraph graph(p, device("h200")), again(p, device("h200"));
        std::size_t differ = 0, plans = 0;
        std::string before;
        for (const EngineConfig& config : graph.configs(false)) {
            const auto one = graph.plan(config.choice), two = again.plan(config.choice);
            ASSERT_EQ(one.has_value(), two.has_value());
            if (!one) continue;
            EXPECT_EQ(one->workspace, two->workspace);
            const std::string text = json_of(*one);
            EXPECT_EQ(text, json_of(*two));
            differ += text != before ? 1 : 0;
            before = text;
            ++plans;
        }
        EXPECT_GT(plans, 1u);
        EXPECT_EQ(differ, plans) << "the comparison compares nothing";
    }
}

// Without a device the plan's own text is all that shows what cuDNN was told.
TEST(ConvolutionGraph, PlansKnowThePitches) {
    const ConvolutionProblem packed = problem(Pass::forward, Precision::bf16);
    std::set<std::string> texts;
    for (const auto& [x, y] : {std::pair{0, 0}, {8, 0}, {0, 8}}) {
        ConvolutionProblem p = packed;
        p.x_pitch += x;
        p.y_pitch += y;
        const ConvolutionGraph graph(p, device("h200"));
        ChoiceCache cache({});
        EnginePlan plan = choose_plan(graph, cache, {}, nullptr);
        texts.insert(json_of(plan));
        for (const std::int64_t pitch : {p.x_pitch, p.y_pitch})
            EXPECT_NE(json_of(plan).find(cat(33 * pitch)), std::string::npos) << json_of(plan);
    }
    EXPECT_EQ(texts.size(), 3u);
}

TEST(ConvolutionGraph, WhatCannotBeIsAnError) {
    ConvolutionProblem wrong = problem(Pass::forward, Precision::fp32);
    ++wrong.y.h;
    EXPECT_THROW(ConvolutionGraph(wrong, device("h200")), DeviceError);
    wrong = problem(Pass::forward, Precision::fp32);
    wrong.in = DType::u8;
    EXPECT_THROW(ConvolutionGraph(wrong, device("h200")), LogicError);
    EXPECT_THROW(Target::described("{}", "nothing"), DeviceError);
}

class ChoosePlan : public ::testing::Test {
protected:
    // Pretends that the candidate with this index is the fastest.
    PlanTimer timer(int fastest) {
        return
            [this, fastest](const EnginePlan&) { return timed_++ == fastest ? 0.5 : 1.0 + timed_; };
    }

    const ConvolutionGraph graph_{problem(Pass::weights, Precision::bf16), device("h200")};
    ChoiceCache cache_{{}};
    TuningOptions options_;
    int timed_ = 0;
};

TEST_F(ChoosePlan, TheFastestCandidateIsTakenAndRemembered) {
    options_.candidates = 5;
    const EnginePlan plan = choose_plan(graph_, cache_, options_, timer(3));
    EXPECT_EQ(timed_, 5);
    EXPECT_EQ(plan.choice.milliseconds, 0.5);
    EXPECT_EQ(cache_.find(cache_key(graph_, options_)), plan.choice);

    const EnginePlan again = choose_plan(graph_, cache_, options_, timer(0));
    EXPECT_EQ(timed_, 5) << "the cache knew";
    EXPECT_EQ(again.choice, plan.choice);
    EXPECT_EQ(json_of(again), json_of(plan));

    const ConvolutionGraph other(graph_.problem(), device("a100"));
    choose_plan(other, cache_, options_, timer(0));
    EXPECT_EQ(timed_, 10) << "another device";
    EXPECT_EQ(cache_.size(), 2u);
}

TEST_F(ChoosePlan, WithoutADeviceTheHeuristicsDecide) {
    const EnginePlan plan = choose_plan(graph_, cache_, options_, nullptr);
    EXPECT_EQ(plan.choice, graph_.configs(false).front().choice);
    EXPECT_EQ(cache_.size(), 0u);
}

TEST_F(ChoosePlan, AnEntryThatThisCudnnCannotUseIsReplaced) {
    const std::string entry = cache_key(graph_, options_);
    for (const Choice& bad : {Choice{100000, {}, 1}, Choice{-1, {}, 1},
                              Choice{0, {{2, 1 << 20}}, 1}, Choice{0, {{9999, 0}}, 1}}) {
        cache_.insert(entry, bad);
        timed_ = 0;
        ::testing::internal::CaptureStderr();
        const EnginePlan plan = choose_plan(graph_, cache_, options_, timer(1));
        EXPECT_NE(::testing::internal::GetCapturedStderr().find("timed anew"), std::string::npos);
        EXPECT_GT(timed_, 1);
        EXPECT_EQ(cache_.find(entry), plan.choice);
    }
}

TEST_F(ChoosePlan, WorkspacesAreLimited) {
    std::int64_t largest = 0;
    const auto measure = [&](const EnginePlan& plan) {
        largest = std::max(largest, plan.workspace);
        return 1.0;
    };
    options_.candidates = 1000;
    choose_plan(graph_, cache_, options_, measure);
    ASSERT_GT(largest, 0);
    options_.workspace_limit = largest - 1;
    largest = 0;
    choose_plan(graph_, cache_, options_, measure);
    EXPECT_LE(largest, options_.workspace_limit);

    const ConvolutionGraph hungry(problem(Pass::weights, Precision::fp32, true), device("h200"));
    options_.workspace_limit = -1;
    try {
        choose_plan(hungry, cache_, options_, nullptr);
        FAIL() << "no engine wants less than nothing";
    } catch (const DeviceError& error) {
        EXPECT_NE(std::string(error.what()).find("of workspace"), std::string::npos)
            << error.what();
    }
}

TEST_F(ChoosePlan, EnginesThatFailAreLeftOut) {
    const double never = std::numeric_limits<double>::infinity();
    options_.candidates = 3;
    const EnginePlan plan = choose_plan(
        graph_, cache_, options_, [&](const EnginePlan&) { return timed_++ < 6 ? never : 2.0; });
    EXPECT_EQ(timed_, 7) << "goes on until one works";
    EXPECT_EQ(plan.choice.milliseconds, 2.0);
    options_.workspace_limit += 1;  // another key
    EXPECT_THROW(choose_plan(graph_, cache_, options_, [&](const EnginePlan&) { return never; }),
                 DeviceError);
}

TEST(CudnnHandle, SaysWhyThereIsNone) {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0)
        GTEST_SKIP() << "skipped: there is a device";
    try {
        const CudnnHandle handle(nullptr);
        FAIL() << "there is no device";
    } catch (const DeviceError& error) {
        EXPECT_NE(std::string(error.what()).find("cuDNN failed in its start"), std::string::npos)
            << error.what();
    }
    EXPECT_THROW(DeviceBuffer(16, "a test"), DeviceError);
    EXPECT_THROW(Event(), DeviceError);
}

}  // namespace
}  // namespace deeplab::cuda
