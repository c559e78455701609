#pragma once
// Softmax and cross-entropy of one pixel (torch.nn.functional.cross_entropy).

#include <cmath>
#include <cstdint>
#include <cstring>

#include "deeplab/math/fused.h"
#include "deeplab/math/macros.h"

namespace deeplab::math {

// e^x for x <= 0, to 2 units in the last place; below -87 the result is e^-87. Straight-line code:
// loops over it become vector code. x = n ln 2 + r with |r| <= ln 2 / 2 (ln 2 in two parts, Cody
// and Waite), e^r by its Taylor polynomial of degree 7 (remainder 2e-9).
DEEPLAB_HD inline float exp_nonpositive(float x) {
    const float clamped = x < -87.0f ? -87.0f : x;
    const float shifted = multiply_add(clamped, 1.44269504f,
                                       12582912.0f);  // 1.5 * 2^23: rounds to an integer
    const float n = shifted - 12582912.0f;
    const float r = multiply_add(n, 2.12194440e-4f, multiply_add(n, -0.693359375f, clamped));
    float p = 1.98412698e-4f;
    p = multiply_add(p, r, 1.38888889e-3f);
    p = multiply_add(p, r, 8.33333333e-3f);
    p = multiply_add(p, r, 4.16666667e-2f);
    p = multiply_add(p, r, 1.66666667e-1f);
    p = multiply_add(p, r, 0.5f);
    p = multiply_add(p, r, 1.0f);
    p = multiply_add(p, r, 1.0f);
    std::uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 23) + (127u << 23);  // the low bits of `shifted` are n: exponent of 2^n
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

// -log softmax[label] from the label's logit, the largest logit and the sum of e^(logit - largest).
DEEPLAB_HD inline double cross_entropy(float label_logit, float largest, float sum) {
    return static_cast<double>(largest) - static_cast<double>(label_logit) +
           static_cast<double>(logf(sum));
}

}  // namespace deeplab::math
