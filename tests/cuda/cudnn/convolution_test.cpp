// Convolutions as cuDNN plans them for described devices: nothing here needs a GPU.
#include "convolution.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "convolution_cases.h"
#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "harness/source_dir.h"
#include "harness/temp_dir.h"
#include "runtime.h"
#include "runtime_compiler.h"

namespace deeplab::cuda {
namespace {

using testing::pitched_cases;

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
    return testing::problem_of({{"decoder", {2, 64, 33, 33}, 64, 3, 3, {1, 1, 1, 1}}}, pass,
                               precision, deterministic);
}

// The first engine whose engine plan can be made.
EnginePlan first_plan(const ConvolutionProblem& p, const Target& target) {
    CudnnEngines engines(p, target, nullptr);
    const SearchResult result = search(engines, {}, Trial::build);
    if (!result.chosen) {
        ADD_FAILURE() << no_engine(engines.key(), {}, result);
        return {{}, Descriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)};
    }
    return std::move(engines.taken());
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
        for (const testing::PitchedCase& c : pitched_cases()) {
            for (const Pass pass : {Pass::forward, Pass::data, Pass::weights}) {
                for (const Precision precision :
                     {Precision::fp32, Precision::tf32, Precision::bf16}) {
                    const ConvolutionProblem p = testing::problem_of(c, pass, precision, true);
                    SCOPED_TRACE(cat(name, ", ", c.what));
                    EXPECT_TRUE(first_plan(p, device(name)).descriptor.get() != nullptr);
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

// cuDNN 9.8 does not tell the plan of a described device (CUDNN_STATUS_NOT_SUPPORTED), 9.19 does.
bool plans_have_text() { return cudnnGetVersion() >= 91900; }

std::string json_of(const EnginePlan& plan) {
    const auto text = plan.descriptor.get_list<char>(CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                                                     CUDNN_TYPE_CHAR);
    return {text.begin(), text.end()};
}

// With a driver that can do nothing (tests/cuda/CMakeLists.txt) some engines fail.
std::optional<EnginePlan> plan_of(const ConvolutionGraph& graph, const Choice& choice) {
    try {
        return graph.engine_plan(choice);
    } catch (const DeviceError&) {
        return std::nullopt;
    }
}

// What the cache keeps is enough: another graph object gives the same plan.
TEST(ConvolutionGraph, AChoiceMakesItsPlanAgain) {
    if (!plans_have_text()) GTEST_SKIP() << "skipped: this cuDNN gives no text of a plan";
    for (const Pass pass : {Pass::forward, Pass::data, Pass::weights}) {
        const ConvolutionProblem p = problem(pass, Precision::bf16);
        const ConvolutionGraph graph(p, device("h200")), again(p, device("h200"));
        std::size_t differ = 0, plans = 0;
        std::string before;
        for (const EngineConfig& config : graph.configs(false)) {
            const auto one = plan_of(graph, config.choice), two = plan_of(again, config.choice);
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
    if (!plans_have_text()) GTEST_SKIP() << "skipped: this cuDNN gives no text of a plan";
    const ConvolutionProblem packed = problem(Pass::forward, Precision::bf16);
    std::set<std::string> texts;
    for (const auto& [x, y] : {std::pair{0, 0}, {8, 0}, {0, 8}}) {
        ConvolutionProblem p = packed;
        p.x_pitch += x;
        p.y_pitch += y;
        const std::string text = json_of(first_plan(p, device("h200")));
        texts.insert(text);
        for (const std::int64_t pitch : {p.x_pitch, p.y_pitch})
            EXPECT_NE(text.find(cat(33 * pitch)), std::string::npos) << text;
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

// cuDNN's plans, and times that a test says: none of them is run.
class Pretended final : public Engines {
public:
    Pretended(const ConvolutionProblem& problem, const Target& target,
              std::function<double(int index)> milliseconds)
        : engines_(problem, target, nullptr), milliseconds_(std::move(milliseconds)) {}

    CudnnEngines& real() { return engines_; }
    int timed = 0;

    std::string key() const override { return engines_.key(); }
    std::vector<Candidate> candidates(bool thorough) override {
        return engines_.candidates(thorough);
    }
    std::optional<std::int64_t> build(const Choice& choice) override {
        return engines_.build(choice);
    }
    void take() override { engines_.take(); }
    void prepare() override {}
    void run() override {}
    double time() override { return milliseconds_(timed++); }
    void recover() override { engines_.recover(); }

private:
    CudnnEngines engines_;
    std::function<double(int)> milliseconds_;
};

// ctest runs this program once with a driver whose every call fails (tests/cuda/CMakeLists.txt):
// without any, cuDNN does not propose the engines that fail then.
TEST(ConvolutionGraph, EnginesThatFailWithADriverStubAreLeftOut) {
    if (std::getenv("DEEPLAB_TEST_DRIVER_STUB") == nullptr)
        GTEST_SKIP() << "skipped: not with the stub";
    TuningOptions all;
    all.candidates = 1000;
    std::size_t failed = 0;
    for (const testing::PitchedCase& c : pitched_cases()) {
        Pretended engines(testing::problem_of(c, Pass::forward, Precision::tf32, true),
                          device("a100"), [](int index) { return 1.0 + index; });
        const SearchResult result = search(engines, all, Trial::time);
        EXPECT_TRUE(result.chosen) << no_engine(engines.key(), all, result);
        for (const Attempt& a : result.attempts) failed += a.failed ? 1 : 0;
    }
    EXPECT_GT(failed, 0u) << "the stub was not found, or proves nothing any more";
}

class ChooseEngine : public ::testing::Test {
protected:
    static std::function<double(int)> fastest(int which) {
        return [which](int index) { return index == which ? 0.5 : 1.0 + index; };
    }
    EngineChoices choices() const {
        CudaOptions options;
        options.choices = dir_ / "choices.txt";
        return EngineChoices(options, engine_key(device("h200")));
    }
    Pretended engines(int which, const char* name = "h200") const {
        return {problem_, device(name), fastest(which)};
    }
    Choice tuned(EngineChoices& choices, Engines& engines) const {
        Choice choice;
        choices.tuned([&] { choice = choices.choose(engines); });
        return choice;
    }

    const ConvolutionProblem problem_ = problem(Pass::weights, Precision::bf16);
    testing::TempDir dir_;
};

TEST_F(ChooseEngine, TheFastestIsTakenAndItsPlanIsMadeAgain) {
    EngineChoices first = choices();
    Pretended timed = engines(3), known = engines(0), other = engines(0, "a100");
    const Choice choice = tuned(first, timed);
    EXPECT_EQ(timed.timed, TuningOptions{}.candidates);
    EXPECT_EQ(choice.milliseconds, 0.5);
    EXPECT_EQ(timed.real().taken().choice.engine, choice.engine);

    EngineChoices second = choices();
    EXPECT_EQ(tuned(second, known), choice);
    EXPECT_EQ(known.timed, 0) << "the file knew";
    if (plans_have_text()) {
        EXPECT_EQ(json_of(known.real().taken()), json_of(timed.real().taken()));
    }

    tuned(second, other);
    EXPECT_GT(other.timed, 0) << "another device";
    EXPECT_EQ(second.counts().timed, 1);
    EXPECT_EQ(second.counts().known, 1);
}

TEST_F(ChooseEngine, AnEntryThatThisCudnnCannotUseIsReplaced) {
    const std::string key = cat(engines(0).key(), " | workspace ", TuningOptions{}.workspace_limit,
                                " runtime");
    for (const Choice& bad : {Choice{100000, {}, 1}, Choice{-1, {}, 1},
                              Choice{0, {{2, 1 << 20}}, 1}, Choice{0, {{9999, 0}}, 1}}) {
        ChoiceCache file(dir_ / "choices.txt");
        file.insert(key, bad);
        file.save();
        EngineChoices all = choices();
        Pretended timed = engines(1);
        ::testing::internal::CaptureStderr();
        const Choice choice = tuned(all, timed);
        EXPECT_NE(::testing::internal::GetCapturedStderr().find("timed anew"), std::string::npos);
        EXPECT_GT(timed.timed, 1);
        EXPECT_EQ(ChoiceCache(dir_ / "choices.txt").find(key), choice);
    }
}

TEST_F(ChooseEngine, WorkspacesAreLimited) {
    const auto largest = [&](std::int64_t limit) {
        TuningOptions options;
        options.workspace_limit = limit;
        options.candidates = 1000;
        Pretended all = engines(0);
        std::int64_t bytes = 0;
        for (const Attempt& a : search(all, options, Trial::time).attempts)
            if (a.left_out.empty()) bytes = std::max(bytes, a.workspace);
        return bytes;
    };
    const std::int64_t most = largest(std::int64_t{1} << 30);
    ASSERT_GT(most, 0);
    EXPECT_LT(largest(most - 1), most);

    CudnnEngines hungry(problem(Pass::weights, Precision::fp32, true), device("h200"), nullptr);
    TuningOptions options;
    options.workspace_limit = -1;
    const SearchResult result = search(hungry, options, Trial::build);
    EXPECT_FALSE(result.chosen) << "no engine wants less than nothing";
    const std::string text = no_engine(hungry.key(), options, result);
    EXPECT_NE(text.find("of workspace"), std::string::npos) << text;
}

// Sixteen trials are to see engines, not knobs.
TEST_F(ChooseEngine, SeveralEnginesAreTried) {
    Pretended timed = engines(0);
    std::set<std::int64_t> proposed, tried;
    for (const Candidate& c : timed.candidates(true))
        if (!c.runtime_compiled) proposed.insert(c.choice.engine);
    for (const Attempt& a : search(timed, {}, Trial::time).attempts)
        if (!a.candidate.runtime_compiled) tried.insert(a.candidate.choice.engine);
    ASSERT_GT(proposed.size(), 2u);
    EXPECT_EQ(tried, proposed);
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
