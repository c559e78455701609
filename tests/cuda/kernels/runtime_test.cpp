#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "deeplab/base/error.h"
#include "device.h"
#include "harness/messages.h"

namespace deeplab::testing {
namespace {

TEST(Runtime, BuffersMoveAndKnowTheirSize) {
    cuda::DeviceBuffer a(100, "a test");
    const void* memory = a.data();
    cuda::DeviceBuffer b = std::move(a);
    EXPECT_EQ(b.data(), memory);
    EXPECT_EQ(b.bytes(), 100u);
    a = cuda::DeviceBuffer(7, "a test");
    std::swap(a, b);
    EXPECT_EQ(a.data(), memory);
    EXPECT_EQ(b.bytes(), 7u);
    EXPECT_EQ(cuda::PinnedBuffer().data(), nullptr);
}

TEST(Runtime, FailuresNameWhatWasAsked) {
    EXPECT_THAT(
        message_of<DeviceError>([] { cuda::DeviceBuffer(std::size_t{1} << 40, "the arena"); }),
        ::testing::HasSubstr("out of device memory in the arena"));
    EXPECT_THAT(
        message_of<DeviceError>([] { cuda::PinnedBuffer(std::size_t{1} << 40, "a batch"); }),
        ::testing::AllOf(::testing::HasSubstr("out of pinned host memory in a batch, which "
                                              "needs 1.00 TiB"),
                         ::testing::HasSubstr("ulimit -l"),
                         ::testing::Not(::testing::HasSubstr("device memory"))));
    EXPECT_THAT(message_of<DeviceError>([] { cuda::check(cudaErrorInvalidValue, "sums"); }),
                ::testing::HasSubstr("CUDA failed in sums: invalid argument"));
}

TEST(Runtime, StreamsWaitForEvents) {
    cuda::Stream compute, communication(cuda::Stream::Priority::high);
    cuda::Event done(cudaEventDisableTiming);
    done.record(compute.get());
    communication.wait(done.get());
    communication.synchronize();
    EXPECT_NE(compute.get(), communication.get());
}

}  // namespace
}  // namespace deeplab::testing
