#pragma once
// PyTorch's shapes of parameters and running statistics; private to this folder.

#include <cstdint>
#include <string>
#include <vector>

#include "deeplab/base/text.h"
#include "deeplab/graph/plan.h"

namespace deeplab::weights {

using Extents = std::vector<std::int64_t>;

// Vectors have one extent in PyTorch, convolution weights four.
inline Extents extents_of(const graph::Parameter& p) {
    if (p.kind == graph::ParameterKind::conv_weight)
        return {p.shape.n, p.shape.c, p.shape.h, p.shape.w};
    return {p.shape.c};
}
inline Extents extents_of(const graph::State& s) { return {s.shape.c}; }

inline std::string text_of(const Extents& extents) {
    std::string text;
    for (const auto e : extents) text += cat(text.empty() ? "" : "x", e);
    return text.empty() ? "a scalar" : text;
}

}  // namespace deeplab::weights
