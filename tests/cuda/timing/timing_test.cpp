// Engines of convolutions as they are tried and timed: src/cuda/convolution_timing.cpp on the
// stand-in for CUDA, with an engine that looks at the memory it gets and takes, on the device's
// clock, what a test says.

#include "convolution_timing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "deeplab/base/error.h"
#include "deeplab/math/bf16.h"

namespace deeplab::cuda {
namespace {

struct Engine {
    std::int64_t nanoseconds = 1'000'000;
    int fails_at = -1;  // this run, from 0
    int enqueued = 0, done = 0, most_captured = 0;
    ConvolutionPointers pointers;
};
Engine engine;

std::size_t size_at(const void* data) {
    const auto allocation = shim::find(data);
    return allocation && allocation->begin == data ? allocation->size : 0;
}

}  // namespace

Descriptor::Descriptor(cudnnBackendDescriptorType_t) {}
Descriptor::~Descriptor() = default;
CudnnHandle::CudnnHandle(cudaStream_t stream) : stream_(stream) {}
CudnnHandle::~CudnnHandle() = default;

void execute(const CudnnHandle& handle, const EnginePlan& plan, const ConvolutionPointers& p) {
    if (engine.enqueued++ == engine.fails_at) throw DeviceError("it failed");
    EXPECT_EQ(size_at(p.workspace), static_cast<std::size_t>(plan.workspace));
    engine.pointers = p;
    shim::Stream::Item item;
    item.work = [] { ++engine.done; };
    item.takes = engine.nanoseconds;
    shim::use_words(item.uses, p);
    if (shim::capturing) {
        const auto own = shim::place(handle.stream());
        engine.most_captured = std::max(engine.most_captured,
                                        static_cast<int>(own->items.size()) + 1);
    }
    shim::enqueue(handle.stream(), std::move(item));
}

namespace {

EnginePlan plan_with(std::int64_t workspace) {
    return {{}, Descriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR), workspace};
}

ConvolutionProblem problem(Pass pass, DType in, DType out) {
    ConvolutionProblem p;
    p.pass = pass;
    p.geometry = {.stride = 2, .pad = 1};
    p.x = {2, 8, 5, 7}, p.w = {4, 8, 3, 3}, p.y = {2, 4, 3, 4};
    p.x_pitch = 24, p.y_pitch = 16;
    p.in = in, p.out = out;
    p.bias = pass == Pass::forward;
    return p;
}

class ConvolutionTiming : public ::testing::Test {
protected:
    void SetUp() override { engine = {}; }
    void TearDown() override { EXPECT_EQ(shim::capturing, nullptr); }

    Stream stream_;
    const CudnnHandle handle_{stream_.get()};
    const shim::OtherSchedule late_{shim::Schedule::late};
};

// Numbers in +-[1, 2): as many as the memory has.
void expect_random(const void* data, DType type, std::int64_t count) {
    ASSERT_EQ(size_at(data), static_cast<std::size_t>(count) * size_of(type));
    double sum = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        const float value = type == DType::f32
                                ? static_cast<const float*>(data)[i]
                                : math::from_bf16(static_cast<const std::uint16_t*>(data)[i]);
        ASSERT_GE(std::fabs(value), 1.0f) << i;
        ASSERT_LT(std::fabs(value), 2.0f) << i;
        sum += static_cast<double>(value);
    }
    EXPECT_LT(std::fabs(sum), static_cast<double>(count));
}

TEST_F(ConvolutionTiming, TensorsHaveTheirSizesAndRandomNumbers) {
    for (const Pass pass : {Pass::forward, Pass::data, Pass::weights}) {
        for (const auto& [in, out] : {std::pair{DType::f32, DType::f32},
                                      {DType::bf16, DType::bf16},
                                      {DType::bf16, DType::f32}}) {
            const ConvolutionProblem p = problem(pass, in, out);
            PlanRunner runner(p, handle_);
            runner.run(plan_with(64));
            const auto type = [&](Pass writer) { return pass == writer ? p.out : p.in; };
            const ConvolutionPointers& at = engine.pointers;
            expect_random(at.x, type(Pass::data), 2 * 5 * 7 * p.x_pitch);
            expect_random(at.w, type(Pass::weights), 4 * 8 * 3 * 3);
            expect_random(at.y, type(Pass::forward), 2 * 3 * 4 * p.y_pitch);
            if (p.bias) expect_random(at.bias, p.in, 4);
            EXPECT_EQ(at.bias != nullptr, p.bias);
        }
    }
    // Larger than the words that are drawn: they are repeated to the end.
    ConvolutionProblem large = problem(Pass::forward, DType::f32, DType::f32);
    large.x.h = 500, large.x.w = 301;
    PlanRunner runner(large, handle_);
    runner.run(plan_with(64));
    expect_random(engine.pointers.x, DType::f32, 2 * 500 * 301 * large.x_pitch);
}

TEST_F(ConvolutionTiming, ARunIsWaitedForAndItsWorkspaceGrows) {
    PlanRunner runner(problem(Pass::data, DType::f32, DType::f32), handle_);
    int runs = 0;
    for (const std::int64_t workspace : {64, 4096}) {
        runner.run(plan_with(workspace));
        EXPECT_EQ(engine.done, ++runs);
    }
    EXPECT_FALSE(shim::work_is_pending());
}

// Short ones several times a launch, from a graph: starting them does not count.
TEST_F(ConvolutionTiming, IsOfOneRun) {
    for (const auto& [nanoseconds, runs] :
         {std::pair<std::int64_t, int>{10'000, 20}, {100'000, 5}, {5'000'000, 1}}) {
        engine = {};
        engine.nanoseconds = nanoseconds;
        PlanRunner runner(problem(Pass::weights, DType::bf16, DType::f32), handle_);
        const double ms = runner.time(plan_with(64)),
                     exact = static_cast<double>(nanoseconds) / 1e6;
        EXPECT_GE(ms, 0.999 * exact);
        EXPECT_LT(ms, 1.5 * exact + 0.05);
        EXPECT_LE(engine.most_captured, runs) << "at least half a millisecond a launch";
        EXPECT_GE(engine.most_captured, 1);
        EXPECT_EQ(engine.done, 2 + 6 * engine.most_captured)
            << "loaded, estimated, warm, five times";
    }
}

TEST_F(ConvolutionTiming, AHopelessEngineRunsTwice) {
    PlanRunner runner(problem(Pass::data, DType::f32, DType::f32), handle_);
    EXPECT_LT(runner.time(plan_with(64)), 2);
    engine.done = 0;
    engine.nanoseconds = 50'000'000;
    EXPECT_GE(runner.time(plan_with(64)), 49);
    EXPECT_EQ(engine.done, 2);
    engine.done = 0;
    engine.nanoseconds = 2'000'000;
    EXPECT_LT(runner.time(plan_with(64)), 4) << "compared with the fastest";
    EXPECT_EQ(engine.done, 8);
}

TEST_F(ConvolutionTiming, AFailureWhileCapturedLeavesNoCapture) {
    for (int run = 0; run < 3; ++run) {  // loads, estimates, captured
        engine = {};
        engine.fails_at = run;
        PlanRunner runner(problem(Pass::data, DType::f32, DType::f32), handle_);
        EXPECT_THROW(runner.time(plan_with(64)), DeviceError);
        EXPECT_EQ(engine.enqueued, run + 1);
        EXPECT_EQ(shim::capturing, nullptr);
        stream_.synchronize();
    }
}

}  // namespace
}  // namespace deeplab::cuda
