// src/comm/nccl.cpp between processes: the library in NCCL's place sums over them, and tells ranks
// whose calls differ, for whom NCCL would wait for ever.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>

#include "cuda_runtime.h"
#include "deeplab/base/error.h"
#include "deeplab/comm/device_communicator.h"
#include "deeplab/math/bf16.h"
#include "fake_nccl.h"
#include "harness/mpi.h"

namespace deeplab::comm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::seen;
using testing::world;

class NcclRanks : public ::testing::Test {
protected:
    void SetUp() override {
        testing::reload_nccl();
        cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, 0);
        cudaStreamCreateWithPriority(&other_, cudaStreamNonBlocking, 0);
        cudaEventCreateWithFlags(&event_, cudaEventDisableTiming);
        cudaEventCreateWithFlags(&beside_, cudaEventDisableTiming);
        world().barrier("start of a test");
    }
    void TearDown() override {
        cudaEventDestroy(beside_);
        cudaEventDestroy(event_);
        cudaStreamDestroy(other_);
        cudaStreamDestroy(stream_);
        EXPECT_EQ(seen().alive, 0);
        EXPECT_THAT(seen().broken, IsEmpty());
        world().barrier("end of a test");
    }

    static std::unique_ptr<DeviceCommunicator> make(const char* name = "gradients") {
        return make_nccl(world(), {.name = name, .max_ctas = 8});
    }
    // What waiting for `stream` ends with; empty: all is there. Then the graph goes, and after a
    // failure the communicators.
    std::string outcome(std::initializer_list<DeviceCommunicator*> communicators,
                        cudaStream_t stream, cudaGraphExec_t graph = nullptr) {
        cudaEventRecord(event_, stream);
        cudaEventRecord(beside_, other_);
        const std::vector<DeviceCommunicator*> all = communicators;
        const auto done = [&] {  // the device goes on with one stream where another waits
            const bool beside = cudaEventQuery(beside_) == cudaSuccess;
            return cudaEventQuery(event_) == cudaSuccess && beside;
        };
        std::string failure;
        try {
            wait_until(done, all, 60);
        } catch (const DeviceError& error) {
            failure = error.what();
        }
        if (graph != nullptr) cudaGraphExecDestroy(graph);
        if (!failure.empty()) abort_all(all);
        return failure;
    }
    // Every rank is told how the ranks differ.
    void expect_told(const std::string& told, const std::string& how) {
        if (world().size() == 1) {
            EXPECT_EQ(told, "");
            return;
        }
        EXPECT_THAT(told, HasSubstr("NCCL failed in "));
        EXPECT_THAT(told, HasSubstr("ranks differ: rank "));
        EXPECT_THAT(told, HasSubstr(how));
        EXPECT_THAT(seen().broken, ::testing::SizeIs(::testing::Ge(1u)));
        seen().broken.clear();
    }
    static bool first() { return world().rank() == 0; }

    // Calls that differ are found while they are waited for.
    const shim::OtherSchedule late_{shim::Schedule::late};
    cudaStream_t stream_ = nullptr, other_ = nullptr;
    cudaEvent_t event_ = nullptr, beside_ = nullptr;
    std::array<float, 4> values_{1, 2, 3, 4};
};

TEST_F(NcclRanks, AreSummedInTheirOrder) {
    const auto comm = make();
    const int ranks = world().size(), rank = world().rank();
    std::vector<float> gradients = {1.5f, static_cast<float>(rank)};
    std::vector<double> sums = {0.25, static_cast<double>(rank)};
    // 256 + 1 is a tie in bf16, rounded to 256 at every rank.
    std::array halves = {math::to_bf16(rank == 0 ? 256.0f : 1.0f), math::to_bf16(1.5f)};
    comm->all_reduce(gradients.data(), 2, DType::f32, stream_, "gradients");
    comm->all_reduce(sums.data(), 2, DType::f64, stream_, "batch-norm sums");
    comm->all_reduce(halves.data(), 2, DType::bf16, stream_, "gradients");
    comm->all_reduce(nullptr, 0, DType::f32, stream_, "nothing");
    ASSERT_EQ(outcome({comm.get()}, stream_), "");
    const float triangle = static_cast<float>(ranks * (ranks - 1) / 2);
    EXPECT_EQ(gradients, (std::vector<float>{1.5f * static_cast<float>(ranks), triangle}));
    EXPECT_EQ(sums, (std::vector<double>{0.25 * ranks, static_cast<double>(triangle)}));
    EXPECT_EQ(halves[0], math::to_bf16(256));
    EXPECT_EQ(halves[1], math::to_bf16(1.5f * static_cast<float>(ranks)));
}

TEST_F(NcclRanks, AreWaitedForAndTheHostGoesOn) {
    const auto comm = make();
    if (first()) {
        comm->all_reduce(values_.data(), 4, DType::f32, stream_, "gradients");
        cudaEventRecord(event_, stream_);
        const cudaError_t alone = world().size() == 1 ? cudaSuccess : cudaErrorNotReady;
        for (int i = 0; i < 3; ++i) EXPECT_EQ(cudaEventQuery(event_), alone);
    }
    world().barrier("the first rank has begun");
    if (!first()) comm->all_reduce(values_.data(), 4, DType::f32, stream_, "gradients");
    ASSERT_EQ(outcome({comm.get()}, stream_), "");
    EXPECT_EQ(values_[3], 4.0f * static_cast<float>(world().size()));
}

TEST_F(NcclRanks, WithOtherCountsOrTypesAreTold) {
    {
        const auto comm = make();
        comm->all_reduce(values_.data(), first() ? 4 : 3, DType::f32, stream_, "gradients");
        expect_told(outcome({comm.get()}, stream_), "a sum of 3 f32");
    }
    const auto comm = make();
    comm->all_reduce(values_.data(), 2, first() ? DType::f32 : DType::f64, stream_, "gradients");
    expect_told(outcome({comm.get()}, stream_), "a sum of 2 f64");
}

// NCCL's guide: "whether captured or not must be uniform over ranks".
class NcclGraphs : public NcclRanks {
protected:
    cudaGraphExec_t captured(DeviceCommunicator& comm) {
        cudaGraph_t graph = nullptr;
        cudaGraphExec_t ready = nullptr;
        cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal);
        comm.all_reduce(values_.data(), 4, DType::f32, stream_, "gradients");
        EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
        cudaGraphInstantiate(&ready, graph, cudaGraphInstantiateFlagUseNodePriority);
        cudaGraphDestroy(graph);
        return ready;
    }
};

TEST_F(NcclGraphs, SumAtEveryLaunch) {
    const auto comm = make();
    const cudaGraphExec_t graph = captured(*comm);
    float expected = 1;
    for (int i = 0; i < 3; ++i) {
        cudaGraphLaunch(graph, stream_);
        ASSERT_EQ(outcome({comm.get()}, stream_), "");
        expected *= static_cast<float>(world().size());
        EXPECT_EQ(values_[0], expected);
    }
    cudaGraphExecDestroy(graph);
}

TEST_F(NcclGraphs, AreOfAllRanksOrNone) {
    const auto comm = make();
    cudaGraphExec_t graph = nullptr;
    if (first()) {
        graph = captured(*comm);
        cudaGraphLaunch(graph, stream_);
    } else {
        comm->all_reduce(values_.data(), 4, DType::f32, stream_, "gradients");
    }
    expect_told(outcome({comm.get()}, stream_, graph), "place 1 of capture 1");
}

// A rank that captures once more than the others, as after an evaluation of its own.
TEST_F(NcclGraphs, AreCapturedByAllRanksAgainOrByNone) {
    const auto comm = make();
    cudaGraphExec_t graph = captured(*comm);
    if (first()) {
        cudaGraphExecDestroy(graph);
        graph = captured(*comm);
    }
    cudaGraphLaunch(graph, stream_);
    expect_told(outcome({comm.get()}, stream_, graph), "of capture 2");
}

// Two communicators whose operations are called in another order here than there.
TEST_F(NcclRanks, WithAnotherOrderOfCommunicatorsAreTold) {
    const auto gradients = make(), sums = make("batch-norm sums");
    DeviceCommunicator* const order[] = {gradients.get(), sums.get()};
    for (const int i : {0, 1}) {
        order[first() ? i : 1 - i]->all_reduce(values_.data() + 2 * (first() ? i : 1 - i), 2,
                                               DType::f32, i == 0 ? stream_ : other_, "values");
    }
    expect_told(outcome({gradients.get(), sums.get()}, stream_), "number 2 of the process");
}

TEST_F(NcclGraphs, HaveNoOperationBesideThem) {
    const auto comm = make();
    const cudaGraphExec_t graph = captured(*comm);
    cudaGraphLaunch(graph, stream_);
    EXPECT_THROW(comm->all_reduce(values_.data(), 4, DType::f32, stream_, "gradients"),
                 DeviceError);
    EXPECT_THAT(seen().broken, ElementsAre(HasSubstr("beside a graph")));
    seen().broken.clear();
    cudaStreamSynchronize(stream_);
    cudaGraphExecDestroy(graph);
}

TEST_F(NcclGraphs, GoBeforeTheirCommunicator) {
    auto comm = make();
    const cudaGraphExec_t graph = captured(*comm);
    comm.reset();
    EXPECT_THAT(seen().broken, ElementsAre(HasSubstr("a shut-down would wait for ever")));
    seen().broken.clear();
    cudaGraphExecDestroy(graph);
}

}  // namespace
}  // namespace deeplab::comm
