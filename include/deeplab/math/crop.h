#pragma once
// One sample's crop, worked out: a header and tables of 32-bit words, from which its pixels follow
// in integers. Whoever has the decoded sample can make the crop, and makes the same one: what is
// computed in double precision (weights, nearest pixels) is in the tables, so that no device's
// multiply-add can move a pixel.

#include <cstdint>

#include "deeplab/math/augment.h"
#include "deeplab/math/macros.h"

namespace deeplab::math {

// In the order of the words. Behind it, each in one piece: for every column the first pixel its
// triangle reads, then its taps_across weights; for every row the first row, then its taps_down
// weights; the label's column for every column, mirrored already; the label's row for every row.
// Weights behind a triangle's end are zero, and what they would read may lie outside.
struct CropHeader {
    std::int32_t width, height;           // of the decoded sample
    std::int32_t columns, rows;           // of the crop that the sample covers, from its top left
    std::int32_t taps_across, taps_down;  // inputs of an output
    std::int32_t flip;                    // 1: columns count from the right
    std::int32_t pad_label;
    std::int32_t pad_color[3];
    std::int32_t blur_radius;  // of the box; -1: no blur
    std::uint32_t blur_inner, blur_outer;
    float mean[3], std[3];
};
constexpr std::int64_t crop_header_words = sizeof(CropHeader) / sizeof(std::int32_t);

// Where the tables begin, in words from the header's first.
struct CropTables {
    std::int64_t first_across, weights_across, first_down, weights_down, label_across, label_down,
        end;
};

DEEPLAB_HD inline CropTables crop_tables(const CropHeader& h) {
    CropTables t{};
    t.first_across = crop_header_words;
    t.weights_across = t.first_across + h.columns;
    t.first_down = t.weights_across + static_cast<std::int64_t>(h.columns) * h.taps_across;
    t.weights_down = t.first_down + h.rows;
    t.label_across = t.weights_down + static_cast<std::int64_t>(h.rows) * h.taps_down;
    t.label_down = t.label_across + h.columns;
    t.end = t.label_down + h.rows;
    return t;
}

}  // namespace deeplab::math
