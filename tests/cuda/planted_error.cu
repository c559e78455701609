// gpu-planted-error memcheck|racecheck: a kernel that writes past its memory, or whose threads race
// for a word of shared memory. Without a tool that looks, it says nothing.

#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>

namespace deeplab::planted {

__global__ void write_past_the_end(float* values, int count) {
    const unsigned i = threadIdx.x;
    if (i <= static_cast<unsigned>(count)) values[i] = 1;
}

// Each thread reads its neighbour's word, with no barrier behind the writes.
__global__ void race(float* values) {
    __shared__ float words[256];
    words[threadIdx.x] = static_cast<float>(threadIdx.x);
    values[threadIdx.x] = words[(threadIdx.x + 37) % 256];
}

}  // namespace deeplab::planted

int main(int argc, char** argv) {
    using namespace deeplab::planted;
    const bool past = argc == 2 && std::strcmp(argv[1], "memcheck") == 0;
    if (!past && (argc != 2 || std::strcmp(argv[1], "racecheck") != 0)) {
        std::fprintf(stderr, "usage: gpu-planted-error memcheck|racecheck\n");
        return 2;
    }
    constexpr int count = 256;
    float* values = nullptr;
    cudaError_t status = cudaMalloc(&values, count * sizeof(float));
    if (status != cudaSuccess) {
        std::fprintf(stderr, "no GPU: %s\n", cudaGetErrorString(status));
        return 4;
    }
    if (past)
        write_past_the_end<<<1, 2 * count>>>(values, count);
    else
        race<<<1, count>>>(values);
    status = cudaDeviceSynchronize();
    std::printf("%s: %s\n", argv[1], cudaGetErrorString(status));
    return 0;
}
