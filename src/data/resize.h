#pragma once
// Resizing of the part that a crop needs: the same pixels as resizing everything and cropping then.

#include <cstdint>
#include <vector>

#include "deeplab/io/image.h"

namespace deeplab::data {

// The source, mirrored left-right if `flip`, is resized to width x height, of which the rectangle
// (left, top, columns, rows), inside it, is wanted.
struct ResizeRegion {
    bool flip = false;
    std::int64_t width = 0, height = 0;
    std::int64_t left = 0, top = 0, columns = 0, rows = 0;
};

// Fixed-point weights of one axis: `taps` per output, zeros where one has fewer.
struct AxisWeights {
    std::int64_t taps = 0;
    std::vector<std::int32_t> first, weights;
};

// Of outputs [begin, begin + count) of `in` pixels resized to `out`: PIL's BILINEAR.
void axis_weights(std::int64_t in, std::int64_t out, std::int64_t begin, std::int64_t count,
                  AxisWeights& weights);
// Which pixel each of them takes: PIL's NEAREST; mirrored, where `flip`.
void nearest_pixels(std::int64_t in, std::int64_t out, std::int64_t begin, std::int64_t count,
                    bool flip, std::vector<std::int32_t>& pixels);

// Memory that is used again.
struct ResizeScratch {
    AxisWeights across, down;
    std::vector<std::int32_t> offsets, weights_across, sums;
    std::vector<std::uint8_t> last_row, tapped, between;
    std::vector<std::int32_t> columns, rows;
};

// out: rows of `stride` pixels.
void resize_bilinear(const io::Image& image, const ResizeRegion& region, std::uint8_t* out,
                     std::int64_t stride, ResizeScratch& scratch);
void resize_nearest(const io::Mask& mask, const ResizeRegion& region, std::uint8_t* out,
                    std::int64_t stride, ResizeScratch& scratch);

}  // namespace deeplab::data
