#pragma once
// Products of matrices for convolutions.

#include <cstdint>

namespace deeplab::cpu {

// By rows, `row` elements apart; transposed: what lies there is the operand's columns.
struct Matrix {
    const float* data;
    std::int64_t row;
    bool transposed;
};
struct Product {
    float* data;
    std::int64_t row;
};
struct Extents {
    std::int64_t rows, columns, inner;  // of the product, and what is summed over
};

// to = a b, or with `add` to + a b, by the calling thread alone. An element's sum is always taken
// in the same order, wherever in the matrices it stands: a pixel's outputs do not depend on the
// pixels that are computed with it, nor on how these are divided among ranks and threads. (oneDNN's
// dnnl_sgemm adds the last rows in another order.)
void multiply(const Matrix& a, const Matrix& b, const Product& to, const Extents& extents,
              bool add = false);

// A distance of rows of so many columns, for matrices whose columns are read: rows a power of two
// apart would fall into few of a cache's sets.
constexpr std::int64_t padded(std::int64_t columns) { return columns + 16; }

}  // namespace deeplab::cpu
