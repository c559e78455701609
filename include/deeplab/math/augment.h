#pragma once
// The numbers behind one augmented sample: what it draws, and the formulas its pixels go through.
// The host's workers and kernels share them.

#include <cmath>
#include <cstdint>

#include "deeplab/math/macros.h"
#include "deeplab/math/philox.h"

namespace deeplab::math {

// An integer in [0, n), n >= 1, from 32 random bits; the bias is below n / 2^32.
DEEPLAB_HD inline std::int64_t draw_below(std::uint32_t bits, std::int64_t n) {
    return static_cast<std::int64_t>(
        (static_cast<std::uint64_t>(bits) * static_cast<std::uint64_t>(n)) >> 32);
}

// One purpose, one word, whether or not the configuration uses it: switching blur on does not move
// the crops.
//   block 0: flip, size, top of the crop, left of the crop      block 1: blur or not, its radius,
//   unused, unused
struct AugmentationDraws {
    std::uint32_t flip, size, top, left, blur, radius;
};

DEEPLAB_HD inline AugmentationDraws augmentation_draws(std::uint64_t seed, SampleKey key) {
    const std::uint32_t stream = static_cast<std::uint32_t>(Stream::augmentation);
    const Philox4 a = sample_random(seed, key, stream, 0), b = sample_random(seed, key, stream, 1);
    return AugmentationDraws{a.v[0], a.v[1], a.v[2], a.v[3], b.v[0], b.v[1]};
}

// An integer in [low, high], both ends included.
DEEPLAB_HD inline std::int64_t draw_edge(std::uint32_t bits, std::int64_t low, std::int64_t high) {
    return low + draw_below(bits, high - low + 1);
}

// One of low, low + step, … high; with step 0 anything in [low, high).
DEEPLAB_HD inline double draw_factor(std::uint32_t bits, double low, double high, double step) {
    if (step <= 0.0) return low + (high - low) * static_cast<double>(uniform(bits));
    const std::int64_t choices = static_cast<std::int64_t>((high - low) / step + 0.5) + 1;
    return low + step * static_cast<double>(draw_below(bits, choices));
}

struct Size {
    std::int64_t width, height;
};

// The short edge becomes `edge`, the long one follows, rounded down.
DEEPLAB_HD inline Size short_edge_size(std::int64_t width, std::int64_t height, std::int64_t edge) {
    return height > width ? Size{edge, height * edge / width} : Size{width * edge / height, edge};
}

DEEPLAB_HD inline Size factor_size(std::int64_t width, std::int64_t height, double factor) {
    const std::int64_t w = static_cast<std::int64_t>(static_cast<double>(width) * factor);
    const std::int64_t h = static_cast<std::int64_t>(static_cast<double>(height) * factor);
    return Size{w < 1 ? 1 : w, h < 1 ? 1 : h};
}

// Where a crop starts in an extent that was padded on the far side to at least the crop.
DEEPLAB_HD inline std::int64_t draw_crop(std::uint32_t bits, std::int64_t extent,
                                         std::int64_t crop) {
    return extent > crop ? draw_below(bits, extent - crop + 1) : 0;
}

// The centre; a half goes to the even neighbour, as in the reference (Python's round).
DEEPLAB_HD inline std::int64_t centre_crop(std::int64_t extent, std::int64_t crop) {
    if (extent <= crop) return 0;
    const std::int64_t half = (extent - crop) / 2;
    return (extent - crop) % 2 == 0 ? half : half + half % 2;
}

// PIL's GaussianBlur: three passes of a box of real-valued length (Gwosdek et al., "Theoretical
// foundations of Gaussian convolution by extended box filtering", SSVM 2011, eqs. 7, 11, 14) along
// the rows, then three along the columns, each rounded to 8 bits, borders repeated. A pass: inner *
// (the 2*radius + 1 nearest) + outer * (the two after them), in units of 2^-24.
constexpr int blur_passes = 3;
constexpr int blur_bits = 24;

struct ExtendedBox {
    int radius;
    std::uint32_t inner, outer;
};

DEEPLAB_HD inline ExtendedBox gaussian_box(float sigma) {
    const float variance = sigma * sigma / static_cast<float>(blur_passes);
    const float length = static_cast<float>(std::sqrt(12.0 * static_cast<double>(variance) + 1.0));
    const float whole = static_cast<float>(std::floor((static_cast<double>(length) - 1.0) / 2.0));
    const float part = (2.0f * whole + 1.0f) * (whole * (whole + 1.0f) - 3.0f * variance) /
                       (6.0f * (variance - (whole + 1.0f) * (whole + 1.0f)));
    const float real_radius = whole + part;
    const int radius = static_cast<int>(real_radius);
    const std::uint32_t one = 1u << blur_bits;
    const std::uint32_t inner = static_cast<std::uint32_t>(static_cast<float>(one) /
                                                           (real_radius * 2.0f + 1.0f));
    return ExtendedBox{radius, inner,
                       (one - static_cast<std::uint32_t>(2 * radius + 1) * inner) / 2};
}

DEEPLAB_HD inline std::uint8_t extended_box(const ExtendedBox& box, std::uint32_t near_sum,
                                            std::uint32_t far_sum) {
    return static_cast<std::uint8_t>(
        (near_sum * box.inner + far_sum * box.outer + (1u << (blur_bits - 1))) >> blur_bits);
}

// torchvision's ToTensor and Normalize.
DEEPLAB_HD inline float normalised(std::uint8_t value, float mean, float std) {
    return (static_cast<float>(value) / 255.0f - mean) / std;
}

}  // namespace deeplab::math
