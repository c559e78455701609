#include "elementwise.h"

#include <gtest/gtest.h>

#include "device.h"

namespace deeplab::testing {
namespace {

// No plan has it, the kernel takes it.
TEST(ElementwiseKernels, SumOfOne) {
    for (const Shape& shape : {Shape{2, 64, 9, 7}, Shape{3, 21, 5, 5}, Shape{1, 2048, 3, 1}}) {
        for (const Margin& margin : {Margin{}, Margin{8, 16}, Margin{1, 2}}) {
            for (const DType type : {DType::f32, DType::bf16}) {
                const reference::Tensor x = random_in(type, shape, 20);
                const DeviceTensor in(x, type), out(shape, type, margin);
                cuda::sum(no_stream, {in.view()}, out.view());
                EXPECT_EQ(out.values().data, x.data);
                EXPECT_TRUE(out.margin_untouched());
            }
        }
    }
}

}  // namespace
}  // namespace deeplab::testing
