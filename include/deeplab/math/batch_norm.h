#pragma once
// Batch normalisation (Ioffe and Szegedy, arXiv 1502.03167; torch.nn.BatchNorm2d), one channel.

#include <cmath>

#include "deeplab/math/fused.h"
#include "deeplab/math/macros.h"

namespace deeplab::math {

// Mean and biased variance of `count` values from their sum and sum of squares.
struct Moments {
    double mean, variance;
};

DEEPLAB_HD inline Moments moments(double sum, double sum_of_squares, double count) {
    const double mean = sum / count, variance = sum_of_squares / count - mean * mean;
    return {mean,
            variance > 0 ? variance : (variance <= 0 ? 0.0 : variance)};  // rounding; NaN stays
}

DEEPLAB_HD inline float inverse_deviation(double variance, float eps) {
    return static_cast<float>(1.0 / sqrt(variance + static_cast<double>(eps)));
}

// The running variance is of the unbiased estimate; one value alone has none and counts as it is.
DEEPLAB_HD inline double unbiased(double variance, double count) {
    return count > 1 ? variance * (count / (count - 1)) : variance;
}

DEEPLAB_HD inline float running(float old, double observed, float momentum) {
    const double m = static_cast<double>(momentum);
    return static_cast<float>((1.0 - m) * static_cast<double>(old) + m * observed);
}

// gamma * (x - mean) * invstd + beta as x * scale + shift.
struct Affine {
    float scale, shift;
};

DEEPLAB_HD inline Affine batch_norm_affine(float gamma, float beta, float mean, float invstd) {
    const float scale = gamma * invstd;
    return {scale, multiply_add(-mean, scale, beta)};
}

DEEPLAB_HD inline float batch_norm(float x, Affine a) { return multiply_add(x, a.scale, a.shift); }

// dx = gamma * invstd * (dz - sum_dz / n - xhat * sum_dz_xhat / n) as dz * dz_factor + (x - mean) *
// x_factor + constant.
struct InputGradient {
    float dz_factor, x_factor, constant;
};

DEEPLAB_HD inline InputGradient batch_norm_input_gradient(float gamma, float invstd, double sum_dz,
                                                          double sum_dz_xhat, double count) {
    const double g = static_cast<double>(gamma) * static_cast<double>(invstd);
    return {static_cast<float>(g),
            static_cast<float>(-g * static_cast<double>(invstd) * sum_dz_xhat / count),
            static_cast<float>(-g * sum_dz / count)};
}

DEEPLAB_HD inline float batch_norm_dx(float dz, float x, float mean, InputGradient g) {
    return multiply_add(dz, g.dz_factor, multiply_add(x - mean, g.x_factor, g.constant));
}

}  // namespace deeplab::math
