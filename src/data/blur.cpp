#include <algorithm>
#include <cstring>
#include <vector>

#include "augment.h"
#include "deeplab/base/error.h"
#include "deeplab/data/loader.h"
#include "deeplab/math/augment.h"

namespace deeplab::data {
namespace {

// One pass for n values: sources[0 … 2*radius + 2] point at the neighbours in order, the first and
// the last weighted as the outer ones. The same for rows (pointers into a padded row) and columns
// (pointers at whole rows).
void box_pass(const math::ExtendedBox& box, const std::vector<const std::uint8_t*>& sources,
              std::int64_t n, std::vector<std::uint32_t>& sums, std::uint8_t* __restrict out) {
    const std::uint8_t* before = sources.front();
    const std::uint8_t* after = sources.back();
    if (box.radius == 0) {  // every sigma up to 1.2
        const std::uint8_t* centre = sources[1];
        for (std::int64_t i = 0; i < n; ++i) {
            out[i] = math::extended_box(box, centre[i],
                                        static_cast<std::uint32_t>(before[i]) + after[i]);
        }
        return;
    }
    sums.assign(static_cast<std::size_t>(n), 0);
    for (std::size_t s = 1; s + 1 < sources.size(); ++s) {
        for (std::int64_t i = 0; i < n; ++i) sums[static_cast<std::size_t>(i)] += sources[s][i];
    }
    for (std::int64_t i = 0; i < n; ++i) {
        out[i] = math::extended_box(box, sums[static_cast<std::size_t>(i)],
                                    static_cast<std::uint32_t>(before[i]) + after[i]);
    }
}

// Repeats the first and the last of `width` pixels, which start `margin` pixels into the row.
void extend_row(std::uint8_t* row, std::int64_t width, std::int64_t margin) {
    for (std::int64_t m = 0; m < margin; ++m) {
        std::memcpy(row + 3 * m, row + 3 * margin, 3);
        std::memcpy(row + 3 * (margin + width + m), row + 3 * (margin + width - 1), 3);
    }
}

}  // namespace

void gaussian_blur(io::Image& image, float radius, BlurScratch& scratch) {
    expects(radius >= 0.0f, "a blur radius is not negative");
    if (radius == 0.0f || image.pixels.empty()) return;
    const math::ExtendedBox box = math::gaussian_box(radius);
    const std::int64_t margin = box.radius + 1, n = 3 * image.width;
    std::vector<const std::uint8_t*> sources(static_cast<std::size_t>(2 * margin + 1));

    std::vector<std::uint8_t>&from = scratch.from, &to = scratch.to;
    from.resize(static_cast<std::size_t>(n + 6 * margin));
    to.resize(from.size());
    for (std::int64_t y = 0; y < image.height; ++y) {
        std::uint8_t* row = image.pixels.data() + y * n;
        std::memcpy(from.data() + 3 * margin, row, static_cast<std::size_t>(n));
        for (int pass = 0; pass < math::blur_passes; ++pass) {
            extend_row(from.data(), image.width, margin);
            for (std::size_t s = 0; s < sources.size(); ++s) sources[s] = from.data() + 3 * s;
            const bool last = pass + 1 == math::blur_passes;
            box_pass(box, sources, n, scratch.sums, last ? row : to.data() + 3 * margin);
            std::swap(from, to);
        }
    }
    scratch.image.resize(image.pixels.size());
    for (int pass = 0; pass < math::blur_passes; ++pass) {
        for (std::int64_t y = 0; y < image.height; ++y) {
            for (std::int64_t s = 0; s < 2 * margin + 1; ++s) {
                const std::int64_t source = std::clamp<std::int64_t>(y + s - margin, 0,
                                                                     image.height - 1);
                sources[static_cast<std::size_t>(s)] = image.pixels.data() + source * n;
            }
            box_pass(box, sources, n, scratch.sums, scratch.image.data() + y * n);
        }
        image.pixels.swap(scratch.image);
    }
}

io::Image gaussian_blur(const io::Image& image, float radius) {
    io::Image out = image;
    BlurScratch scratch;
    gaussian_blur(out, radius, scratch);
    return out;
}

}  // namespace deeplab::data
