// src/comm/nccl.cpp itself, before a library in NCCL's place that does what tests tell it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <stdexcept>
#include <thread>

#include "cuda_runtime.h"
#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/activity.h"
#include "deeplab/comm/device_communicator.h"
#include "deeplab/math/bf16.h"
#include "fake_nccl.h"
#include "harness/lone_communicator.h"
#include "harness/messages.h"

namespace deeplab::comm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::script;
using testing::seen;
using Calls = std::vector<std::string>;

// One rank's view of many: what it says to all comes back as if each had said it, on a host of its
// own, or as `other` makes another rank's answer of it.
struct Ranks final : testing::LoneCommunicator {
    explicit Ranks(int size) : LoneCommunicator(0, size) {}
    std::function<std::string(const std::string& text, int rank)> other =
        [](const std::string& text, int rank) { return text + std::to_string(rank); };
    std::vector<std::string> all_gather(const std::string& text, const char*) override {
        std::vector<std::string> all = {text};
        for (int rank = 1; rank < size(); ++rank) all.push_back(other(text, rank));
        return all;
    }
};

class NcclTest : public ::testing::Test {
protected:
    void SetUp() override {
        for (const char* name : variables) unsetenv(name);
        testing::reload_nccl();
        cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, 0);
    }
    void TearDown() override {
        cudaStreamDestroy(stream_);
        EXPECT_EQ(seen().alive, 0) << "a communicator is left";
        EXPECT_THAT(seen().broken, IsEmpty());
        for (const char* name : variables) unsetenv(name);
    }

    std::unique_ptr<DeviceCommunicator> make(const std::string& name = "gradients",
                                             double timeout_s = 60) {
        return make_nccl(ranks_, {.name = name, .max_ctas = 8, .timeout_s = timeout_s});
    }
    void sum(DeviceCommunicator& comm, std::vector<float>& values, const char* what = "bucket 2") {
        comm.all_reduce(values.data(), values.size(), DType::f32, stream_, what);
    }
    void wait() { cudaStreamSynchronize(stream_); }

    static constexpr std::array variables = {"NCCL_ALGO", "NCCL_LAUNCH_ORDER_IMPLICIT",
                                             "NCCL_GRAPH_MIXING_SUPPORT"};
    Ranks ranks_{3};
    cudaStream_t stream_ = nullptr;
};

TEST_F(NcclTest, SumsInPlaceAndSaysWhatItIs) {
    const auto comm = make();
    EXPECT_EQ(comm->rank(), 0);
    EXPECT_EQ(comm->size(), 3);
    EXPECT_EQ(comm->description(), "NCCL 2.28.9, 3 ranks");
    EXPECT_EQ(nccl_status(), "nccl: 2.28.9");
    EXPECT_EQ(seen().max_ctas, 8);
    EXPECT_TRUE(comm->capturable());
    std::vector<float> gradients = {1.5f, -2};
    std::array<double, 1> sums = {0.25};
    std::array<std::uint16_t, 1> halves = {math::to_bf16(1.5f)};
    sum(*comm, gradients);
    comm->all_reduce(sums.data(), 1, DType::f64, stream_, "batch-norm sums");
    comm->all_reduce(halves.data(), 1, DType::bf16, stream_, "gradients");
    EXPECT_EQ(comm->last_collective(), "gradients: gradients");
    comm->check();
    wait();
    EXPECT_THAT(gradients, ElementsAre(4.5f, -6));
    EXPECT_EQ(sums[0], 0.75);
    EXPECT_EQ(halves[0], math::to_bf16(4.5f));
    EXPECT_THROW(comm->all_reduce(nullptr, 0, DType::i32, stream_, "counts"), LogicError);
}

TEST_F(NcclTest, EveryCallIsWaitedFor) {
    script().polls = 3;
    {
        const auto comm = make();
        std::vector<float> values = {1};
        sum(*comm, values);
        sum(*comm, values);
        wait();
        EXPECT_EQ(values[0], 9);
    }
    EXPECT_EQ(seen().calls, (Calls{"set-up", "all-reduce", "all-reduce", "shut-down", "freed"}));
}

// A watchdog sees that a rank waits for the others, and in what.
TEST_F(NcclTest, WaitingIsInsideACollective) {
    script().polls = -1;
    std::string inside;
    std::atomic<bool> stop = false;
    std::thread watcher([&] {
        while (!stop && inside.empty()) inside = activity().collective;
    });
    const std::string text = testing::message_of<DeviceError>([&] { make("gradients", 0.2); });
    stop = true;
    watcher.join();
    EXPECT_EQ(inside, "NCCL: set-up of \"gradients\"");
    EXPECT_EQ(activity().collective, "");
}

TEST_F(NcclTest, ASetUpThatDoesNotEndTimesOut) {
    script().polls = -1;
    const auto begin = std::chrono::steady_clock::now();
    const std::string text = testing::message_of<DeviceError>([&] { make("gradients", 0.05); });
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
    EXPECT_THAT(text, HasSubstr("NCCL has not finished set-up of \"gradients\" within 0.1 s"));
    EXPECT_EQ(seen().calls, (Calls{"set-up", "group", "abort", "end of group"}));
}

TEST_F(NcclTest, ErrorsSayWhatTheLibrarySays) {
    script().polls = 2;
    script().fail_at = 0;
    script().detail = "socket of rank 2 is closed\n";
    EXPECT_THAT(testing::message_of<DeviceError>([&] { make(); }),
                HasSubstr("NCCL failed in set-up of \"gradients\": unhandled system error (socket "
                          "of rank 2 is closed) — "));
    EXPECT_THAT(seen().calls, ::testing::Contains("abort"));

    script().without_ids = true;
    EXPECT_THAT(testing::message_of<DeviceError>([&] { make(); }),
                HasSubstr("the choice of an id"));
}

// NCCL itself would say so in the middle of its set-up, on some ranks.
TEST_F(NcclTest, RanksThatShareADeviceAreNamed) {
    ranks_.other = [](const std::string& text, int rank) {
        return rank == 2 ? text : text + " of another";
    };
    const std::string text = testing::message_of<DeviceError>([&] { make(); });
    EXPECT_THAT(text, HasSubstr("ranks 0 and 2 share " + log::host() + " device 0000:1A:00.0 — "));
    EXPECT_THAT(seen().calls, IsEmpty());
}

TEST_F(NcclTest, ARankWithoutADeviceIsNamed) {
    ranks_.other = [](const std::string& text, int rank) {
        return rank == 1 ? "!node1: no CUDA-capable device is detected" : text;
    };
    EXPECT_THAT(testing::message_of<DeviceError>([&] { make(); }),
                HasSubstr("rank 1 has no device (node1: no CUDA-capable device is detected) — "));
    EXPECT_THAT(seen().calls, IsEmpty());
}

// As on nodes of one kind.
TEST_F(NcclTest, DevicesOfTwoHostsMayHaveTheSamePlace) {
    ranks_.other = [](const std::string& text, int rank) {
        const std::string host = log::host();
        return text.starts_with(host) ? cat("node", rank, text.substr(host.size())) : text;
    };
    EXPECT_EQ(testing::message_of<DeviceError>([&] { make(); }), "");
}

TEST_F(NcclTest, AGroupLeavesTogetherAndIsWaitedForAtItsEnd) {
    script().polls = 2;
    {
        const auto comm = make();
        std::vector<float> a = {1}, b = {2};
        comm->group_start();
        sum(*comm, a);
        sum(*comm, b);
        comm->group_end();
        EXPECT_THROW(comm->group_end(), LogicError);
        wait();
        EXPECT_EQ(a[0], 3);
        EXPECT_EQ(b[0], 6);
    }
    EXPECT_EQ(seen().calls, (Calls{"set-up", "group", "all-reduce", "all-reduce", "end of group",
                                   "shut-down", "freed"}));
}

TEST_F(NcclTest, AGroupThatFailsIsNamed) {
    const auto comm = make();
    std::vector<float> values = {1};
    comm->group_start();
    sum(*comm, values);
    script().fail_at = 1;
    EXPECT_THAT(testing::message_of<DeviceError>([&] { comm->group_end(); }),
                HasSubstr("NCCL failed in a group"));
    EXPECT_THROW(sum(*comm, values), LogicError);
}

// Within a group that is open nothing is aborted before its end.
TEST_F(NcclTest, AnAbortEndsTheGroupThatFailed) {
    const auto comm = make();
    std::vector<float> values = {1};
    comm->group_start();
    sum(*comm, values);
    comm->abort({});
    EXPECT_EQ(seen().alive, 0);
    EXPECT_EQ(seen().calls, (Calls{"set-up", "group", "all-reduce", "end of group", "group",
                                   "abort", "end of group"}));
}

TEST_F(NcclTest, ALostRankIsToldAndNothingIsAborted) {
    {
        const auto comm = make();
        std::vector<float> values = {1};
        sum(*comm, values);
        comm->check();
        script().fails_later = true;
        EXPECT_THAT(testing::message_of<DeviceError>([&] { comm->check(); }),
                    HasSubstr("NCCL failed in bucket 2 of \"gradients\": remote process exited"));
        EXPECT_THAT(seen().calls, Not(::testing::Contains("abort")));
    }
    // A failed one is not shut down: that would wait for the lost rank.
    EXPECT_EQ(seen().calls, (Calls{"set-up", "all-reduce", "group", "abort", "end of group"}));
}

// NCCL waits in an abort until no graph holds an operation, and work of one communicator may wait
// for the other's.
TEST_F(NcclTest, AllAreAbortedInOneGroup) {
    const auto gradients = make(), sums = make("batch-norm sums");
    std::vector<float> a = {1}, b = {2};
    sum(*gradients, a);
    sum(*sums, b);
    wait();
    const std::array all = {gradients.get(), sums.get()};
    abort_all(all);
    EXPECT_EQ(Calls(seen().calls.begin() + 4, seen().calls.end()),
              (Calls{"group", "abort", "group", "abort", "end of group", "end of group"}));
    EXPECT_EQ(seen().alive, 0);
    abort_all({});
}

TEST_F(NcclTest, AShutDownThatFailsIsAWarning) {
    {
        const auto comm = make("gradients", 0.05);
        script().polls = -1;
    }
    EXPECT_EQ(seen().calls, (Calls{"set-up", "shut-down", "group", "abort", "end of group"}));
}

TEST_F(NcclTest, NobodyIsWaitedForWhileAnExceptionUnwinds) {
    try {
        const auto comm = make();
        throw std::runtime_error("another error");
    } catch (const std::runtime_error&) {
    }
    EXPECT_EQ(seen().calls, (Calls{"set-up", "group", "abort", "end of group"}));
}

TEST_F(NcclTest, VariablesAreThereBeforeTheFirstCommunicator) {
    make_nccl(ranks_, {.name = "gradients", .deterministic = true});
    EXPECT_EQ(seen().variables["NCCL_ALGO"], "^NVLS,NVLSTree,CollNetDirect,CollNetChain");
    EXPECT_EQ(seen().variables["NCCL_LAUNCH_ORDER_IMPLICIT"], "1");
    EXPECT_EQ(seen().variables["NCCL_GRAPH_MIXING_SUPPORT"], "0");
    EXPECT_THAT(nccl_variables(), ::testing::IsSupersetOf({"NCCL_GRAPH_MIXING_SUPPORT=0",
                                                           "NCCL_LAUNCH_ORDER_IMPLICIT=1"}));
}

TEST_F(NcclTest, VariablesOfTheUserStay) {
    setenv("NCCL_ALGO", "Ring", 1);
    setenv("NCCL_LAUNCH_ORDER_IMPLICIT", "0", 1);
    make_nccl(ranks_, {.name = "gradients", .deterministic = true});
    EXPECT_EQ(seen().variables["NCCL_ALGO"], "Ring");
    EXPECT_EQ(seen().variables["NCCL_LAUNCH_ORDER_IMPLICIT"], "0");
}

TEST_F(NcclTest, AlgorithmsAreFreeWhereBitsMayDiffer) {
    make_nccl(ranks_, {.name = "gradients", .deterministic = false});
    EXPECT_FALSE(seen().variables.contains("NCCL_ALGO"));
}

// It refuses names that it does not know.
TEST_F(NcclTest, AnOldLibraryIsToldOfTheAlgorithmsThatItHas) {
    script().version = 21701;
    make_nccl(ranks_, {.name = "gradients"});
    EXPECT_EQ(seen().variables["NCCL_ALGO"], "^NVLS,CollNetDirect,CollNetChain");
}

TEST_F(NcclTest, AnOldLibraryWithoutOrderIsAWarningWhereItMatters) {
    const auto text_of_two = [&] {
        ::testing::internal::CaptureStderr();
        const auto gradients = make();
        const std::string alone = ::testing::internal::GetCapturedStderr();
        EXPECT_EQ(alone, "");
        ::testing::internal::CaptureStderr();
        make("batch-norm sums");
        return ::testing::internal::GetCapturedStderr();
    };
    EXPECT_EQ(text_of_two(), "");
    script().version = 22505;
    EXPECT_THAT(text_of_two(), HasSubstr("NCCL 2.25.5 does not order the kernels of two"));
}

// What the stand-in refuses, which tests of the executor lean on.
TEST_F(NcclTest, ParallelCommunicatorsNeedAnOrder) {
    setenv("NCCL_LAUNCH_ORDER_IMPLICIT", "0", 1);
    cudaStream_t other = nullptr;
    cudaEvent_t event = nullptr;
    cudaStreamCreateWithPriority(&other, cudaStreamNonBlocking, 0);
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    for (const bool with_order : {true, false}) {
        SCOPED_TRACE(with_order);
        const auto gradients = make(), sums = make("batch-norm sums");
        std::vector<float> a = {1}, b = {2};
        cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal);
        cudaEventRecord(event, stream_);
        if (!with_order) cudaStreamWaitEvent(other, event, 0);
        sum(*gradients, a);
        cudaEventRecord(event, stream_);
        if (with_order) cudaStreamWaitEvent(other, event, 0);
        const std::string text = testing::message_of<DeviceError>(
            [&] { sums->all_reduce(b.data(), 1, DType::f32, other, "batch norm"); });
        EXPECT_EQ(text.empty(), with_order) << text;
        cudaEventRecord(event, other);
        cudaStreamWaitEvent(stream_, event, 0);
        cudaGraph_t graph = nullptr;
        ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
        cudaGraphDestroy(graph);
        const std::array all = {gradients.get(), sums.get()};
        abort_all(all);
    }
    EXPECT_THAT(seen().broken, ElementsAre("two communicators in parallel without an order"));
    seen().broken.clear();
    cudaEventDestroy(event);
    cudaStreamDestroy(other);
}

TEST_F(NcclTest, AbortsWaitForGraphs) {
    const auto comm = make();
    std::vector<float> values = {1};
    cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal);
    sum(*comm, values);
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t ready = nullptr;
    cudaStreamEndCapture(stream_, &graph);
    cudaGraphInstantiate(&ready, graph, 0);
    cudaGraphDestroy(graph);
    comm->abort({});
    EXPECT_THAT(seen().broken, ElementsAre(HasSubstr("a graph holds its operations")));
    seen().broken.clear();
    cudaGraphExecDestroy(ready);
}

}  // namespace
}  // namespace deeplab::comm
