#pragma once
// Generated images and masks.

#include <cstdint>
#include <vector>

#include "deeplab/io/image.h"
#include "deeplab/math/philox.h"

namespace deeplab::testing {

// Noise: no two pixels alike, so that a shift by one shows.
inline io::Image noise_image(std::int64_t width, std::int64_t height, std::uint64_t seed = 1) {
    io::Image image{width, height, {}};
    for (std::uint32_t i = 0; i < 3 * width * height; ++i) {
        const math::Philox4 noise = math::philox(seed, {{i, 0, 0, 0}});
        image.pixels.push_back(static_cast<std::uint8_t>(noise.v[0] >> 24));
    }
    return image;
}

// Labels from `first` to `last`, and of every `ignored` pixels about one without a class; 0: none.
struct NoiseLabels {
    std::uint32_t first = 1, last = 20, ignored = 0;
};
inline io::Mask noise_mask(std::int64_t width, std::int64_t height, const NoiseLabels& of = {},
                           std::uint64_t seed = 1) {
    io::Mask mask{width, height, {}};
    for (std::uint32_t i = 0; i < width * height; ++i) {
        const math::Philox4 noise = math::philox(seed, {{i, 1, 0, 0}});
        const bool void_label = of.ignored > 0 && noise.v[1] % of.ignored == 0;
        const std::uint32_t label = of.first + noise.v[0] % (of.last - of.first + 1);
        mask.labels.push_back(static_cast<std::uint8_t>(void_label ? 255 : label));
    }
    return mask;
}

// Smooth in all channels, so that JPEG keeps it closely.
inline io::Image smooth_image(std::int64_t width, std::int64_t height) {
    io::Image image{width, height, {}};
    for (std::int64_t y = 0; y < height; ++y) {
        for (std::int64_t x = 0; x < width; ++x) {
            const std::int64_t diagonal = (x + y) * 127 / (width + height) + 64;
            for (const std::int64_t value : {x * 255 / width, y * 255 / height, diagonal})
                image.pixels.push_back(static_cast<std::uint8_t>(value));
        }
    }
    return image;
}

}  // namespace deeplab::testing
