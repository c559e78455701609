#pragma once
// a * b + c in a form that a compiler cannot evaluate in two ways: decisions taken from it (a
// ReLU's mask) come out the same in the forward and in the backward pass.

#include <cmath>

#include "deeplab/math/macros.h"

namespace deeplab::math {

// One instruction where the processor has it; elsewhere there is nothing to contract into.
DEEPLAB_HD inline float multiply_add(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
    return fmaf(a, b, c);
#elif defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

}  // namespace deeplab::math
