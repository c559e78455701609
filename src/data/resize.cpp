#include "resize.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/data/loader.h"
#include "deeplab/math/resample.h"

namespace deeplab::data {
namespace {

constexpr std::int32_t half_unit = 1 << (math::resample_bits - 1);

}  // namespace

void axis_weights(std::int64_t in, std::int64_t out, std::int64_t begin, std::int64_t count,
                  AxisWeights& w) {
    w.taps = math::triangle_taps(in, out);
    w.first.resize(static_cast<std::size_t>(count));
    w.weights.assign(static_cast<std::size_t>(count * w.taps), 0);
    for (std::int64_t o = 0; o < count; ++o) {
        const math::TriangleSpan span = math::triangle_span(begin + o, in, out);
        ensures(span.count <= w.taps, "a triangle filter reads at most triangle_taps inputs");
        w.first[static_cast<std::size_t>(o)] = static_cast<std::int32_t>(span.first);
        math::triangle_weights(span, w.weights.data() + o * w.taps);
    }
}

void nearest_pixels(std::int64_t in, std::int64_t out, std::int64_t begin, std::int64_t count,
                    bool flip, std::vector<std::int32_t>& pixels) {
    pixels.resize(static_cast<std::size_t>(count));
    math::NearestWalk walk(in, out);
    for (std::int64_t o = 0; o < begin; ++o) walk.next();
    for (std::int32_t& pixel : pixels) {
        const std::int64_t i = walk.next();
        pixel = static_cast<std::int32_t>(flip ? in - 1 - i : i);
    }
}

namespace {

// Weights of the horizontal pass as it multiplies: (taps, columns, 3).
void weights_per_value(const AxisWeights& w, std::int64_t columns, std::vector<std::int32_t>& out) {
    out.resize(static_cast<std::size_t>(w.taps * columns * 3));
    for (std::int64_t t = 0; t < w.taps; ++t) {
        for (std::int64_t x = 0; x < columns; ++x) {
            std::fill_n(out.begin() + (t * columns + x) * 3, 3,
                        w.weights[static_cast<std::size_t>(x * w.taps + t)]);
        }
    }
}

// Where in a row each tap of each column reads, in bytes: (taps, columns). Taps of zero weight may
// point anywhere in the row.
void tap_offsets(const AxisWeights& w, std::int64_t width, bool flip,
                 std::vector<std::int32_t>& out) {
    out.clear();
    for (std::int64_t t = 0; t < w.taps; ++t) {
        for (const std::int32_t first : w.first) {
            const std::int64_t x = std::min(first + t, width - 1);
            out.push_back(static_cast<std::int32_t>(3 * (flip ? width - 1 - x : x)));
        }
    }
}

// Brings together what one tap reads, so that the multiplication runs over contiguous values. Four
// bytes are moved per pixel, the next pixel overwrites the fourth: `row` and `out` are readable and
// writable one byte further.
void gather_tap(const std::uint8_t* row, const std::int32_t* offsets, std::int64_t columns,
                std::uint8_t* out) {
    for (std::int64_t x = 0; x < columns; ++x) std::memcpy(out + 3 * x, row + offsets[x], 4);
}

// One row of the horizontal pass: values and weights (K, n).
template <int K>
void combine_taps(const std::uint8_t* __restrict in, std::int64_t pitch,
                  const std::int32_t* __restrict weights, std::int64_t n,
                  std::uint8_t* __restrict out) {
    for (std::int64_t i = 0; i < n; ++i) {
        std::int32_t sum = half_unit;
        for (int t = 0; t < K; ++t) sum += weights[t * n + i] * in[t * pitch + i];
        out[i] = math::resample_round(sum);
    }
}

void combine_many_taps(const std::uint8_t* in, std::int64_t pitch, const std::int32_t* weights,
                       std::int64_t taps, std::int64_t n, std::vector<std::int32_t>& sums,
                       std::uint8_t* out) {
    sums.assign(static_cast<std::size_t>(n), half_unit);
    for (std::int64_t t = 0; t < taps; ++t) {
        for (std::int64_t i = 0; i < n; ++i) {
            sums[static_cast<std::size_t>(i)] += weights[t * n + i] * in[t * pitch + i];
        }
    }
    for (std::int64_t i = 0; i < n; ++i)
        out[i] = math::resample_round(sums[static_cast<std::size_t>(i)]);
}

// One output row of the vertical pass, from rows `pitch` bytes apart.
template <int K>
void combine_rows(const std::uint8_t* __restrict in, std::int64_t pitch,
                  const std::int32_t* weights, std::int64_t n, std::uint8_t* __restrict out) {
    for (std::int64_t i = 0; i < n; ++i) {
        std::int32_t sum = half_unit;
        for (int t = 0; t < K; ++t) sum += weights[t] * in[t * pitch + i];
        out[i] = math::resample_round(sum);
    }
}

void combine_many_rows(const std::uint8_t* in, std::int64_t pitch, const std::int32_t* weights,
                       std::int64_t taps, std::int64_t n, std::vector<std::int32_t>& sums,
                       std::uint8_t* out) {
    sums.assign(static_cast<std::size_t>(n), half_unit);
    for (std::int64_t t = 0; t < taps; ++t) {
        for (std::int64_t i = 0; i < n; ++i)
            sums[static_cast<std::size_t>(i)] += weights[t] * in[t * pitch + i];
    }
    for (std::int64_t i = 0; i < n; ++i)
        out[i] = math::resample_round(sums[static_cast<std::size_t>(i)]);
}

void check(const ResizeRegion& r, std::int64_t width, std::int64_t height) {
    expects(width > 0 && height > 0 && r.width > 0 && r.height > 0, "images to resize have pixels");
    expects(
        r.left >= 0 && r.top >= 0 && r.left + r.columns <= r.width && r.top + r.rows <= r.height,
        "the wanted rectangle lies in the resized image");
}

}  // namespace

void resize_bilinear(const io::Image& image, const ResizeRegion& region, std::uint8_t* out,
                     std::int64_t stride, ResizeScratch& scratch) {
    check(region, image.width, image.height);
    AxisWeights &across = scratch.across, &down = scratch.down;
    axis_weights(image.width, region.width, region.left, region.columns, across);
    axis_weights(image.height, region.height, region.top, region.rows, down);
    if (region.rows == 0 || region.columns == 0) return;

    // Horizontal pass over the source rows that the vertical one reads: (source rows, columns, 3).
    const std::int64_t begin = down.first.front(), n = 3 * region.columns, pitch = n + 1;
    const std::int64_t end = std::min<std::int64_t>(image.height, down.first.back() + down.taps);
    std::vector<std::int32_t>&weights_across = scratch.weights_across, &sums = scratch.sums;
    std::vector<std::uint8_t>&last_row = scratch.last_row, &tapped = scratch.tapped,
    &between = scratch.between;
    weights_per_value(across, region.columns, weights_across);
    tap_offsets(across, image.width, region.flip, scratch.offsets);
    last_row.resize(static_cast<std::size_t>(3 * image.width + 1));
    std::memcpy(last_row.data(), image.pixels.data() + 3 * (image.height - 1) * image.width,
                static_cast<std::size_t>(3 * image.width));
    tapped.resize(static_cast<std::size_t>(across.taps * pitch));
    // Behind the last row: multiplied with weights of zero.
    between.resize(static_cast<std::size_t>((end - begin + down.taps) * n));
    for (std::int64_t y = begin; y < end; ++y) {
        const std::uint8_t* row = y + 1 < image.height ? image.pixels.data() + 3 * y * image.width
                                                       : last_row.data();
        for (std::int64_t t = 0; t < across.taps; ++t) {
            gather_tap(row, scratch.offsets.data() + t * region.columns, region.columns,
                       tapped.data() + t * pitch);
        }
        std::uint8_t* to = between.data() + (y - begin) * n;
        switch (across.taps) {
            case 2: combine_taps<2>(tapped.data(), pitch, weights_across.data(), n, to); break;
            case 3: combine_taps<3>(tapped.data(), pitch, weights_across.data(), n, to); break;
            case 4: combine_taps<4>(tapped.data(), pitch, weights_across.data(), n, to); break;
            default:
                combine_many_taps(tapped.data(), pitch, weights_across.data(), across.taps, n, sums,
                                  to);
        }
    }
    for (std::int64_t y = 0; y < region.rows; ++y) {
        const std::uint8_t* from = between.data() +
                                   (down.first[static_cast<std::size_t>(y)] - begin) * n;
        const std::int32_t* weights = down.weights.data() + y * down.taps;
        std::uint8_t* to = out + 3 * y * stride;
        switch (down.taps) {
            case 2: combine_rows<2>(from, n, weights, n, to); break;
            case 3: combine_rows<3>(from, n, weights, n, to); break;
            case 4: combine_rows<4>(from, n, weights, n, to); break;
            default: combine_many_rows(from, n, weights, down.taps, n, sums, to);
        }
    }
}

void resize_nearest(const io::Mask& mask, const ResizeRegion& region, std::uint8_t* out,
                    std::int64_t stride, ResizeScratch& scratch) {
    check(region, mask.width, mask.height);
    std::vector<std::int32_t>&columns = scratch.columns, &rows = scratch.rows;
    nearest_pixels(mask.width, region.width, region.left, region.columns, region.flip, columns);
    nearest_pixels(mask.height, region.height, region.top, region.rows, false, rows);
    std::int64_t above = -1;
    for (std::int64_t y = 0; y < region.rows; ++y) {
        const std::int64_t source = rows[static_cast<std::size_t>(y)];
        const std::uint8_t* from = mask.labels.data() + source * mask.width;
        std::uint8_t* to = out + y * stride;
        if (source == above) {  // enlarging repeats rows
            std::memcpy(to, to - stride, static_cast<std::size_t>(region.columns));
            continue;
        }
        above = source;
        for (std::int64_t x = 0; x < region.columns; ++x)
            to[x] = from[columns[static_cast<std::size_t>(x)]];
    }
}

io::Image resize_bilinear(const io::Image& image, std::int64_t width, std::int64_t height) {
    expects(width > 0 && height > 0, "resize to at least one pixel");
    io::Image out{width, height,
                  std::vector<std::uint8_t>(static_cast<std::size_t>(width * height * 3))};
    ResizeScratch scratch;
    resize_bilinear(image, ResizeRegion{false, width, height, 0, 0, width, height},
                    out.pixels.data(), width, scratch);
    return out;
}

io::Mask resize_nearest(const io::Mask& mask, std::int64_t width, std::int64_t height) {
    expects(width > 0 && height > 0, "resize to at least one pixel");
    io::Mask out{width, height,
                 std::vector<std::uint8_t>(static_cast<std::size_t>(width * height))};
    ResizeScratch scratch;
    resize_nearest(mask, ResizeRegion{false, width, height, 0, 0, width, height}, out.labels.data(),
                   width, scratch);
    return out;
}

}  // namespace deeplab::data
