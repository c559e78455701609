#pragma once
// Resizing of the part that a crop needs: the same pixels as resizing everything and cropping then.

#include <cstdint>

#include "deeplab/io/image.h"

namespace deeplab::data {

// The source, mirrored left-right if `flip`, is resized to width x height, of which the rectangle
// (left, top, columns, rows), inside it, is wanted.
struct ResizeRegion {
    bool flip = false;
    std::int64_t width = 0, height = 0;
    std::int64_t left = 0, top = 0, columns = 0, rows = 0;
};

// out: rows of `stride` pixels.
void resize_bilinear(const io::Image& image, const ResizeRegion& region, std::uint8_t* out,
                     std::int64_t stride);
void resize_nearest(const io::Mask& mask, const ResizeRegion& region, std::uint8_t* out,
                    std::int64_t stride);

}  // namespace deeplab::data
