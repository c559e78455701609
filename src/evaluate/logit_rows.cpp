#include "logit_rows.h"

#include <algorithm>
#include <cmath>

namespace deeplab::evaluate {

std::vector<math::Tap> bilinear_taps(std::int64_t in, std::int64_t out, std::int64_t wanted,
                                     bool align_corners) {
    std::vector<math::Tap> taps;
    for (std::int64_t o = 0; o < wanted; ++o)
        taps.push_back(math::bilinear_tap(o, in, out, align_corners));
    return taps;
}

void blend(std::span<const float> a, std::span<const float> b, float t, std::span<float> out) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = (1.0f - t) * a[i] + t * b[i];
}

void resample(std::span<const float> in, std::span<const math::Tap> taps, float* out) {
    for (std::size_t x = 0; x < taps.size(); ++x) {
        const math::Tap& tap = taps[x];
        out[x] = (1.0f - tap.t) * in[static_cast<std::size_t>(tap.i0)] +
                 tap.t * in[static_cast<std::size_t>(tap.i1)];
    }
}

void arg_max_row(const float* row, std::int64_t class_stride, std::int64_t classes,
                 std::span<float> best, std::uint8_t* labels) {
    std::copy_n(row, best.size(), best.begin());
    std::fill_n(labels, best.size(), std::uint8_t{0});
    for (std::int64_t c = 1; c < classes; ++c) {
        const float* values = row + c * class_stride;
        for (std::size_t x = 0; x < best.size(); ++x) {
            const bool larger = values[x] > best[x];
            best[x] = larger ? values[x] : best[x];
            labels[x] = larger ? static_cast<std::uint8_t>(c) : labels[x];
        }
    }
}

LogitRows::LogitRows(const LogitGrid& grid)
    : grid_(grid),
      vertical_(
          bilinear_taps(grid.height, grid.padded_height, grid.image_height, grid.align_corners)),
      horizontal_(
          bilinear_taps(grid.width, grid.padded_width, grid.image_width, grid.align_corners)),
      mixed_(static_cast<std::size_t>(grid.width)) {}

void LogitRows::logits(std::int64_t y, std::span<float> row) {
    const math::Tap& tap = vertical_[static_cast<std::size_t>(y)];
    const auto width = static_cast<std::size_t>(grid_.width);
    for (std::int64_t c = 0; c < grid_.classes; ++c) {
        const float* plane = grid_.logits.data() + c * grid_.height * grid_.width;
        blend({plane + tap.i0 * grid_.width, width}, {plane + tap.i1 * grid_.width, width}, tap.t,
              mixed_);
        resample(mixed_, horizontal_, row.data() + c * grid_.image_width);
    }
}

const std::vector<float>& LogitRows::softmax(std::int64_t y) {
    const auto slot = static_cast<std::size_t>(y % 2);
    std::vector<float>& row = cached_[slot];
    if (cached_row_[slot] == y) return row;
    const auto width = static_cast<std::size_t>(grid_.image_width),
               classes = static_cast<std::size_t>(grid_.classes);
    row.resize(classes * width);
    logits(y, row);
    largest_.assign(row.begin(), row.begin() + static_cast<std::ptrdiff_t>(width));
    for (std::size_t c = 1; c < classes; ++c) {
        for (std::size_t x = 0; x < width; ++x)
            largest_[x] = std::max(largest_[x], row[c * width + x]);
    }
    sum_.assign(width, 0.0f);
    for (std::size_t c = 0; c < classes; ++c) {
        for (std::size_t x = 0; x < width; ++x) {
            float& value = row[c * width + x];
            // By way of double precision the result hangs on no mathematical library's last bit.
            value = static_cast<float>(std::exp(static_cast<double>(value - largest_[x])));
            sum_[x] += value;
        }
    }
    for (std::size_t c = 0; c < classes; ++c) {
        for (std::size_t x = 0; x < width; ++x) row[c * width + x] /= sum_[x];
    }
    cached_row_[slot] = y;
    return row;
}

}  // namespace deeplab::evaluate
