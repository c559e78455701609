#include "clock.h"

#include "launch.cuh"

namespace deeplab::cuda {
namespace {

__device__ std::int64_t nanoseconds() {
#if defined(__CUDACC__)
    std::int64_t now = 0;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
#else
    return host_nanoseconds();
#endif
}

__global__ void stamp_kernel(std::int64_t* at) { *at = nanoseconds(); }

}  // namespace

void stamp(cudaStream_t stream, std::int64_t* at) {
    launch("a time stamp", stream, stamp_kernel, 1, 1, 0, at);
}

}  // namespace deeplab::cuda
