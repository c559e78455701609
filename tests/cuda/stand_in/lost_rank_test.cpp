// What the executor does with NCCL when another rank is lost: not seen on a device, where a mistake
// would wait for ever. src/comm/nccl.cpp before the library in NCCL's place, which knows the rules.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <stdexcept>
#include <string>

#include "comm/nccl/fake_nccl.h"
#include "cpu/narrow_network.h"
#include "cuda/shim/streams.h"
#include "deeplab/base/error.h"
#include "deeplab/cuda/cuda_backend.h"
#include "harness/device.h"

namespace deeplab {
namespace {

using testing::Batch;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::narrow;
using testing::script;
using testing::seen;
using testing::Trainer;

class LostRank : public ::testing::Test {
protected:
    void SetUp() override { testing::reload_nccl(); }
    void TearDown() override {
        EXPECT_EQ(seen().alive, 0);
        EXPECT_THAT(seen().broken, IsEmpty());
        EXPECT_EQ(shim::hang.waits, 0) << "waits for work that waits for a lost rank";
        testing::reload_nccl();
    }
    // Has taken three steps: the third from a graph.
    static std::unique_ptr<Trainer> trained() {
        cuda::CudaOptions options;
        options.nccl = true;
        auto trainer = std::make_unique<Trainer>(narrow("resnet18", 16), testing::options(2, 33),
                                                 exec::CompileOptions{.seed = 9},
                                                 cuda::make_cuda_backend(options));
        for (int i = 0; i < 3; ++i) trainer->executable->run(Batch(2, 33).step());
        return trainer;
    }
    static std::string lost_in_step(Trainer& trainer) {
        const Batch batch(2, 33);
        trainer.executable->start(batch.step());
        shim::hang.now = true;
        script().fails_later = true;
        try {
            trainer.executable->finish();
        } catch (const DeviceError& error) {
            return error.what();
        }
        return "";
    }
};

TEST_F(LostRank, IsToldAndThenGraphsGoBeforeTheCommunicatorsAreAborted) {
    auto trainer = trained();
    EXPECT_THAT(lost_in_step(*trainer), HasSubstr("NCCL failed in gradients of \"gradients\": "
                                                  "remote process exited"));
    EXPECT_EQ(seen().alive, 2) << "nothing is aborted before the message";
}

TEST_F(LostRank, TheSameWhileAnExceptionUnwinds) {
    try {
        const auto trainer = trained();
        trainer->executable->start(Batch(2, 33).step());
        shim::hang.now = true;
        throw std::runtime_error("a broken record");
    } catch (const std::runtime_error&) {
    }
}

TEST_F(LostRank, ARunThatEndsWellShutsNcclDown) {
    { const auto trainer = trained(); }
    EXPECT_THAT(seen().calls, ::testing::Not(::testing::Contains("abort")));
}

// Gradients and batch-norm sums leave in branches of one graph.
TEST_F(LostRank, TheTwoCommunicatorsOfAStepHaveAnOrder) {
    { const auto trainer = trained(); }
    EXPECT_EQ(seen().variables["NCCL_LAUNCH_ORDER_IMPLICIT"], "1");
    EXPECT_EQ(seen().variables["NCCL_ALGO"], "^NVLS,NVLSTree,CollNetDirect,CollNetChain");
    EXPECT_THAT(seen().broken, IsEmpty());
}

}  // namespace
}  // namespace deeplab
