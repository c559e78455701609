#include "pooling.h"

#include <algorithm>
#include <limits>

#include "deeplab/math/pooling.h"
#include "scratch.h"

namespace deeplab::cpu {

std::int64_t pooling_scratch_bytes(const Threads& threads, std::int64_t channels) {
    return Scratch::bytes_of<double>(channels * threads.count());
}

void max_pool(const Threads& threads, const graph::MaxPool& op, const View& x, const View& y,
              const View& arg, const Buffer& buffer) {
    const Shape &in = x.shape, &out = y.shape;
    const std::int64_t channels = in.c;
    const float* from = x.f32();
    float* to = y.f32();
    std::uint8_t* winners = arg.buffer != nullptr ? arg.u8() : nullptr;
    std::int32_t* rows = Scratch(buffer).take<std::int32_t>(channels * threads.count());
    threads.split(out.n * out.h, [&](int thread, std::int64_t first, std::int64_t last) {
        std::int32_t* winner = rows + channels * thread;
        for (std::int64_t row = first; row < last; ++row) {
            const std::int64_t n = row / out.h, p = row % out.h;
            const math::Window h = math::pooling_window(p, op.kernel, op.stride, op.pad, in.h);
            for (std::int64_t q = 0; q < out.w; ++q) {
                const math::Window w = math::pooling_window(q, op.kernel, op.stride, op.pad, in.w);
                float* best = to + (row * out.w + q) * y.pitch;
                const auto tap = [&](std::int64_t i, std::int64_t j) {
                    const std::int64_t r = i - (p * op.stride - op.pad),
                                       s = j - (q * op.stride - op.pad);
                    return static_cast<std::int32_t>(r * op.kernel + s);
                };
                std::fill(best, best + channels, -std::numeric_limits<float>::infinity());
                std::fill(winner, winner + channels, tap(h.first, w.first));
                for (std::int64_t i = h.first; i < h.last; ++i) {
                    for (std::int64_t j = w.first; j < w.last; ++j) {
                        const float* value = from + ((n * in.h + i) * in.w + j) * x.pitch;
                        const std::int32_t position = tap(i, j);
#pragma omp simd
                        for (std::int64_t c = 0; c < channels; ++c) {
                            const bool better = math::wins(value[c], best[c]);
                            best[c] = better ? value[c] : best[c];
                            winner[c] = better ? position : winner[c];
                        }
                    }
                }
                if (winners == nullptr) continue;
                std::uint8_t* arguments = winners + (row * out.w + q) * arg.pitch;
                for (std::int64_t c = 0; c < channels; ++c)
                    arguments[c] = static_cast<std::uint8_t>(winner[c]);
            }
        }
    });
}

// Every input pixel collects from the windows that contain it.
void max_pool_grad(const Threads& threads, const graph::MaxPoolGrad& op, const View& dy,
                   const View& arg, const View& dx) {
    const Shape &in = dx.shape, &out = dy.shape;
    const std::int64_t channels = in.c;
    const float* from = dy.f32();
    const std::uint8_t* winners = arg.u8();
    float* to = dx.f32();
    // Outputs whose window contains position i: o * stride - pad <= i < o * stride - pad + kernel.
    const auto covering = [&](std::int64_t i, std::int64_t size) {
        const std::int64_t above = i + op.pad - op.kernel + 1;  // first o: ceil(above / stride)
        return math::Window{above > 0 ? (above + op.stride - 1) / op.stride : 0,
                            std::min((i + op.pad) / op.stride + 1, size)};
    };
    threads.each(in.n * in.h, [&](std::int64_t row) {
        const std::int64_t n = row / in.h, i = row % in.h;
        const math::Window h = covering(i, out.h);
        for (std::int64_t j = 0; j < in.w; ++j) {
            const math::Window w = covering(j, out.w);
            float* sum = to + (row * in.w + j) * dx.pitch;
            std::fill(sum, sum + channels, 0.0f);
            for (std::int64_t p = h.first; p < h.last; ++p) {
                for (std::int64_t q = w.first; q < w.last; ++q) {
                    const std::int64_t pixel = (n * out.h + p) * out.w + q;
                    const float* gradient = from + pixel * dy.pitch;
                    const std::uint8_t* winner = winners + pixel * arg.pitch;
                    const auto tap = static_cast<std::int32_t>(
                        (i - p * op.stride + op.pad) * op.kernel + (j - q * op.stride + op.pad));
#pragma omp simd
                    for (std::int64_t c = 0; c < channels; ++c)
                        sum[c] += winner[c] == tap ? gradient[c] : 0.0f;
                }
            }
        }
    });
}

// A thread's part are channels of one sample: the order of additions does not depend on the number
// of threads.
void global_average_pool(const Threads& threads, const View& x, const View& y,
                         const Buffer& buffer) {
    constexpr std::int64_t block = 64;
    const std::int64_t channels = x.shape.c, pixels = x.shape.h * x.shape.w,
                       blocks = (channels + block - 1) / block;
    const float* from = x.f32();
    float* to = y.f32();
    double* sums = Scratch(buffer).take<double>(channels * threads.count());
    threads.split(x.shape.n * blocks, [&](int thread, std::int64_t first, std::int64_t last) {
        double* sum = sums + channels * thread;
        for (std::int64_t item = first; item < last; ++item) {
            const std::int64_t n = item / blocks, begin = item % blocks * block,
                               count = std::min(block, channels - begin);
            std::fill(sum, sum + count, 0.0);
            for (std::int64_t p = 0; p < pixels; ++p) {
                const float* row = from + (n * pixels + p) * x.pitch + begin;
#pragma omp simd
                for (std::int64_t c = 0; c < count; ++c) sum[c] += static_cast<double>(row[c]);
            }
            float* mean = to + n * y.pitch + begin;
            for (std::int64_t c = 0; c < count; ++c)
                mean[c] = static_cast<float>(sum[c] / static_cast<double>(pixels));
        }
    });
}

void global_average_pool_grad(const Threads& threads, const View& dy, const View& dx) {
    const std::int64_t channels = dx.shape.c, pixels = dx.shape.h * dx.shape.w;
    const float* from = dy.f32();
    float* to = dx.f32();
    const float share = 1.0f / static_cast<float>(pixels);
    threads.each(dx.pixels(), [&](std::int64_t p) {
        const float* gradient = from + p / pixels * dy.pitch;
        float* row = to + p * dx.pitch;
#pragma omp simd
        for (std::int64_t c = 0; c < channels; ++c) row[c] = gradient[c] * share;
    });
}

}  // namespace deeplab::cpu
