#include "pooling.h"

#include <gtest/gtest.h>

#include "device.h"

namespace deeplab::testing {
namespace {

// As many pixels as a block's rows: what is read of the last sample beyond them is another's
// memory, which AddressSanitizer sees.
TEST(PoolingKernel, ReadsNoPixelBeyondTheLast) {
    for (const DType type : {DType::f32, DType::bf16}) {
        for (const std::int64_t side : {16, 32}) {
            const DeviceTensor x(random_in(type, {2, 8, side, side}, 1), type);
            const DeviceTensor y({2, 8, 1, 1}, type);
            cuda::global_average_pool(no_stream, x.view(), y.view());
            const reference::Tensor in = x.values(), out = y.values();
            for (std::int64_t n = 0; n < 2; ++n) {
                for (std::int64_t c = 0; c < 8; ++c) {
                    double sum = 0;
                    for (std::int64_t p = 0; p < side * side; ++p)
                        sum += in.at(n, c, p / side, p % side);
                    EXPECT_NEAR(out.at(n, c, 0, 0), sum / static_cast<double>(side * side), 2e-3);
                }
            }
        }
    }
}

}  // namespace
}  // namespace deeplab::testing
