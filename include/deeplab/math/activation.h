#pragma once
// What follows a batch norm, and where its gradient passes.

#include <cstdint>

#include "deeplab/math/macros.h"

namespace deeplab::math {

enum class Activation : std::uint8_t { none, relu };  // the values are part of a plan's hash

constexpr const char* name(Activation a) {
    switch (a) {
        case Activation::none: return "";
        case Activation::relu: return "relu";
    }
    return "?";
}

// NaN passes, as in torch.
DEEPLAB_HD inline float activated(Activation a, float z) {
    switch (a) {
        case Activation::none: break;
        case Activation::relu: return 0.0f > z ? 0.0f : z;
    }
    return z;
}

// z: the activation's input; or its output, which tells the same.
DEEPLAB_HD inline bool passes(Activation a, float z) {
    switch (a) {
        case Activation::none: break;
        case Activation::relu: return z > 0.0f;
    }
    return true;
}

}  // namespace deeplab::math
