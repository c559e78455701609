#include "elementwise.h"

#include "gradient_rows.cuh"
#include "launch.cuh"
#include "reduce.cuh"

namespace deeplab::cuda {
namespace {

// Random numbers come in blocks of four along a channel's pixels, activations lie channel by
// channel: a block draws a square of decisions into shared memory, then applies them.
constexpr int side = 64;

template <class T, int V>
__global__ void __launch_bounds__(256, 4)
    dropout_kernel(Rows<const T> x, Rows<T> y, const math::SampleKey* samples,
                   const DropoutRule rule, int pixels, int channels) {
    __shared__ bool keep[side][side];  // pixel, channel
    const int first = static_cast<int>(blockIdx.x) * side, n = static_cast<int>(blockIdx.z),
              first_channel = static_cast<int>(blockIdx.y) * side,
              count = min(side, pixels - first), width = min(side, channels - first_channel),
              t = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    const math::SampleKey sample = samples[n];
    const std::uint32_t stream = static_cast<std::uint32_t>(math::Stream::dropout) + rule.layer;
    // `count` elements in a row touch at most count / 4 + 2 blocks of random numbers.
    for (int item = t; item < side * (side / 4 + 2); item += threads) {
        const int c = item % side;
        if (c >= width) continue;
        const std::uint32_t begin = static_cast<std::uint32_t>(first_channel + c) *
                                        static_cast<std::uint32_t>(pixels) +
                                    static_cast<std::uint32_t>(first);
        const std::uint32_t block = begin / 4 + static_cast<std::uint32_t>(item / side);
        const int pixel = static_cast<int>(block * 4 - begin);
        if (pixel >= count) continue;
        const math::Philox4 drawn = math::sample_random(rule.seed, sample, stream, block);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            if (pixel + k >= 0 && pixel + k < count)
                keep[pixel + k][c] = math::uniform(drawn.v[k]) >= rule.probability;
        }
    }
    __syncthreads();
    const float factor = 1.0f / (1.0f - rule.probability);
    for (int item = t; item < side * (side / V); item += threads) {
        const int pixel = item / (side / V), c = item % (side / V) * V;
        if (pixel >= count || c >= width) continue;
        const int at = n * pixels + first + pixel;
        float value[V];
        load(x.at(at, first_channel + c), value);
#pragma unroll
        for (int i = 0; i < V; ++i) value[i] = keep[pixel][c + i] ? value[i] * factor : 0.0f;
        store(y.at(at, first_channel + c), value);
    }
}

template <class T, int V>
__global__ void __launch_bounds__(256, 4)
    sum_kernel(const GradientRows<T> in, Rows<T> out, int pixels, int channels) {
    constexpr int unroll = 2;
    const int c = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * V,
              step = static_cast<int>(gridDim.y * blockDim.y);
    if (c >= channels) return;
    for (int p = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y); p < pixels;
         p += unroll * step) {
        float total[unroll][V];
        in.template sums<unroll>(p, step, pixels, c, total);
#pragma unroll
        for (int u = 0; u < unroll; ++u) {
            if (p + u * step < pixels) store(out.at(p + u * step, c), total[u]);
        }
    }
}

}  // namespace

void dropout(cudaStream_t stream, const DropoutRule& rule, const math::SampleKey* samples,
             const View& x, const View& y) {
    const Shape& s = x.shape;
    expects(x.pixels() < (std::int64_t{1} << 30) && s.n <= 65535,
            "kernels count pixels with 30 bits");
    const dim3 grid(as_unsigned(ceil_div(s.h * s.w, side)), as_unsigned(ceil_div(s.c, side)),
                    as_unsigned(s.n));
    with_vectors(
        [&](auto zero, auto width) {
            using T = decltype(zero);
            launch("dropout", stream, dropout_kernel<T, width>, grid, dim3(256), 0,
                   rows<const T>(x), rows<T>(y), samples, rule, s.h * s.w, s.c);
        },
        x, y);
}

void sum(cudaStream_t stream, const std::vector<View>& in, const View& out) {
    with_gradients(
        in,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            const Tiling t = elementwise_tiling(out, width);
            launch("sum of gradients", stream, sum_kernel<T, width>, t.grid(), t.block(), 0,
                   GradientRows<T>(in), rows<T>(out), out.pixels(), out.shape.c);
        },
        out);
}

}  // namespace deeplab::cuda
