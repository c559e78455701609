// Sums over ranks in the captured step, as the stand-in for CUDA sees them: priorities, and how
// long they are waited for.

#include <cuda_runtime.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cpu/narrow_network.h"
#include "deeplab/base/error.h"
#include "deeplab/cuda/cuda_backend.h"
#include "harness/device.h"

namespace deeplab::testing {
namespace {

Trainer trainer(const exec::CompileOptions& compile) {
    cuda::CudaOptions nccl;
    nccl.nccl = true;
    return {narrow("resnet18", 16), options(2, 33), compile, cuda::make_cuda_backend(nccl)};
}

// In a replayed graph as in an eager step.
TEST(CapturedStep, SumsKeepTheirPriority) {
    const Trainer t = trainer({.seed = 9});
    int least = 0, greatest = 0;
    cudaDeviceGetStreamPriorityRange(&least, &greatest);
    const Batch batch(2, 33);
    std::vector<std::int64_t> urgent;
    for (int i = 0; i < 3; ++i) {
        const std::int64_t before = shim::counts().work_at[greatest];
        t.executable->run(batch.step());
        urgent.push_back(shim::counts().work_at[greatest] - before);
    }
    EXPECT_GT(urgent[0], 10) << "batch-norm sums and buckets of gradients";
    EXPECT_EQ(urgent[1], urgent[0]);
    EXPECT_EQ(urgent[2], urgent[0]);
}

TEST(WaitForSums, EndsAtTheLimitOrNever) {
    const Batch batch(2, 33);
    {
        const Trainer t = trainer({.seed = 9, .wait_limit_s = 0.2});
        t.executable->start(batch.step());
        shim::look_busy(std::chrono::seconds(2));
        try {
            t.executable->finish();
            ADD_FAILURE() << "the device looked busy for 2 s";
        } catch (const DeviceError& error) {
            EXPECT_THAT(error.what(), ::testing::HasSubstr("the device has not finished within"));
        }
        shim::look_busy({});
    }
    const Trainer t = trainer({.seed = 9, .wait_limit_s = 0});
    t.executable->start(batch.step());
    shim::look_busy(std::chrono::milliseconds(300));
    EXPECT_TRUE(t.executable->finish().finite);
}

}  // namespace
}  // namespace deeplab::testing
