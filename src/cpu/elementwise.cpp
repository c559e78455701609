#include "elementwise.h"

#include <algorithm>

#include "deeplab/math/bf16.h"
#include "gradient_rows.h"
#include "scratch.h"

namespace deeplab::cpu {
namespace {

constexpr std::int64_t batch = 16;          // Philox blocks drawn at once
constexpr std::int64_t channel_group = 16;  // a cache line of every pixel

std::int64_t tile_width(std::int64_t width) { return width + 4 * batch + 3; }

// Factors of the elements [first, first + count) of a sample, in C H W order, to out[0], out[1], …;
// writes up to 4 * batch + 3 elements more. The draws are those of math::dropout_keeps, a vector of
// blocks at once.
void draw_factors(const DropoutRule& rule, math::SampleKey sample, std::int64_t first,
                  std::int64_t count, float* out) {
    const float factor = 1.0f / (1.0f - rule.probability);
    const std::uint32_t stream = static_cast<std::uint32_t>(math::Stream::dropout) + rule.layer;
    const std::int64_t end = (first + count + 3) / 4;
    float* to = out - first % 4;
    for (std::int64_t block = first / 4; block < end; block += batch, to += 4 * batch) {
        float drawn[4][batch];
#pragma omp simd
        for (std::int64_t b = 0; b < batch; ++b) {
            const math::Philox4 r = math::sample_random(rule.seed, sample, stream,
                                                        static_cast<std::uint32_t>(block + b));
            drawn[0][b] = math::uniform(r.v[0]) >= rule.probability ? factor : 0.0f;
            drawn[1][b] = math::uniform(r.v[1]) >= rule.probability ? factor : 0.0f;
            drawn[2][b] = math::uniform(r.v[2]) >= rule.probability ? factor : 0.0f;
            drawn[3][b] = math::uniform(r.v[3]) >= rule.probability ? factor : 0.0f;
        }
        for (std::int64_t b = 0; b < batch; ++b) {
            for (std::int64_t i = 0; i < 4; ++i) to[4 * b + i] = drawn[i][b];
        }
    }
}

}  // namespace

std::int64_t dropout_scratch_bytes(const Threads& threads, const Shape& s) {
    return threads.count() * Scratch::bytes_of<float>(channel_group * tile_width(s.w) + 4);
}

void dropout(const Threads& threads, const DropoutRule& rule,
             std::span<const math::SampleKey> samples, const View& x, const View& y,
             const Buffer& buffer) {
    const Shape& s = x.shape;
    const std::int64_t width = tile_width(s.w);
    Scratch scratch(buffer);
    std::vector<float*> tiles;
    for (int t = 0; t < threads.count(); ++t)
        tiles.push_back(scratch.take<float>(channel_group * width + 4) + 4);
    threads.split(s.n * s.h, [&](int thread, std::int64_t first, std::int64_t last) {
        float* tile = tiles[static_cast<std::size_t>(thread)];  // (group, W) of an image row
        for (std::int64_t item = first; item < last; ++item) {
            const std::int64_t n = item / s.h, h = item % s.h;
            const math::SampleKey sample = samples[static_cast<std::size_t>(n)];
            for (std::int64_t from = 0; from < s.c; from += channel_group) {
                const std::int64_t count = std::min(channel_group, s.c - from);
                for (std::int64_t c = 0; c < count; ++c)
                    draw_factors(rule, sample, ((from + c) * s.h + h) * s.w, s.w, tile + c * width);
                for (std::int64_t w = 0; w < s.w; ++w) {
                    const float *in = x.f32() + (item * s.w + w) * x.pitch + from,
                                *factor = tile + w;
                    float* out = y.f32() + (item * s.w + w) * y.pitch + from;
                    for (std::int64_t c = 0; c < count; ++c, factor += width)
                        out[c] = *factor == 0.0f ? 0.0f : in[c] * *factor;
                }
            }
        }
    });
}

void round_to_bf16(const Threads& threads, const View& from, const View& to) {
    const float* source = from.f32();
    float* target = to.f32();
    const auto part = [](const float* in, float* out, std::int64_t count) {
#pragma omp simd
        for (std::int64_t i = 0; i < count; ++i) out[i] = math::round_to_bf16(in[i]);
    };
    const std::int64_t channels = from.shape.c;
    if (from.pitch == channels && to.pitch == channels) {
        threads.split(from.shape.elements(), [&](int, std::int64_t first, std::int64_t last) {
            part(source + first, target + first, last - first);
        });
    } else {
        threads.each(from.pixels(), [&](std::int64_t p) {
            part(source + p * from.pitch, target + p * to.pitch, channels);
        });
    }
}

void sum(const Threads& threads, const std::vector<View>& in, const View& out) {
    const GradientRows rows(in);
    float* to = out.f32();
    threads.each(out.pixels(), [&](std::int64_t p) { rows.row(p, to + p * out.pitch); });
}

}  // namespace deeplab::cpu
