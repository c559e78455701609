#include "ops/cases.h"

namespace deeplab::testing {
namespace {

// The sums do not even depend on the number of threads.
TEST(Loss, TheNumberOfThreadsDoesNotChangeABit) {
    std::size_t cases = 0;
    for (const OpCase& c : op_cases()) {
        if (c.family != "SegmentationLoss") continue;
        SCOPED_TRACE(c.name);
        const CasePlan p = c.plan();
        const TensorId dlogits = p.inputs.front().second;
        const Ran one(p.t, {.poison = true}, 1), two(p.t);
        EXPECT_EQ(one.result.loss_sum, two.result.loss_sum);
        EXPECT_EQ(one[dlogits], two[dlogits]);
        ++cases;
    }
    EXPECT_GT(cases, 50u);
}

}  // namespace
}  // namespace deeplab::testing
