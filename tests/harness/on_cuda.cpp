// A GPU, or the host in its place where the program is linked with the kernels' host build. Without
// either, the program says so and passes.

#include <gtest/gtest.h>

#include <cstdio>

#include "deeplab/cuda/cuda_backend.h"
#include "harness/device.h"

namespace deeplab::testing {

// Two backends have the same engines only where none of them times its own.
std::unique_ptr<exec::Backend> device(int) {
    cuda::CudaOptions options;
    options.engines = cuda::EnginePolicy::first;
    return cuda::make_cuda_backend(options);
}

}  // namespace deeplab::testing

int main(int argc, char** argv) {
    ::testing::InitGoogleTest(&argc, argv);
    const deeplab::cuda::Availability found = deeplab::cuda::availability();
    if (found.devices == 0) {
        std::printf("skipped: no GPU (%s)\n", found.reason.c_str());
        return 0;
    }
    return RUN_ALL_TESTS();
}
