#pragma once
// Forms that a compiler cannot evaluate in two ways: decisions taken from them (a ReLU's mask,
// which two rows a pixel lies between) come out the same in the forward and in the backward pass.

#include <cmath>

#include "deeplab/math/macros.h"

namespace deeplab::math {

// a * b + c: one instruction where the processor has it; elsewhere there is nothing to contract
// into.
DEEPLAB_HD inline float multiply_add(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
    return fmaf(a, b, c);
#elif defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

// a - b of an `a` that is a rounded product: kernels would subtract from the exact one.
DEEPLAB_HD inline float subtract(float a, float b) {
#if defined(__CUDA_ARCH__)
    return __fsub_rn(a, b);
#else
    return a - b;
#endif
}

}  // namespace deeplab::math
