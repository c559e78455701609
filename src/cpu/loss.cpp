#include "loss.h"

#include <algorithm>

#include "deeplab/math/cross_entropy.h"
#include "scratch.h"

namespace deeplab::cpu {

// One thread's rows, class by class (K, width), so that loops over pixels are vector code.
struct SegmentationLossKernel::Planes {
    float *upper, *lower,
        *between;  // (K, w): the band's two logits rows, and one row interpolated between them
    float *z, *to_upper,
        *to_lower;  // (K, W): logits, then e^(logit - largest); gradients of the two rows
    float *largest, *sum, *label_logit;  // (W)

    Planes(Scratch& s, std::int64_t classes, std::int64_t w, std::int64_t width)
        : upper(s.take<float>(classes * w)),
          lower(s.take<float>(classes * w)),
          between(s.take<float>(classes * w)),
          z(s.take<float>(classes * width)),
          to_upper(s.take<float>(classes * width)),
          to_lower(s.take<float>(classes * width)),
          largest(s.take<float>(width)),
          sum(s.take<float>(width)),
          label_logit(s.take<float>(width)) {}

    static std::int64_t bytes(std::int64_t classes, std::int64_t w, std::int64_t width) {
        return 3 * (Scratch::bytes_of<float>(classes * w) +
                    Scratch::bytes_of<float>(classes * width) + Scratch::bytes_of<float>(width));
    }
};

SegmentationLossKernel::SegmentationLossKernel(const graph::SegmentationLoss& op,
                                               const Shape& logits, const Shape& labels)
    : op_(op),
      logits_(logits),
      labels_(labels),
      rows_(logits.h, labels.h, op.align_corners),
      columns_(logits.w, labels.w, op.align_corners) {
    std::int64_t o = 0;
    for (std::int64_t i = 0; i < logits.h; ++i) {
        band_first_.push_back(o);
        while (o < labels.h && rows_.taps[static_cast<std::size_t>(o)].i0 == i) ++o;
    }
    band_first_.push_back(o);
    for (const math::Tap& tap : columns_.taps) {
        left_.push_back(static_cast<std::int32_t>(tap.i0));
        right_.push_back(static_cast<std::int32_t>(tap.i1));
        t_.push_back(tap.t);
    }
}

std::int64_t SegmentationLossKernel::scratch_bytes(const Threads& threads) const {
    return Scratch::bytes_of<double>(logits_.n * logits_.h) +
           2 * Scratch::bytes_of<float>(logits_.elements()) +
           threads.count() * Planes::bytes(logits_.c, logits_.w, labels_.w);
}

void SegmentationLossKernel::interpolate(const Planes& p, float t) const {
    const std::int64_t size = logits_.c * logits_.w, width = labels_.w;
#pragma omp simd
    for (std::int64_t i = 0; i < size; ++i) p.between[i] = (1.0f - t) * p.upper[i] + t * p.lower[i];
    const std::int32_t *left = left_.data(), *right = right_.data();
    const float* weight = t_.data();
    for (std::int64_t k = 0; k < logits_.c; ++k) {
        const float* from = p.between + k * logits_.w;
        float* to = p.z + k * width;
#pragma omp simd
        for (std::int64_t x = 0; x < width; ++x) {
            to[x] = (1.0f - weight[x]) * from[left[x]] + weight[x] * from[right[x]];
        }
    }
}

// Leaves e^(logit - largest) in z and their sum in sum.
double SegmentationLossKernel::cross_entropy(const Planes& p, const std::uint8_t* labels) const {
    const std::int64_t width = labels_.w;
    std::copy(p.z, p.z + width, p.largest);
    for (std::int64_t k = 1; k < logits_.c; ++k) {
        const float* z = p.z + k * width;
#pragma omp simd
        for (std::int64_t x = 0; x < width; ++x)
            p.largest[x] = z[x] > p.largest[x] ? z[x] : p.largest[x];
    }
    for (std::int64_t x = 0; x < width; ++x) {
        if (labels[x] != op_.ignore) p.label_logit[x] = p.z[labels[x] * width + x];
    }
    std::fill(p.sum, p.sum + width, 0.0f);
    for (std::int64_t k = 0; k < logits_.c; ++k) {
        float* z = p.z + k * width;
#pragma omp simd
        for (std::int64_t x = 0; x < width; ++x) {
            z[x] = math::exp_nonpositive(z[x] - p.largest[x]);
            p.sum[x] += z[x];
        }
    }
    double loss = 0;
    for (std::int64_t x = 0; x < width; ++x) {
        if (labels[x] != op_.ignore)
            loss += math::cross_entropy(p.label_logit[x], p.largest[x], p.sum[x]);
    }
    return loss;
}

// (softmax - one hot) * gradient_scale, divided between the two logits rows.
void SegmentationLossKernel::accumulate(const Planes& p, const std::uint8_t* labels,
                                        float t) const {
    const std::int64_t width = labels_.w;
    const float scale = op_.gradient_scale;
    float* factor = p.sum;
    for (std::int64_t x = 0; x < width; ++x)
        factor[x] = labels[x] != op_.ignore ? scale / p.sum[x] : 0.0f;
    for (std::int64_t k = 0; k < logits_.c; ++k) {
        const float* z = p.z + k * width;
        float *upper = p.to_upper + k * width, *lower = p.to_lower + k * width;
#pragma omp simd
        for (std::int64_t x = 0; x < width; ++x) {
            const float gradient = factor[x] == 0.0f ? 0.0f : z[x] * factor[x];
            upper[x] += (1.0f - t) * gradient;
            lower[x] += t * gradient;
        }
    }
    for (std::int64_t x = 0; x < width; ++x) {
        if (labels[x] == op_.ignore) continue;
        p.to_upper[labels[x] * width + x] -= (1.0f - t) * scale;
        p.to_lower[labels[x] * width + x] -= t * scale;
    }
}

// (K, W) planes back to the logits' (w, K).
void SegmentationLossKernel::collect(const float* planes, float* row) const {
    for (std::int64_t x = 0; x < logits_.w; ++x) {
        const auto first = static_cast<std::size_t>(columns_.first[static_cast<std::size_t>(x)]);
        const auto last = static_cast<std::size_t>(columns_.first[static_cast<std::size_t>(x) + 1]);
        for (std::int64_t k = 0; k < logits_.c; ++k) {
            float sum = 0;
            for (std::size_t s = first; s < last; ++s) {
                sum += columns_.shares[s].weight *
                       planes[k * labels_.w + columns_.shares[s].output];
            }
            row[x * logits_.c + k] = sum;
        }
    }
}

double SegmentationLossKernel::band(const View& logits, const View& labels, std::int64_t n,
                                    std::int64_t i, const Planes& p, float* to_upper,
                                    float* to_lower) const {
    const std::int64_t classes = logits_.c, w = logits_.w, width = labels_.w,
                       below = std::min(i + 1, logits_.h - 1);
    const float* upper = logits.f32() + (n * logits_.h + i) * w * logits.pitch;
    const float* lower = logits.f32() + (n * logits_.h + below) * w * logits.pitch;
    for (std::int64_t x = 0; x < w; ++x) {
        for (std::int64_t k = 0; k < classes; ++k) {
            p.upper[k * w + x] = upper[x * logits.pitch + k];
            p.lower[k * w + x] = lower[x * logits.pitch + k];
        }
    }
    const bool gradients = to_upper != nullptr;
    if (gradients) {
        std::fill(p.to_upper, p.to_upper + classes * width, 0.0f);
        std::fill(p.to_lower, p.to_lower + classes * width, 0.0f);
    }
    double loss = 0;
    const auto at = static_cast<std::size_t>(i);
    for (std::int64_t y = band_first_[at]; y < band_first_[at + 1]; ++y) {
        const math::Tap& tap = rows_.taps[static_cast<std::size_t>(y)];
        const float t = tap.i1 == tap.i0 ? 0.0f : tap.t;
        const std::uint8_t* row = labels.u8() + (n * labels_.h + y) * width;
        if (std::all_of(row, row + width, [&](std::uint8_t label) { return label == op_.ignore; }))
            continue;
        interpolate(p, t);
        loss += cross_entropy(p, row);
        if (gradients) accumulate(p, row, t);
    }
    if (gradients) {
        collect(p.to_upper, to_upper);
        collect(p.to_lower, to_lower);
    }
    return loss;
}

void SegmentationLossKernel::run(const Threads& threads, const View& logits, const View& labels,
                                 const View& loss, const View& dlogits,
                                 const Buffer& buffer) const {
    const std::int64_t bands = logits_.n * logits_.h, row = logits_.w * logits_.c;
    const bool gradients = dlogits.buffer != nullptr;
    Scratch scratch(buffer);
    double* losses = scratch.take<double>(bands);
    float *to_upper = scratch.take<float>(bands * row),
          *to_lower = scratch.take<float>(bands * row);
    std::byte* planes = scratch.take<std::byte>(0);
    threads.split(bands, [&](int thread, std::int64_t first, std::int64_t last) {
        Scratch own(planes + thread * Planes::bytes(logits_.c, logits_.w, labels_.w));
        const Planes p(own, logits_.c, logits_.w, labels_.w);
        for (std::int64_t b = first; b < last; ++b) {
            losses[b] = band(logits, labels, b / logits_.h, b % logits_.h, p,
                             gradients ? to_upper + b * row : nullptr,
                             gradients ? to_lower + b * row : nullptr);
        }
    });
    double total = 0;
    for (std::int64_t b = 0; b < bands; ++b) total += losses[b];
    *loss.f64() = total;
    if (!gradients) return;
    // Every logits row collects from the band below it and the band above it.
    float* to = dlogits.f32();
    threads.each(bands, [&](std::int64_t b) {
        const float *own = to_upper + b * row,
                    *above = b % logits_.h > 0 ? to_lower + (b - 1) * row : nullptr;
        for (std::int64_t j = 0; j < row; ++j)
            to[b * row + j] = above != nullptr ? own[j] + above[j] : own[j];
    });
}

}  // namespace deeplab::cpu
