// What sums over ranks cost a captured step, on the clock of the stand-in's device, which knows to
// the nanosecond what runs beside what.

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "comm/nccl/fake_nccl.h"
#include "cpu/narrow_network.h"
#include "deeplab/cuda/cuda_backend.h"
#include "harness/device.h"

namespace deeplab::testing {
namespace {

struct Cost {
    double exposed_s = 0, step_s = 0;
    std::int64_t sums = 0;
};

Cost cost(std::int64_t nanoseconds_of_a_sum, bool overlap) {
    reload_nccl();
    script().sum_takes = nanoseconds_of_a_sum;
    cuda::CudaOptions nccl;
    nccl.nccl = true;
    Cost found;
    {
        const Trainer t(narrow("resnet18", 16), options(2, 33), {.seed = 9, .overlap = overlap},
                        cuda::make_cuda_backend(nccl));
        const Batch batch(2, 33);
        double first = 0;
        for (int i = 0; i < 4; ++i) {
            const auto before = std::count(seen().calls.begin(), seen().calls.end(), "all-reduce");
            found.exposed_s = t.executable->run(batch.step()).comm_exposed_s;
            found.step_s = static_cast<double>(shim::counts().graph_nanoseconds) / 1e9;
            if (i == 0)
                found.sums = std::count(seen().calls.begin(), seen().calls.end(), "all-reduce") -
                             before;
            if (i == 2) first = found.exposed_s;
        }
        EXPECT_DOUBLE_EQ(found.exposed_s, first) << "a replay takes what the one before it took";
    }
    reload_nccl();
    return found;
}

// The computation's own time is the same: a step is longer by what it waits for.
TEST(ExposedSums, AreWhatLengthensTheStep) {
    constexpr double few_kernels = 10e-6;
    for (const bool overlap : {true, false}) {
        const Cost nothing = cost(0, overlap);
        EXPECT_LT(nothing.exposed_s, nothing.step_s);
        for (const std::int64_t nanoseconds : {20'000, 1'000'000}) {
            const Cost some = cost(nanoseconds, overlap);
            const double longer = some.step_s - nothing.step_s,
                         waited = some.exposed_s - nothing.exposed_s,
                         all = static_cast<double>(some.sums * nanoseconds) / 1e9;
            EXPECT_NEAR(waited, longer, few_kernels) << nanoseconds << " ns, overlap " << overlap;
            EXPECT_GT(waited, 0);
            EXPECT_LT(waited, all) << "some sums run beside the computation";
        }
    }
}

}  // namespace
}  // namespace deeplab::testing
