// Sums over ranks on streams of their own, in the captured step; and what waiting for them took.

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "cpu/narrow_network.h"
#include "deeplab/base/error.h"
#include "deeplab/cuda/cuda_backend.h"
#include "harness/device.h"
#include "twin.h"

namespace deeplab {
namespace {

using testing::Batch;
using testing::narrow;
using testing::Trainer;

// A sum over one rank changes nothing, but everything has to wait for it.
TEST(Nccl, SlowOfOneRankGivesTheSameBits) {
    cuda::CudaOptions nccl;
    nccl.nccl = true;
    nccl.engines = cuda::EnginePolicy::first;
    for (const bool overlap : {true, false}) {
        const exec::CompileOptions compile{.seed = 9, .overlap = overlap};
        Trainer tested(narrow("resnet18", 16), testing::options(2, 33), compile,
                       cuda::make_cuda_backend(nccl)),
            expected(narrow("resnet18", 16), testing::options(2, 33), compile, testing::device(0));
        const Batch batch(2, 33);
        for (int i = 0; i < 6; ++i) {
            exec::MicroBatch step = batch.step();
            step.first_micro = i % 2 == 0;
            step.last_micro = i % 2 == 1;
            const exec::MicroBatchResult a = tested.executable->run(step),
                                         b = expected.executable->run(step);
            EXPECT_EQ(a.loss_sum, b.loss_sum) << i;
            EXPECT_EQ(a.gradient_norm, b.gradient_norm) << i;
            EXPECT_GE(a.comm_exposed_s, 0);
            EXPECT_LT(a.comm_exposed_s, 60);
            EXPECT_EQ(b.comm_exposed_s, 0);
        }
        EXPECT_EQ(tested.state(), expected.state());
    }
}

// Through host memory every sum holds up the computation.
TEST(CommExposed, IsTheTimeOfSumsThroughTheHost) {
    const char* order = std::getenv("DEEPLAB_TEST_STREAMS");
    if (order != nullptr && std::string(order) != "at-once")
        GTEST_SKIP() << "streams of the stand-in that wait know no time";
    constexpr std::chrono::milliseconds delay{20};
    exec::CompileOptions compile{.seed = 9};
    Trainer t(narrow("resnet18", 16), testing::options(2, 33), compile, testing::device(0));
    auto twin = std::make_unique<testing::Twin>(delay);
    const testing::Twin& other = *twin;
    t.gradients = std::move(twin);
    t.executable = t.backend->compile(t.plan, t.communicators(), compile);
    const Batch batch(2, 33);
    for (const bool last : {false, true}) {
        exec::MicroBatch step = batch.step(0);
        step.last_micro = last;
        const auto begin = std::chrono::steady_clock::now();
        const double exposed = t.executable->run(step).comm_exposed_s;
        const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
        if (!last) {
            EXPECT_EQ(exposed, 0);
            continue;
        }
        ASSERT_GT(other.sums, 0);
        EXPECT_GT(exposed, 0.99 * other.sums * std::chrono::duration<double>(delay).count());
        EXPECT_LT(exposed, taken.count());
    }
}

}  // namespace
}  // namespace deeplab
