#pragma once
// Logits at an image's own size, row by row: whole volumes are built only where somebody asked for
// one.

#include <cstdint>
#include <span>
#include <vector>

#include "deeplab/math/bilinear.h"

namespace deeplab::evaluate {

// What the network made of one image: its logits on the grid of the padded input.
struct LogitGrid {
    std::vector<float> logits;  // (classes, height, width)
    std::int64_t classes = 0, height = 0, width = 0;
    std::int64_t padded_height = 0, padded_width = 0;  // that the grid spans
    bool align_corners = true;                         // the model's
    std::int64_t image_height = 0, image_width = 0;    // the upper left part of it that is image
};

std::vector<math::Tap> bilinear_taps(std::int64_t in, std::int64_t out, std::int64_t wanted,
                                     bool align_corners);

// out[x] = a[x] + t (b[x] - a[x]) as (1 - t) a + t b.
void blend(std::span<const float> a, std::span<const float> b, float t, std::span<float> out);
void resample(std::span<const float> in, std::span<const math::Tap> taps, float* out);

// Largest of (classes, width) along the classes; the smaller class wins a tie. `best` is scratch of
// `width`.
void arg_max_row(const float* row, std::int64_t class_stride, std::int64_t classes,
                 std::span<float> best, std::uint8_t* labels);

class LogitRows {
public:
    explicit LogitRows(const LogitGrid& grid);
    // Row y of the image: (classes, image_width).
    void logits(std::int64_t y, std::span<float> row);
    // The same through softmax. Two rows are remembered: neighbours are asked for again and again.
    const std::vector<float>& softmax(std::int64_t y);

private:
    const LogitGrid& grid_;
    std::vector<math::Tap> vertical_, horizontal_;
    std::vector<float> mixed_;  // one grid row between two
    std::vector<float> cached_[2], largest_, sum_;
    std::int64_t cached_row_[2] = {-1, -1};
};

}  // namespace deeplab::evaluate
