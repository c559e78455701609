#include "batch_norm.h"

#include "column_sums.cuh"
#include "deeplab/math/activation.h"
#include "deeplab/math/batch_norm.h"

namespace deeplab::cuda {
namespace {

constexpr int unroll = 4;

template <class T, int V>
__global__ void __launch_bounds__(sums_threads, 2)
    sums_kernel(Rows<const T> x, int pixels, int channels, double* partial, std::uint32_t* tickets,
                double* sums) {
    const int c = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * V,
              step = static_cast<int>(gridDim.y * blockDim.y);
    int p = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y);
    double total[2][V] = {};
    if (c < channels && p < pixels) {
        float first[V], sum[V] = {}, squares[V] = {};
        load(x.at(p, c), first);
        int count = 0;
        for (; p < pixels; p += unroll * step) {
            Packed<T, V> in[unroll];
#pragma unroll
            for (int u = 0; u < unroll; ++u) {
                if (p + u * step < pixels) in[u] = load<V>(x.at(p + u * step, c));
            }
#pragma unroll
            for (int u = 0; u < unroll; ++u) {
                if (p + u * step >= pixels) continue;
                float value[V];
                unpack(in[u], value);
#pragma unroll
                for (int i = 0; i < V; ++i) {
                    const float d = value[i] - first[i];
                    sum[i] += d;
                    squares[i] = fmaf(d, d, squares[i]);
                }
                ++count;
            }
        }
#pragma unroll
        for (int i = 0; i < V; ++i) {
            const double n = count, k = static_cast<double>(first[i]),
                         s = static_cast<double>(sum[i]);
            total[0][i] = s + n * k;
            total[1][i] = static_cast<double>(squares[i]) + k * (2 * s + n * k);
        }
    }
    grid_column_sums<2, V, sums_threads>(
        total, channels, partial, tickets,
        [&](int q, int channel, double sum) { sums[q * channels + channel] = sum; });
    if (blockIdx.x == 0 && blockIdx.y == 0 && thread_number() == 0)
        sums[2 * channels] = static_cast<double>(pixels);
}

template <class T>
struct ActArguments {
    Rows<const T> x, residual;  // residual: none without
    Rows<T> y;
    const float *gamma, *beta;
    float *mean, *variance;  // running
    const double* sums;      // null: frozen
    float* saved;            // null: none
    int pixels, channels;
    math::Activation activation;
    float eps, momentum;
};

// One channel's scale and shift; `first` (one thread a channel) also leaves what is kept of them.
template <class T>
__device__ math::Affine affine(const ActArguments<T>& a, int c, bool first) {
    float mean, invstd;
    if (a.sums == nullptr) {
        mean = a.mean[c];
        invstd = math::inverse_deviation(static_cast<double>(a.variance[c]), a.eps);
    } else {
        const double count = a.sums[2 * a.channels];
        const math::Moments m = math::moments(a.sums[c], a.sums[a.channels + c], count);
        mean = static_cast<float>(m.mean);
        invstd = math::inverse_deviation(m.variance, a.eps);
        if (first) {
            a.mean[c] = math::running(a.mean[c], m.mean, a.momentum);
            a.variance[c] = math::running(a.variance[c], math::unbiased(m.variance, count),
                                          a.momentum);
        }
    }
    if (first && a.saved != nullptr) a.saved[c] = mean, a.saved[a.channels + c] = invstd;
    return math::batch_norm_affine(a.gamma[c], a.beta[c], mean, invstd);
}

template <class T, int V>
__global__ void __launch_bounds__(256, 4) act_kernel(const ActArguments<T> a) {
    constexpr int pixels_at_once = 2;
    alignas(16) __shared__ float scales[tile_channels], shifts[tile_channels];
    const int t = thread_number(), width = static_cast<int>(blockDim.x) * V,
              own = static_cast<int>(blockIdx.x) * width + t;
    if (t < width && own < a.channels) {
        const math::Affine f = affine(a, own, blockIdx.y == 0);
        scales[t] = f.scale;
        shifts[t] = f.shift;
    }
    __syncthreads();
    const int in_tile = static_cast<int>(threadIdx.x) * V,
              c = static_cast<int>(blockIdx.x) * width + in_tile,
              step = static_cast<int>(gridDim.y * blockDim.y);
    if (c >= a.channels) return;
    float scale[V], shift[V];
    take(scales + in_tile, scale);
    take(shifts + in_tile, shift);
    for (int p = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y); p < a.pixels;
         p += pixels_at_once * step) {
        Packed<T, V> in[pixels_at_once], added[pixels_at_once];
#pragma unroll
        for (int u = 0; u < pixels_at_once; ++u) {
            const int pixel = p + u * step;
            if (pixel >= a.pixels) continue;
            in[u] = load<V>(a.x.at(pixel, c));
            if (a.residual) added[u] = load<V>(a.residual.at(pixel, c));
        }
#pragma unroll
        for (int u = 0; u < pixels_at_once; ++u) {
            const int pixel = p + u * step;
            if (pixel >= a.pixels) continue;
            float z[V], residual[V] = {};
            unpack(in[u], z);
            if (a.residual) unpack(added[u], residual);
#pragma unroll
            for (int i = 0; i < V; ++i) {
                z[i] = math::activated(a.activation,
                                       math::batch_norm(z[i], {scale[i], shift[i]}) + residual[i]);
            }
            store(a.y.at(pixel, c), z);
        }
    }
}

}  // namespace

std::int64_t batch_norm_scratch_bytes(const Shape& x, DType type) {
    return sums_scratch_bytes(x, type, 2);
}

void batch_norm_sums(cudaStream_t stream, const View& x, const View& sums, const Scratch& scratch) {
    expects(sums.type == DType::f64 && sums.shape.c == 2 * x.shape.c + 1, "sums are (1,2C+1,1,1)");
    with_vectors(
        [&](auto zero, auto width) {
            using T = decltype(zero);
            const Tiling t = sums_tiling(x, width);
            launch("batch-norm sums", stream, sums_kernel<T, width>, t.grid(), t.block(), 0,
                   rows<const T>(x), x.pixels(), x.shape.c, scratch.data, scratch.tickets,
                   sums.data);
        },
        x);
}

void batch_norm_act(cudaStream_t stream, const graph::BatchNormAct& op, const BatchNormTensors& t) {
    expects(op.frozen == !t.sums && op.residual == static_cast<bool>(t.residual),
            "sums and residual are there where the op says so");
    with_vectors(
        [&](auto zero, auto width) {
            using T = decltype(zero);
            ActArguments<T> a{};
            a.x = rows<const T>(t.x), a.y = rows<T>(t.y), a.residual = rows<const T>(t.residual);
            a.gamma = t.gamma.as<float>(), a.beta = t.beta.as<float>();
            a.mean = t.mean.as<float>(), a.variance = t.variance.as<float>();
            a.sums = t.sums.as<double>(), a.saved = t.saved.as<float>();
            a.pixels = static_cast<int>(t.x.pixels()), a.channels = static_cast<int>(t.x.shape.c);
            a.activation = op.activation, a.eps = op.eps, a.momentum = op.momentum;
            const Tiling tile = elementwise_tiling(t.x, width);
            launch("batch norm", stream, act_kernel<T, width>, tile.grid(), tile.block(), 0, a);
        },
        t.x, t.y, t.residual);
}

}  // namespace deeplab::cuda
