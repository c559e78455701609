#include "resize.h"

#include "launch.cuh"
#include "pooling.h"
#include "reduce.cuh"
#include "taps.cuh"

namespace deeplab::cuda {
namespace {

struct Geometry {
    int in_h, in_w, out_h, out_w, channels, tiles;
    bool align_corners;
};

constexpr int band = 8;  // output rows of a block: it reads about band / scale + 1 input rows

// One input row between two columns.
template <class T, int V>
__device__ __forceinline__ void between(const Rows<const T>& x, int row, const math::Tap& h, int c,
                                        float (&v)[V]) {
    float left[V], right[V];
    load(x.at(row + static_cast<int>(h.i0), c), left);
    load(x.at(row + static_cast<int>(h.i1), c), right);
#pragma unroll
    for (int i = 0; i < V; ++i) v[i] = (1.0f - h.t) * left[i] + h.t * right[i];
}

// A thread goes down a column of a band: rows between the same two input rows share their loads.
template <class T, int V>
__global__ void __launch_bounds__(256, 4)
    upsample_kernel(Rows<const T> x, Rows<T> y, const Geometry g) {
    const int c = static_cast<int>(blockIdx.x % g.tiles * blockDim.x + threadIdx.x) * V,
              q = static_cast<int>(blockIdx.x / g.tiles * blockDim.y + threadIdx.y),
              n = static_cast<int>(blockIdx.z), first = static_cast<int>(blockIdx.y) * band;
    if (c >= g.channels || q >= g.out_w) return;
    const math::Tap h = math::bilinear_tap(q, g.in_w, g.out_w, g.align_corners);
    float upper[V] = {}, lower[V] = {};
    std::int64_t in_upper = -1, in_lower = -1;  // the input rows that are there
    for (int p = first; p < min(first + band, g.out_h); ++p) {
        const math::Tap v = math::bilinear_tap(p, g.in_h, g.out_h, g.align_corners);
        if (v.i0 != in_upper) {
            if (v.i0 == in_lower) {
#pragma unroll
                for (int i = 0; i < V; ++i) upper[i] = lower[i];
            } else {
                between(x, (n * g.in_h + static_cast<int>(v.i0)) * g.in_w, h, c, upper);
            }
            in_upper = v.i0;
        }
        if (v.i1 != in_lower) {
            between(x, (n * g.in_h + static_cast<int>(v.i1)) * g.in_w, h, c, lower);
            in_lower = v.i1;
        }
        float result[V];
#pragma unroll
        for (int i = 0; i < V; ++i) result[i] = (1.0f - v.t) * upper[i] + v.t * lower[i];
        store(y.at((n * g.out_h + p) * g.out_w + q, c), result);
    }
}

constexpr int rows_at_once = 64;

// The weights of the row's outputs lie in shared memory, `rows_at_once` at a time.
template <class T, int V>
__global__ void __launch_bounds__(256, 4)
    upsample_grad_kernel(Rows<const T> dy, Rows<T> dx, const Geometry g) {
    __shared__ float weights[rows_at_once];
    const int c = static_cast<int>(blockIdx.x % g.tiles * blockDim.x + threadIdx.x) * V,
              j = static_cast<int>(blockIdx.x / g.tiles * blockDim.y + threadIdx.y),
              i = static_cast<int>(blockIdx.y), n = static_cast<int>(blockIdx.z);
    const bool active = c < g.channels && j < g.in_w;
    const Span down = contributions(i, g.in_h, g.out_h, g.align_corners),
               across = contributions(j, g.in_w, g.out_w, g.align_corners);
    float sum[V] = {};
    for (int begin = down.first; begin < down.last; begin += rows_at_once) {
        const int count = min(rows_at_once, down.last - begin);
        __syncthreads();
        for (int r = thread_number(); r < count; r += thread_count())
            weights[r] = weight(begin + r, i, g.in_h, g.out_h, g.align_corners);
        __syncthreads();
        if (!active) continue;
        for (int q = across.first; q < across.last; ++q) {
            const float horizontal = weight(q, j, g.in_w, g.out_w, g.align_corners);
            if (horizontal == 0.0f) continue;
#pragma unroll 4
            for (int r = 0; r < count; ++r) {
                const float w = weights[r] * horizontal;
                float value[V];
                load(dy.at((n * g.out_h + begin + r) * g.out_w + q, c), value);
#pragma unroll
                for (int k = 0; k < V; ++k) sum[k] = fmaf(w, value[k], sum[k]);
            }
        }
    }
    if (active) store(dx.at((n * g.in_h + i) * g.in_w + j, c), sum);
}

Geometry geometry(const Shape& in, const Shape& out, std::int64_t tiles, bool align_corners) {
    expects(std::max(in.n * in.h * in.w, out.n * out.h * out.w) < (std::int64_t{1} << 30),
            "kernels count pixels with 30 bits");
    return {static_cast<int>(in.h),
            static_cast<int>(in.w),
            static_cast<int>(out.h),
            static_cast<int>(out.w),
            static_cast<int>(in.c),
            static_cast<int>(tiles),
            align_corners};
}

}  // namespace

void upsample(cudaStream_t stream, const graph::Upsample& op, const View& x, const View& y) {
    with_vectors(
        [&](auto zero, auto width) {
            using T = decltype(zero);
            const PixelTiling t = pixel_tiling(y.shape, width, ceil_div(y.shape.h, band));
            launch("upsampling", stream, upsample_kernel<T, width>, t.grid, t.block(), 0,
                   rows<const T>(x), rows<T>(y),
                   geometry(x.shape, y.shape, t.tiles, op.align_corners));
        },
        x, y);
}

void upsample_grad(cudaStream_t stream, const graph::UpsampleGrad& op, const View& dy,
                   const View& dx) {
    // One pixel was repeated: a sum over all outputs, which has enough threads only as such.
    if (dx.shape.h == 1 && dx.shape.w == 1) return sum_pixels(stream, dy, 1.0f, dx);
    with_vectors(
        [&](auto zero, auto width) {
            using T = decltype(zero);
            const PixelTiling t = pixel_tiling(dx.shape, width, dx.shape.h);
            launch("upsampling's gradient", stream, upsample_grad_kernel<T, width>, t.grid,
                   t.block(), 0, rows<const T>(dy), rows<T>(dx),
                   geometry(dx.shape, dy.shape, t.tiles, op.align_corners));
        },
        dy, dx);
}

}  // namespace deeplab::cuda
