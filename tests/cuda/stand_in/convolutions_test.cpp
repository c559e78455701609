// What the executor asks of the library in cuDNN's place.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cpu/narrow_network.h"
#include "cuda/executor/host_engines.h"
#include "deeplab/cuda/cuda_backend.h"
#include "harness/device.h"

namespace deeplab::testing {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;

// The problems of a training's convolutions, as keys of their engines.
std::vector<std::string> keys(const cuda::CudaOptions& cuda, bool deterministic, DType type) {
    host_library() = {};
    exec::CompileOptions compile{.seed = 9};
    compile.deterministic = deterministic;
    const Trainer t(narrow("resnet18", 16), options(2, 33), compile, cuda::make_cuda_backend(cuda),
                    type);
    std::vector<std::string> all;
    for (const auto& [key, engine] : host_library().chosen) all.push_back(key);
    host_library() = {};
    EXPECT_GT(all.size(), 20u);
    return all;
}

// An engine that may differ from run to run, or sees inputs of ten bits, is taken only where that
// was asked for.
TEST(Convolutions, AreAsExactAsTheOptionsSay) {
    const cuda::CudaOptions plain;
    EXPECT_THAT(keys(plain, true, DType::f32), Each(HasSubstr(" deterministic")));
    EXPECT_THAT(keys(plain, true, DType::bf16), Each(HasSubstr(" deterministic")));
    EXPECT_THAT(keys(plain, false, DType::f32), Each(Not(HasSubstr(" deterministic"))));
    cuda::CudaOptions tf32;
    tf32.tf32 = true;
    EXPECT_THAT(keys(plain, true, DType::f32), Each(Not(HasSubstr(" tf32"))));
    EXPECT_THAT(keys(tf32, true, DType::f32), Each(HasSubstr(" tf32")));
    EXPECT_THAT(keys(tf32, true, DType::bf16), Each(Not(HasSubstr(" tf32"))));
}

}  // namespace
}  // namespace deeplab::testing
