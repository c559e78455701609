#pragma once
// What follows a batch norm, and where its gradient passes.

#include <cstdint>

#include "deeplab/math/macros.h"

namespace deeplab::math {

enum class Activation : std::uint8_t { none, relu, relu6 };  // the values are part of a plan's hash

constexpr const char* name(Activation a) {
    switch (a) {
        case Activation::none: return "";
        case Activation::relu: return "relu";
        case Activation::relu6: return "relu6";
    }
    return "?";
}

// NaN passes, as in torch.
DEEPLAB_HD inline float activated(Activation a, float z) {
    switch (a) {
        case Activation::none: break;
        case Activation::relu: return 0.0f > z ? 0.0f : z;
        case Activation::relu6: return 0.0f > z ? 0.0f : z > 6.0f ? 6.0f : z;
    }
    return z;
}

// z: the activation's input; or its output, which tells the same where it is exact. (A bf16 copy
// of an output just below 6 is 6.)
DEEPLAB_HD inline bool passes(Activation a, float z) {
    switch (a) {
        case Activation::none: break;
        case Activation::relu: return z > 0.0f;
        case Activation::relu6: return z > 0.0f && z < 6.0f;
    }
    return true;
}

}  // namespace deeplab::math
