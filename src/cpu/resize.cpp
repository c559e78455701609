#include "resize.h"

#include <algorithm>

namespace deeplab::cpu {

Axis::Axis(std::int64_t in, std::int64_t out, bool align_corners) {
    for (std::int64_t o = 0; o < out; ++o)
        taps.push_back(math::bilinear_tap(o, in, out, align_corners));
    for (std::int64_t i = 0; i < in; ++i) {
        first.push_back(static_cast<std::int64_t>(shares.size()));
        for (std::int64_t o = 0; o < out; ++o) {
            const math::Tap& tap = taps[static_cast<std::size_t>(o)];
            const float weight = (tap.i0 == i ? 1.0f - tap.t : 0.0f) + (tap.i1 == i ? tap.t : 0.0f);
            if (weight != 0.0f) shares.push_back({o, weight});
        }
    }
    first.push_back(static_cast<std::int64_t>(shares.size()));
}

void upsample(const Threads& threads, const Axis& rows, const Axis& columns, const View& x,
              const View& y) {
    const Shape &in = x.shape, &out = y.shape;
    const float* from = x.f32();
    float* to = y.f32();
    threads.each(out.n * out.h, [&](std::int64_t row) {
        const std::int64_t n = row / out.h;
        const math::Tap v = rows.taps[static_cast<std::size_t>(row % out.h)];
        const float *upper = from + (n * in.h + v.i0) * in.w * x.pitch,
                    *lower = from + (n * in.h + v.i1) * in.w * x.pitch;
        for (std::int64_t q = 0; q < out.w; ++q) {
            const math::Tap h = columns.taps[static_cast<std::size_t>(q)];
            const float *a = upper + h.i0 * x.pitch, *b = upper + h.i1 * x.pitch;
            const float *c = lower + h.i0 * x.pitch, *d = lower + h.i1 * x.pitch;
            float* result = to + (row * out.w + q) * y.pitch;
#pragma omp simd
            for (std::int64_t k = 0; k < out.c; ++k) {
                result[k] = (1.0f - v.t) * ((1.0f - h.t) * a[k] + h.t * b[k]) +
                            v.t * ((1.0f - h.t) * c[k] + h.t * d[k]);
            }
        }
    });
}

void upsample_grad(const Threads& threads, const Axis& rows, const Axis& columns, const View& dy,
                   const View& dx) {
    const Shape &in = dx.shape, &out = dy.shape;
    const float* from = dy.f32();
    float* to = dx.f32();
    threads.each(in.n * in.h * in.w, [&](std::int64_t pixel) {
        const std::int64_t n = pixel / (in.h * in.w);
        const auto i = static_cast<std::size_t>(pixel / in.w % in.h),
                   j = static_cast<std::size_t>(pixel % in.w);
        float* sum = to + pixel * dx.pitch;
        std::fill(sum, sum + in.c, 0.0f);
        for (std::int64_t r = rows.first[i]; r < rows.first[i + 1]; ++r) {
            const Axis::Share vertical = rows.shares[static_cast<std::size_t>(r)];
            for (std::int64_t s = columns.first[j]; s < columns.first[j + 1]; ++s) {
                const Axis::Share horizontal = columns.shares[static_cast<std::size_t>(s)];
                const float weight = vertical.weight * horizontal.weight;
                const float* gradient = from + ((n * out.h + vertical.output) * out.w +
                                                horizontal.output) *
                                                   dy.pitch;
#pragma omp simd
                for (std::int64_t k = 0; k < in.c; ++k) sum[k] += weight * gradient[k];
            }
        }
    });
}

}  // namespace deeplab::cpu
