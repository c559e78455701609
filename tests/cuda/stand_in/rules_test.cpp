// What the stand-in for CUDA refuses or complains about, as CUDA's documents do: calls that a test
// of the executor leans on.

#include <cuda_runtime.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/nccl/fake_nccl.h"
#include "cpu/narrow_network.h"
#include "cuda/executor/host_engines.h"
#include "deeplab/base/error.h"
#include "deeplab/comm/device_communicator.h"
#include "deeplab/cuda/cuda_backend.h"
#include "harness/device.h"

namespace deeplab {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class StandInRules : public ::testing::Test {
protected:
    void SetUp() override {
        testing::reload_nccl();
        cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, 0);
        cudaMalloc(&memory_, 64);
    }
    void TearDown() override {
        cudaStreamDestroy(stream_);
        cudaFree(memory_);
        testing::host_library() = {};
    }
    cudaStream_t stream_ = nullptr;
    void* memory_ = nullptr;
};

TEST_F(StandInRules, TimesAreOfTimedEventsThatWereReached) {
    const shim::OtherSchedule late(shim::Schedule::late);
    cudaEvent_t from = nullptr, to = nullptr, untimed = nullptr;
    cudaEventCreateWithFlags(&from, cudaEventDefault);
    cudaEventCreateWithFlags(&to, cudaEventDefault);
    cudaEventCreateWithFlags(&untimed, cudaEventDisableTiming);
    float ms = -1;
    EXPECT_EQ(cudaEventElapsedTime(&ms, from, to), cudaErrorInvalidResourceHandle);
    for (const cudaEvent_t event : {from, to, untimed}) cudaEventRecord(event, stream_);
    EXPECT_EQ(cudaEventElapsedTime(&ms, from, to), cudaErrorNotReady);
    cudaStreamSynchronize(stream_);
    EXPECT_EQ(cudaEventElapsedTime(&ms, from, untimed), cudaErrorInvalidResourceHandle);
    EXPECT_EQ(cudaEventElapsedTime(&ms, from, to), cudaSuccess);
    EXPECT_GE(ms, 0);
    for (const cudaEvent_t event : {from, to, untimed}) cudaEventDestroy(event);
}

// cudaFree waits for the device: for other ranks, where the step does.
TEST_F(StandInRules, NothingIsFreedDuringAStep) {
    const shim::OtherSchedule late(shim::Schedule::late);
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t ready = nullptr;
    cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal);
    cudaMemsetAsync(memory_, 0, 64, stream_);
    cudaStreamEndCapture(stream_, &graph);
    cudaGraphInstantiate(&ready, graph, 0);
    void* other = nullptr;
    cudaMalloc(&other, 64);
    cudaGraphLaunch(ready, stream_);
    cudaFree(other);
    EXPECT_THAT(shim::take_complaints(), ElementsAre(HasSubstr("freed during a step")));
    cudaStreamSynchronize(stream_);
    cudaGraphExecDestroy(ready);
    cudaGraphDestroy(graph);
}

TEST_F(StandInRules, SumsOverRanksReadWhatWasWrittenAsTheirType) {
    const auto world = comm::make_self();
    const auto sums = comm::make_nccl(*world, {.name = "gradients"});
    shim::note_written(memory_, 64, shim::Type::bf16);
    sums->all_reduce(memory_, 32, DType::bf16, stream_, "gradients");
    cudaStreamSynchronize(stream_);
    EXPECT_THAT(shim::take_complaints(), ::testing::IsEmpty());
    sums->all_reduce(memory_, 16, DType::f32, stream_, "gradients");
    cudaStreamSynchronize(stream_);
    EXPECT_THAT(shim::take_complaints(), ElementsAre(HasSubstr("written as another type")));
}

// A convolution that is refused in a step ends it.
TEST_F(StandInRules, AnEngineThatFailsInAStepIsTold) {
    testing::Trainer t(testing::narrow("resnet18", 16), testing::options(2, 33), {.seed = 9},
                       testing::device(0));
    testing::host_library().fails_in_a_step = [](const std::string&, std::int64_t) {
        throw DeviceError("CUDNN_STATUS_EXECUTION_FAILED");
    };
    const testing::Batch batch(2, 33);
    EXPECT_THROW(t.executable->run(batch.step()), DeviceError);
    testing::host_library() = {};
    EXPECT_TRUE(t.executable->run(batch.step()).finite);
}

}  // namespace
}  // namespace deeplab
