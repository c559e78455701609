#include "pooling.h"

#include "deeplab/math/pooling.h"
#include "launch.cuh"
#include "reduce.cuh"

namespace deeplab::cuda {
namespace {

struct Geometry {
    int in_h, in_w, out_h, out_w, channels, tiles, kernel, stride, pad;
};

// Of a thread in a pixel_tiling(): which column and first channel are its own.
struct Place {
    int column, channel;
};
template <int V>
__device__ __forceinline__ Place place(int tiles) {
    return {static_cast<int>(blockIdx.x / tiles * blockDim.y + threadIdx.y),
            static_cast<int>(blockIdx.x % tiles * blockDim.x + threadIdx.x) * V};
}

// V winners of an output, one byte each, in one access.
template <int V>
struct Winners {
    std::uint8_t tap[V];
};
template <>
struct alignas(8) Winners<8> {
    std::uint8_t tap[8];
};
template <>
struct alignas(4) Winners<4> {
    std::uint8_t tap[4];
};

template <class T, int V>
__global__ void __launch_bounds__(256, 4)
    max_pool_kernel(Rows<const T> x, Rows<T> y, Rows<std::uint8_t> arg, const Geometry g) {
    const Place at = place<V>(g.tiles);
    const int c = at.channel, p = static_cast<int>(blockIdx.y), q = at.column,
              n = static_cast<int>(blockIdx.z);
    if (c >= g.channels || q >= g.out_w) return;
    const math::Window h = math::pooling_window(p, g.kernel, g.stride, g.pad, g.in_h),
                       w = math::pooling_window(q, g.kernel, g.stride, g.pad, g.in_w);
    const int top = p * g.stride - g.pad, left = q * g.stride - g.pad;
    float best[V];
    int winner[V];
#pragma unroll
    for (int i = 0; i < V; ++i) {
        best[i] = __uint_as_float(0xff800000u);  // -inf
        winner[i] = static_cast<int>((h.first - top) * g.kernel + (w.first - left));
    }
    for (int i = static_cast<int>(h.first); i < static_cast<int>(h.last); ++i) {
        for (int j = static_cast<int>(w.first); j < static_cast<int>(w.last); ++j) {
            float value[V];
            load(x.at((n * g.in_h + i) * g.in_w + j, c), value);
            const int tap = (i - top) * g.kernel + (j - left);
#pragma unroll
            for (int k = 0; k < V; ++k) {
                if (!math::wins(value[k], best[k])) continue;
                best[k] = value[k];
                winner[k] = tap;
            }
        }
    }
    const int pixel = (n * g.out_h + p) * g.out_w + q;
    store(y.at(pixel, c), best);
    if (!arg) return;
    Winners<V> taps;
#pragma unroll
    for (int k = 0; k < V; ++k) taps.tap[k] = static_cast<std::uint8_t>(winner[k]);
    *reinterpret_cast<Winners<V>*>(arg.at(pixel, c)) = taps;
}

// Outputs whose window contains position i: o * stride - pad <= i < o * stride - pad + kernel.
__device__ __forceinline__ math::Window covering(int i, const Geometry& g, int outputs) {
    const int above = i + g.pad - g.kernel + 1, last = (i + g.pad) / g.stride + 1;
    return {above > 0 ? (above + g.stride - 1) / g.stride : 0, last < outputs ? last : outputs};
}

template <class T, int V>
__global__ void __launch_bounds__(256, 4)
    max_pool_grad_kernel(Rows<const T> dy, Rows<const std::uint8_t> arg, Rows<T> dx,
                         const Geometry g) {
    const Place at = place<V>(g.tiles);
    const int c = at.channel, i = static_cast<int>(blockIdx.y), j = at.column,
              n = static_cast<int>(blockIdx.z);
    if (c >= g.channels || j >= g.in_w) return;
    const math::Window h = covering(i, g, g.out_h), w = covering(j, g, g.out_w);
    float sum[V] = {};
    for (int p = static_cast<int>(h.first); p < static_cast<int>(h.last); ++p) {
        for (int q = static_cast<int>(w.first); q < static_cast<int>(w.last); ++q) {
            const int pixel = (n * g.out_h + p) * g.out_w + q;
            const int tap = (i - p * g.stride + g.pad) * g.kernel + (j - q * g.stride + g.pad);
            const Winners<V> taps = *reinterpret_cast<const Winners<V>*>(arg.at(pixel, c));
            float value[V];
            load(dy.at(pixel, c), value);
#pragma unroll
            for (int k = 0; k < V; ++k) sum[k] += taps.tap[k] == tap ? value[k] : 0.0f;
        }
    }
    store(dx.at((n * g.in_h + i) * g.in_w + j, c), sum);
}

Geometry geometry(const Shape& in, const Shape& out, std::int64_t tiles, std::int64_t kernel,
                  std::int64_t stride, std::int64_t pad) {
    expects(in.n * in.h * in.w < (std::int64_t{1} << 30), "kernels count pixels with 30 bits");
    expects(kernel * kernel <= 256, "a window's positions are bytes");
    const auto narrow = [](std::int64_t value) { return static_cast<int>(value); };
    return {narrow(in.h),  narrow(in.w),   narrow(out.h),  narrow(out.w), narrow(in.c),
            narrow(tiles), narrow(kernel), narrow(stride), narrow(pad)};
}

constexpr int pool_threads = 512;

template <class T, int V>
__global__ void __launch_bounds__(pool_threads, 2)
    sum_pixels_kernel(Rows<const T> x, Rows<T> y, int pixels, int channels, double factor) {
    const int c = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * V,
              n = static_cast<int>(blockIdx.y), step = static_cast<int>(blockDim.y);
    constexpr int unroll = 4;
    float sum[V] = {};
    for (int p = static_cast<int>(threadIdx.y); c < channels && p < pixels; p += unroll * step) {
        Packed<T, V> in[unroll];
#pragma unroll
        for (int u = 0; u < unroll; ++u) {
            if (p + u * step < pixels) in[u] = load<V>(x.at(n * pixels + p + u * step, c));
        }
#pragma unroll
        for (int u = 0; u < unroll; ++u) {
            if (p + u * step >= pixels) continue;
            float value[V];
            unpack(in[u], value);
#pragma unroll
            for (int i = 0; i < V; ++i) sum[i] += value[i];
        }
    }
    double own[V];
#pragma unroll
    for (int i = 0; i < V; ++i) own[i] = static_cast<double>(sum[i]);
    const double total = column_sum<V, pool_threads>(own);
    const int width = V * static_cast<int>(blockDim.x), t = thread_number(),
              channel = static_cast<int>(blockIdx.x) * width + column_channel<V>(t);
    if (t >= width || channel >= channels) return;
    const float result[1] = {static_cast<float>(total * factor)};
    store(y.at(n, channel), result);
}

template <class T, int V>
__global__ void __launch_bounds__(256, 4)
    spread_kernel(Rows<const T> dy, Rows<T> dx, int pixels, int channels, int tiles, float factor) {
    const Place at = place<V>(tiles);
    const int n = static_cast<int>(blockIdx.z);
    if (at.channel >= channels) return;
    float value[V];
    load(dy.at(n, at.channel), value);
#pragma unroll
    for (int i = 0; i < V; ++i) value[i] *= factor;
    const int columns = static_cast<int>(gridDim.x / tiles * blockDim.y);
    for (int p = at.column; p < pixels; p += columns)
        store(dx.at(n * pixels + p, at.channel), value);
}

}  // namespace

void max_pool(cudaStream_t stream, const graph::MaxPool& op, const View& x, const View& y,
              const View& arg) {
    expects(!arg || arg.pitch == y.shape.c, "winners are a whole tensor");
    with_vectors(
        [&](auto zero, auto width) {
            using T = decltype(zero);
            const PixelTiling t = pixel_tiling(y.shape, width, y.shape.h);
            launch("max pooling", stream, max_pool_kernel<T, width>, t.grid, t.block(), 0,
                   rows<const T>(x), rows<T>(y), rows<std::uint8_t>(arg),
                   geometry(x.shape, y.shape, t.tiles, op.kernel, op.stride, op.pad));
        },
        x, y);
}

void max_pool_grad(cudaStream_t stream, const graph::MaxPoolGrad& op, const View& dy,
                   const View& arg, const View& dx) {
    expects(arg.pitch == dy.shape.c, "winners are a whole tensor");
    with_vectors(
        [&](auto zero, auto width) {
            using T = decltype(zero);
            const PixelTiling t = pixel_tiling(dx.shape, width, dx.shape.h);
            launch("max pooling's gradient", stream, max_pool_grad_kernel<T, width>, t.grid,
                   t.block(), 0, rows<const T>(dy), rows<const std::uint8_t>(arg), rows<T>(dx),
                   geometry(dx.shape, dy.shape, t.tiles, op.kernel, op.stride, op.pad));
        },
        dy, dx);
}

void sum_pixels(cudaStream_t stream, const View& x, float factor, const View& y) {
    const std::int64_t pixels = x.shape.h * x.shape.w;
    with_vectors(
        [&](auto zero, auto width) {
            using T = decltype(zero);
            Tiling t = tiling(x.shape.c, pixels, width, width > 1 ? 8 : 32, pool_threads, 1, 1);
            t.splits = x.shape.n;
            launch("sum over pixels", stream, sum_pixels_kernel<T, width>, t.grid(), t.block(), 0,
                   rows<const T>(x), rows<T>(y), pixels, x.shape.c, factor);
        },
        x, y);
}

void global_average_pool(cudaStream_t stream, const View& x, const View& y) {
    sum_pixels(stream, x, 1.0f / static_cast<float>(x.shape.h * x.shape.w), y);
}

void global_average_pool_grad(cudaStream_t stream, const View& dy, const View& dx) {
    const std::int64_t pixels = dx.shape.h * dx.shape.w;
    with_vectors(
        [&](auto zero, auto width) {
            using T = decltype(zero);
            // Four pixels a thread.
            const PixelTiling t = pixel_tiling({dx.shape.n, dx.shape.c, 1, ceil_div(pixels, 4)},
                                               width, 1);
            launch("image pooling's gradient", stream, spread_kernel<T, width>, t.grid, t.block(),
                   0, rows<const T>(dy), rows<T>(dx), pixels, dx.shape.c, t.tiles,
                   1.0f / static_cast<float>(pixels));
        },
        dy, dx);
}

}  // namespace deeplab::cuda
