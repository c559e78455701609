#pragma once
// How PIL samples when it resizes: BILINEAR (a triangle filter that widens when shrinking, so that
// it antialiases) with 8-bit fixed-point weights, horizontal pass first, each pass rounded to 8
// bits; and NEAREST. Integer results, so that every device gives the same pixels. Pillow's
// Resample.c and Geometry.c are the behaviour mirrored here.

#include <cstdint>

#include "deeplab/math/macros.h"

namespace deeplab::math {

// Weights are multiples of 2^-22: a 32-bit sum keeps 8 bits of pixel and 2 spare.
constexpr int resample_bits = 32 - 8 - 2;

// The most inputs that any output position reads.
DEEPLAB_HD inline std::int64_t triangle_taps(std::int64_t in, std::int64_t out) {
    const double scale = static_cast<double>(in) / static_cast<double>(out);
    const double width = 2.0 * (scale < 1.0 ? 1.0 : scale);
    const std::int64_t whole = static_cast<std::int64_t>(width);
    return static_cast<double>(whole) < width ? whole + 1 : whole;
}

// Output position o reads inputs [first, first + count); their filter argument is (i + 0.5 -
// centre) * inverse.
struct TriangleSpan {
    std::int64_t first, count;
    double centre, inverse;
};

DEEPLAB_HD inline TriangleSpan triangle_span(std::int64_t o, std::int64_t in, std::int64_t out) {
    const double scale = static_cast<double>(in) / static_cast<double>(out);
    const double support = scale < 1.0 ? 1.0 : scale;  // the triangle's half width, in input pixels
    const double centre = (static_cast<double>(o) + 0.5) * scale;
    std::int64_t first = static_cast<std::int64_t>(centre - support + 0.5);
    if (first < 0) first = 0;
    std::int64_t last = static_cast<std::int64_t>(centre + support + 0.5);
    if (last > in) last = in;
    // Rounding of centre +- support can let in one more, at the very end of the triangle, where its
    // weight is zero.
    if (last - first > triangle_taps(in, out)) {
        const double before = centre - (static_cast<double>(first) + 0.5);
        const double after = static_cast<double>(last) - 0.5 - centre;
        if (before > after) {
            ++first;
        } else {
            --last;
        }
    }
    return TriangleSpan{first, last - first, centre, 1.0 / support};
}

DEEPLAB_HD inline double triangle(double x) {
    if (x < 0.0) x = -x;
    return x < 1.0 ? 1.0 - x : 0.0;
}

// Writes span.count fixed-point weights; their sum is 2^22 up to rounding.
DEEPLAB_HD inline void triangle_weights(const TriangleSpan& span, std::int32_t* weights) {
    double sum = 0.0;
    for (std::int64_t k = 0; k < span.count; ++k) {
        sum += triangle((static_cast<double>(k + span.first) - span.centre + 0.5) * span.inverse);
    }
    for (std::int64_t k = 0; k < span.count; ++k) {
        double w = triangle((static_cast<double>(k + span.first) - span.centre + 0.5) *
                            span.inverse);
        if (sum != 0.0) w /= sum;
        weights[k] = static_cast<std::int32_t>(0.5 + w * static_cast<double>(1 << resample_bits));
    }
}

// A weighted sum of pixels plus half a unit, back to 8 bits.
DEEPLAB_HD inline std::uint8_t resample_round(std::int32_t sum) {
    const std::int32_t v = sum >>
                           resample_bits;  // weights are never negative: only the top needs a clamp
    return static_cast<std::uint8_t>(v > 255 ? 255 : v);
}

// NEAREST: floor((o + 0.5) * in/out), where PIL reaches the coordinate by adding in/out again and
// again. The rounding of that sum decides ties, so this walks too: call next() for o = 0, 1, 2, …
struct NearestWalk {
    double position, scale;
    std::int64_t last;

    DEEPLAB_HD NearestWalk(std::int64_t in, std::int64_t out)
        : position(static_cast<double>(in) / static_cast<double>(out) * 0.5),
          scale(static_cast<double>(in) / static_cast<double>(out)),
          last(in - 1) {}
    DEEPLAB_HD std::int64_t next() {
        const std::int64_t i = static_cast<std::int64_t>(position);
        position += scale;
        return i < last ? i : last;
    }
};

}  // namespace deeplab::math
