#pragma once
// Dropout, and sums of gradients. f32 or bf16.

#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

#include "deeplab/math/philox.h"
#include "view.h"

namespace deeplab::cuda {

// Forward and backward are the same: kept elements times 1 / (1 - probability), zero elsewhere.
struct DropoutRule {
    std::uint64_t seed;
    float probability;
    std::uint32_t layer;
};
// samples: N keys in device memory, read when the kernel runs.
void dropout(cudaStream_t stream, const DropoutRule& rule, const math::SampleKey* samples,
             const View& x, const View& y);

// One to eight tensors, added in their order in f32, rounded once.
void sum(cudaStream_t stream, const std::vector<View>& in, const View& out);

}  // namespace deeplab::cuda
