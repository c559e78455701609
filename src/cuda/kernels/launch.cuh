#pragma once
// The host's side of a kernel: how many blocks of which shape, element types, the launch itself.
// Shapes decide, never the device: a sum has the same order of additions everywhere.

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "check.h"
#include "deeplab/base/error.h"
#include "scratch.h"
#include "vector.cuh"
#include "view.h"

namespace deeplab::cuda {

// Multiprocessors of the GPU that grids are made for (H100 and H200, SXM).
constexpr std::int64_t processors = 132;

template <class... Parameters, class... Arguments>
void launch(const char* what, cudaStream_t stream, void (*kernel)(Parameters...), dim3 grid,
            dim3 block, std::size_t shared, const Arguments&... arguments) {
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), what);
}

inline unsigned as_unsigned(std::int64_t value) { return static_cast<unsigned>(value); }
constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

template <class T>
Rows<T> rows(const View& v) {
    return {v.as<T>(), v.pitch};
}

// f(T{}) with the activations' type.
template <class F>
void with_type(DType type, const F& f) {
    if (type == DType::f32) return f(float{});
    if (type == DType::bf16) return f(__nv_bfloat16{});
    throw LogicError("activations are f32 or bf16");
}

// Whether all accesses to these tensors can be 16 bytes wide.
template <class T, class... Views>
bool wide(const Views&... views) {
    const auto fits = [](const View& v) {
        return !v || (v.shape.c % vector_width<T> == 0 && v.pitch % vector_width<T> == 0 &&
                      reinterpret_cast<std::uintptr_t>(v.data) % 16 == 0);
    };
    return (fits(views) && ...);
}

// f(T{}, V) with V = values of an access, a std::integral_constant.
template <class F, class... Views>
void with_vectors(const F& f, const View& first, const Views&... others) {
    with_type(first.type, [&](auto zero) {
        using T = decltype(zero);
        expects(((!others || others.type == first.type) && ...),
                "the tensors of a kernel have one type");
        if (wide<T>(first, others...)) {
            f(zero, std::integral_constant<int, vector_width<T>>{});
        } else {
            f(zero, std::integral_constant<int, 1>{});
        }
    });
}

// A block is `lanes` vectors of channels wide and `rows` pixels high; `tiles` of them make up the
// channels, `splits` share the pixels.
struct Tiling {
    std::int64_t lanes, rows, tiles, splits;

    dim3 block() const { return {as_unsigned(lanes), as_unsigned(rows)}; }
    dim3 grid() const { return {as_unsigned(tiles), as_unsigned(splits)}; }
};

// `blocks`: of the grid, about; each thread has `pixels_each` pixels at least, where there are as
// many.
inline Tiling tiling(std::int64_t channels, std::int64_t pixels, int width, int widest, int threads,
                     std::int64_t blocks, int pixels_each) {
    expects(channels > 0 && pixels > 0 && pixels < (std::int64_t{1} << 30),
            "kernels count pixels with 30 bits");
    Tiling t{};
    const std::int64_t vectors = ceil_div(channels, width);
    t.tiles = ceil_div(vectors, widest);
    t.lanes = ceil_div(vectors, t.tiles);
    t.rows = threads / t.lanes;
    const std::int64_t useful = ceil_div(pixels, t.rows * pixels_each);
    t.splits = std::clamp<std::int64_t>(blocks / t.tiles, 1, useful);
    return t;
}

// Element by element: whole cache lines a row, eight blocks a processor.
inline Tiling elementwise_tiling(const View& v, int width) {
    return tiling(v.shape.c, v.pixels(), width, 32, 256, 8 * processors, 2);
}

// One thread an output pixel and vector of channels: block (lanes, columns), grid (tiles * groups
// of columns, rows, samples).
struct PixelTiling {
    std::int64_t lanes, columns, tiles;
    dim3 grid;

    dim3 block() const { return {as_unsigned(lanes), as_unsigned(columns)}; }
};

inline PixelTiling pixel_tiling(const Shape& out, int width, std::int64_t rows) {
    expects(out.n <= 65535 && rows <= 65535, "a grid has at most 65535 rows and samples");
    PixelTiling t{};
    const std::int64_t vectors = ceil_div(out.c, width);
    t.tiles = ceil_div(vectors, 32);
    t.lanes = ceil_div(vectors, t.tiles);
    t.columns = std::min(256 / t.lanes, out.w);
    t.grid = {as_unsigned(t.tiles * ceil_div(out.w, t.columns)), as_unsigned(rows),
              as_unsigned(out.n)};
    return t;
}

}  // namespace deeplab::cuda
