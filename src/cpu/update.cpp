#include "update.h"

#include <algorithm>
#include <cmath>

#include "deeplab/math/sgd.h"
#include "scratch.h"

namespace deeplab::cpu {
namespace {

constexpr std::int64_t block = 1 << 14,
                       lanes = 16;  // the norm's partial sums: the same for any number of threads

std::int64_t blocks(std::int64_t parameters) { return (parameters + block - 1) / block; }

double sum_of_squares(const float* values, std::int64_t count) {
    double sums[lanes] = {};
    std::int64_t i = 0;
    for (; i + lanes <= count; i += lanes) {
#pragma omp simd
        for (std::int64_t lane = 0; lane < lanes; ++lane) {
            const double v = static_cast<double>(values[i + lane]);
            sums[lane] += v * v;
        }
    }
    for (; i < count; ++i)
        sums[0] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
    double sum = 0;
    for (const double s : sums) sum += s;
    return sum;
}

}  // namespace

std::int64_t update_scratch_bytes(std::int64_t parameters) {
    return Scratch::bytes_of<double>(blocks(parameters));
}

UpdateResult update(const Threads& threads, const graph::UpdateRule& rule, std::int64_t parameters,
                    double learning_rate, double scale, float* values, const float* gradients,
                    float* momenta, const Buffer& buffer) {
    double* partial = Scratch(buffer).take<double>(blocks(parameters));
    threads.each(blocks(parameters), [&](std::int64_t b) {
        partial[b] = sum_of_squares(gradients + b * block, std::min(block, parameters - b * block));
    });
    double squares = 0;
    for (std::int64_t b = 0; b < blocks(parameters); ++b) squares += partial[b];
    const double norm = std::sqrt(squares) * scale;
    if (!std::isfinite(norm)) return {false, norm};

    const auto factor = static_cast<float>(
        scale * math::clip_factor(norm, static_cast<double>(rule.clip_norm)));
    for (const graph::UpdateSegment& segment : rule.segments) {
        const math::SgdRule sgd{
            static_cast<float>(learning_rate * static_cast<double>(segment.lr_multiplier)),
            rule.momentum, segment.weight_decay, segment.steps, rule.accumulate_decay};
        threads.split(segment.count, [&](int, std::int64_t first, std::int64_t last) {
            const float* g = gradients + segment.offset;
            float *value = values + segment.offset, *momentum = momenta + segment.offset;
            if (sgd.steps == 1) {
                const math::SgdRule once{sgd.learning_rate, sgd.momentum, sgd.weight_decay, 1};
#pragma omp simd
                for (std::int64_t i = first; i < last; ++i)
                    math::sgd(value[i], momentum[i], g[i] * factor, once);
            } else {
                for (std::int64_t i = first; i < last; ++i)
                    math::sgd(value[i], momentum[i], g[i] * factor, sgd);
            }
        });
    }
    return {true, norm};
}

}  // namespace deeplab::cpu
