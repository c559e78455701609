#include "matrix.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "vector.h"

namespace deeplab::cpu {
namespace {

// A tile of the product is kept in registers: `tile_rows` of two vectors.
constexpr std::int64_t tile_columns = 2 * lanes;
#if defined(__AVX512F__)
constexpr int tile_rows = 12;
#else
constexpr int tile_rows = 6;
#endif
// A block of b: its panels of tile_columns lie in the first cache one by one, all in the second.
constexpr std::int64_t block_inner = 256, block_columns = 256;

// Elements a[i * row + k * column] times a panel of b, (inner, tile_columns), to a tile.
struct Strided {
    const float* data;
    std::int64_t row, column;
};

// As std::copy_n; what is a tile wide is moved in place instead of by a call.
template <std::int64_t Whole>
void copy_row(const float* from, std::int64_t count, float* to) {
    if (count == Whole) {
        std::memcpy(to, from, Whole * sizeof(float));
    } else {
        std::copy_n(from, count, to);
    }
}

template <int Rows>
void multiply_tile(const Strided& a, const float* panel, std::int64_t inner, float* to,
                   std::int64_t to_row, bool add) {
    Vector sum[Rows][2] = {};
    const float* from = a.data;
    for (std::int64_t k = 0; k < inner; ++k, from += a.column, panel += tile_columns) {
        Vector left, right;
        load(panel, left);
        load(panel + lanes, right);
        for (int i = 0; i < Rows; ++i) {
            sum[i][0] += from[i * a.row] * left;
            sum[i][1] += from[i * a.row] * right;
        }
    }
    for (int i = 0; i < Rows; ++i) {
        for (int half = 0; half < 2; ++half) {
            float* place = to + i * to_row + half * lanes;
            Vector before = {};
            if (add) load(place, before);
            store(before + sum[i][half], place);
        }
    }
}

template <int Rows>
void multiply_rows(std::int64_t rows, const Strided& a, const float* panel, std::int64_t inner,
                   float* to, std::int64_t to_row, bool add) {
    if constexpr (Rows > 0) {
        if (rows == Rows) {
            multiply_tile<Rows>(a, panel, inner, to, to_row, add);
        } else {
            multiply_rows<Rows - 1>(rows, a, panel, inner, to, to_row, add);
        }
    }
}

// The same for a tile of fewer columns, by way of a whole one.
void multiply_edge(std::int64_t rows, std::int64_t columns, const Strided& a, const float* panel,
                   std::int64_t inner, float* to, std::int64_t to_row, bool add) {
    float tile[tile_rows * tile_columns] = {};
    for (std::int64_t i = 0; add && i < rows; ++i)
        std::copy_n(to + i * to_row, columns, tile + i * tile_columns);
    multiply_rows<tile_rows>(rows, a, panel, inner, tile, tile_columns, add);
    for (std::int64_t i = 0; i < rows; ++i)
        std::copy_n(tile + i * tile_columns, columns, to + i * to_row);
}

// Rows [k, k + inner) and columns [j, j + columns) of b as panels, with zeros behind the last.
void pack(const Matrix& b, std::int64_t k, std::int64_t inner, std::int64_t j, std::int64_t columns,
          float* panels) {
    for (std::int64_t first = 0; first < columns; first += tile_columns) {
        const std::int64_t width = std::min(tile_columns, columns - first);
        float* to = panels + first * inner;
        if (width < tile_columns) std::fill_n(to, inner * tile_columns, 0.0f);
        if (b.transposed) {
            for (std::int64_t c = 0; c < width; ++c) {
                const float* from = b.data + (j + first + c) * b.row + k;
                for (std::int64_t i = 0; i < inner; ++i) to[i * tile_columns + c] = from[i];
            }
        } else {
            for (std::int64_t i = 0; i < inner; ++i)
                copy_row<tile_columns>(b.data + (k + i) * b.row + j + first, width,
                                       to + i * tile_columns);
        }
    }
}

// Rows [i, i + rows) of a, from column k on: where they lie, or where they are columns, copied.
Strided tile_of(const Matrix& a, std::int64_t i, std::int64_t rows, std::int64_t k,
                std::int64_t inner, float* copy) {
    if (!a.transposed) return {a.data + i * a.row + k, a.row, 1};
    for (std::int64_t at = 0; at < inner; ++at)
        copy_row<tile_rows>(a.data + (k + at) * a.row + i, rows, copy + at * tile_rows);
    return {copy, 1, tile_rows};
}

}  // namespace

void multiply(const Matrix& a, const Matrix& b, const Product& to, const Extents& n, bool add) {
    static thread_local std::vector<float> panels(block_inner * block_columns);
    float copy[block_inner * tile_rows];
    for (std::int64_t k = 0; k < n.inner; k += block_inner) {
        const std::int64_t inner = std::min(block_inner, n.inner - k);
        for (std::int64_t j = 0; j < n.columns; j += block_columns) {
            const std::int64_t columns = std::min(block_columns, n.columns - j);
            pack(b, k, inner, j, columns, panels.data());
            for (std::int64_t i = 0; i < n.rows; i += tile_rows) {
                const std::int64_t rows = std::min<std::int64_t>(tile_rows, n.rows - i);
                const Strided tile = tile_of(a, i, rows, k, inner, copy);
                for (std::int64_t first = 0; first < columns; first += tile_columns) {
                    const float* panel = panels.data() + first * inner;
                    float* place = to.data + i * to.row + j + first;
                    if (columns - first >= tile_columns) {
                        multiply_rows<tile_rows>(rows, tile, panel, inner, place, to.row,
                                                 add || k > 0);
                    } else {
                        multiply_edge(rows, columns - first, tile, panel, inner, place, to.row,
                                      add || k > 0);
                    }
                }
            }
        }
    }
}

}  // namespace deeplab::cpu
