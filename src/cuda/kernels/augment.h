#pragma once
// Crops of decoded samples: the pixels of the host's data::augment, bit by bit.

#include <cuda_runtime.h>

#include <cstdint>

#include "view.h"

namespace deeplab::cuda {

// All in device memory. pixels: (height, width, 3), labels: (height, width), crop: words as
// math/crop.h says.
struct CropSource {
    const std::uint8_t* pixels;
    const std::uint8_t* labels;
    const std::int32_t* crop;
};

// The longest side of a crop that a row or column of fits into shared memory.
constexpr std::int64_t largest_crop = 8000;

std::int64_t augment_scratch_bytes(const Shape& images);

// sources: N of them in device memory, read when the kernels run. images: (N,3,H,W), H and W of
// the crops, f32 or bf16, normalised; labels: (N,1,H,W) bytes. scratch: augment_scratch_bytes.
void augment(cudaStream_t stream, const CropSource* sources, const View& images,
             std::uint8_t* labels, void* scratch);

}  // namespace deeplab::cuda
