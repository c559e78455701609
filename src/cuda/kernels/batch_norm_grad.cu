#include "batch_norm.h"
#include "column_sums.cuh"
#include "deeplab/math/activation.h"
#include "deeplab/math/batch_norm.h"
#include "gradient_rows.cuh"

namespace deeplab::cuda {
namespace {

template <class T>
struct GradArguments {
    Rows<const T> x, y;  // y: with residual, which tells the mask
    GradientRows<T> dy;
    Rows<T> dz, dx;  // dz: with residual
    const float *gamma, *beta, *saved;
    const double *reduced, *sums;  // of the gradient; of x, null when frozen
    int pixels, channels;
    math::Activation activation;
};

// The forward pass's scale and shift of one channel.
template <class T>
__device__ math::Affine saved_affine(const GradArguments<T>& a, int c) {
    return math::batch_norm_affine(a.gamma[c], a.beta[c], a.saved[c], a.saved[a.channels + c]);
}

// dbeta and dgamma of a step's micro-batches so far.
struct ParameterGradients {
    double* reduced;
    float *gamma, *beta;
    bool add;
};

template <class T, int V>
__global__ void __launch_bounds__(grad_sums_threads, 2)
    grad_sums_kernel(const GradArguments<T> a, double* partial, std::uint32_t* tickets,
                     const ParameterGradients result) {
    constexpr int unroll = 2;
    alignas(16) __shared__ float means[tile_channels], scales[tile_channels], shifts[tile_channels];
    const int t = thread_number(), width = static_cast<int>(blockDim.x) * V,
              own = static_cast<int>(blockIdx.x) * width + t;
    if (t < width && own < a.channels) {
        const math::Affine f = saved_affine(a, own);
        means[t] = a.saved[own], scales[t] = f.scale, shifts[t] = f.shift;
    }
    __syncthreads();
    const int in_tile = static_cast<int>(threadIdx.x) * V,
              c = static_cast<int>(blockIdx.x) * width + in_tile,
              step = static_cast<int>(gridDim.y * blockDim.y);
    float sum[V] = {}, sum_x[V] = {};
    for (int p = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y);
         c < a.channels && p < a.pixels; p += unroll * step) {
        Packed<T, V> in[unroll], out[unroll];
        float dz[unroll][V];
#pragma unroll
        for (int u = 0; u < unroll; ++u) {
            const int pixel = p + u * step;
            if (pixel >= a.pixels) continue;
            in[u] = load<V>(a.x.at(pixel, c));
            if (a.y) out[u] = load<V>(a.y.at(pixel, c));
        }
        a.dy.template sums<unroll>(p, step, a.pixels, c, dz);
#pragma unroll
        for (int u = 0; u < unroll; ++u) {
            const int pixel = p + u * step;
            if (pixel >= a.pixels) continue;
            float x[V], y[V] = {};
            unpack(in[u], x);
            if (a.y) unpack(out[u], y);
#pragma unroll
            for (int i = 0; i < V; ++i) {
                const int k = in_tile + i;
                const float z = a.y ? y[i] : math::batch_norm(x[i], {scales[k], shifts[k]});
                if (!math::passes(a.activation, z)) dz[u][i] = 0.0f;
                if (a.dz) dz[u][i] = rounded(dz[u][i], T{});
                sum[i] += dz[u][i];
                sum_x[i] = fmaf(dz[u][i], x[i] - means[k], sum_x[i]);
            }
            if (a.dz) store(a.dz.at(pixel, c), dz[u]);
        }
    }
    double total[2][V];
#pragma unroll
    for (int i = 0; i < V; ++i) {
        total[0][i] = static_cast<double>(sum[i]);
        total[1][i] = static_cast<double>(sum_x[i]);
    }
    grid_column_sums<2, V, grad_sums_threads>(
        total, a.channels, partial, tickets, [&](int q, int channel, double value) {
            if (q == 1) value *= static_cast<double>(a.saved[a.channels + channel]);
            result.reduced[q * a.channels + channel] = value;
            float* gradient = (q == 0 ? result.beta : result.gamma) + channel;
            *gradient = (result.add ? *gradient : 0.0f) + static_cast<float>(value);
        });
}

// What dx takes of the thread's channels, in registers. One value of a quantity a block is computed
// by one thread, in f64, and handed out through shared memory: read from there once a pixel,
// threads of 8 channels each would queue for its banks.
template <int V, bool Frozen, math::Activation Mask>
struct GradFactors {
    float dz_factor[V];
    static constexpr bool masked = Mask != math::Activation::none;
    float scale[V], shift[V];                 // masked
    float mean[V], x_factor[V], constant[V];  // not Frozen

    // By all threads of the block.
    template <class T>
    __device__ __forceinline__ explicit GradFactors(const GradArguments<T>& a) {
        constexpr int quantities = 1 + (masked ? 2 : 0) + (Frozen ? 0 : 3);
        alignas(16) __shared__ float of_tile[quantities][tile_channels];
        const int t = thread_number(), width = static_cast<int>(blockDim.x) * V,
                  own = static_cast<int>(blockIdx.x) * width + t,
                  in_tile = static_cast<int>(threadIdx.x) * V;
        if (t < width && own < a.channels) {
            const double count = Frozen ? 1.0 : a.sums[2 * a.channels];
            const math::InputGradient g = math::batch_norm_input_gradient(
                a.gamma[own], a.saved[a.channels + own], a.reduced[own],
                a.reduced[a.channels + own], count);
            int q = 0;
            of_tile[q++][t] = g.dz_factor;
            if (masked) {
                const math::Affine f = saved_affine(a, own);
                of_tile[q++][t] = f.scale, of_tile[q++][t] = f.shift;
            }
            if (!Frozen) {
                of_tile[q++][t] = a.saved[own];
                of_tile[q++][t] = g.x_factor, of_tile[q++][t] = g.constant;
            }
        }
        __syncthreads();
        int q = 0;
        take(of_tile[q++] + in_tile, dz_factor);
        if (masked) take(of_tile[q++] + in_tile, scale), take(of_tile[q++] + in_tile, shift);
        if (!Frozen) {
            take(of_tile[q++] + in_tile, mean), take(of_tile[q++] + in_tile, x_factor);
            take(of_tile[q++] + in_tile, constant);
        }
    }

    __device__ __forceinline__ float dx(int i, float dz, float x) const {
        if (masked && !math::passes(Mask, math::batch_norm(x, {scale[i], shift[i]}))) dz = 0.0f;
        if (Frozen) return dz * dz_factor[i];
        return math::batch_norm_dx(dz, x, mean[i], {dz_factor[i], x_factor[i], constant[i]});
    }
};

// Mask: by the activation's input, recomputed from x.
template <class T, int V, bool Frozen, math::Activation Mask>
__global__ void __launch_bounds__(256, 2) grad_kernel(const GradArguments<T> a) {
    constexpr int unroll = 2;
    using Factors = GradFactors<V, Frozen, Mask>;
    constexpr bool needs_x = Factors::masked || !Frozen;
    const Factors factors(a);
    const int c = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * V,
              step = static_cast<int>(gridDim.y * blockDim.y);
    for (int p = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y);
         c < a.channels && p < a.pixels; p += unroll * step) {
        Packed<T, V> in[unroll];
        float dz[unroll][V];
#pragma unroll
        for (int u = 0; u < unroll; ++u) {
            if (needs_x && p + u * step < a.pixels) in[u] = load<V>(a.x.at(p + u * step, c));
        }
        a.dy.template sums<unroll>(p, step, a.pixels, c, dz);
#pragma unroll
        for (int u = 0; u < unroll; ++u) {
            const int pixel = p + u * step;
            if (pixel >= a.pixels) continue;
            float x[V] = {}, dx[V];
            if (needs_x) unpack(in[u], x);
#pragma unroll
            for (int i = 0; i < V; ++i) dx[i] = factors.dx(i, dz[u][i], x[i]);
            store(a.dx.at(pixel, c), dx);
        }
    }
}

// f(Frozen, Mask), as constants.
template <class F>
void with_kind(bool frozen, math::Activation mask, const F& f) {
    using math::Activation;
    const auto with_mask = [&](auto is_frozen) {
        switch (mask) {
            case Activation::none:
                return f(is_frozen, std::integral_constant<Activation, Activation::none>{});
            case Activation::relu:
                return f(is_frozen, std::integral_constant<Activation, Activation::relu>{});
            case Activation::relu6:
                return f(is_frozen, std::integral_constant<Activation, Activation::relu6>{});
        }
    };
    if (frozen) return with_mask(std::true_type{});
    with_mask(std::false_type{});
}

template <class T>
GradArguments<T> arguments(const BatchNormGradTensors& t) {
    GradArguments<T> a{};
    a.x = rows<const T>(t.x), a.dy = GradientRows<T>(t.dy);
    a.gamma = t.gamma.as<float>(), a.beta = t.beta.as<float>(), a.saved = t.saved.as<float>();
    a.pixels = static_cast<int>(t.x.pixels()), a.channels = static_cast<int>(t.x.shape.c);
    return a;
}

}  // namespace

void batch_norm_grad_sums(cudaStream_t stream, const graph::BatchNormGradSums& op,
                          const BatchNormGradTensors& t, bool add, const Scratch& scratch) {
    expects(op.residual == static_cast<bool>(t.dz) && op.residual == static_cast<bool>(t.y),
            "y and dz are there with a residual");
    with_gradients(
        t.dy,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            GradArguments<T> a = arguments<T>(t);
            a.y = rows<const T>(t.y), a.dz = rows<T>(t.dz), a.activation = op.activation;
            const ParameterGradients result{t.gsums.as<double>(), t.dgamma.as<float>(),
                                            t.dbeta.as<float>(), add};
            const Tiling tile = grad_sums_tiling(t.x, width);
            launch("batch-norm gradient sums", stream, grad_sums_kernel<T, width>, tile.grid(),
                   tile.block(), 0, a, scratch.data, scratch.tickets, result);
        },
        t.x, t.y, t.dz);
}

void batch_norm_act_grad(cudaStream_t stream, const graph::BatchNormActGrad& op,
                         const BatchNormGradTensors& t) {
    expects(op.frozen == !t.sums, "sums are there unless frozen");
    with_gradients(
        t.dy,
        [&](auto zero, auto width) {
            using T = decltype(zero);
            GradArguments<T> a = arguments<T>(t);
            a.dx = rows<T>(t.dx), a.reduced = t.gsums.as<double>(), a.sums = t.sums.as<double>();
            // With residual, dy is dz already.
            const math::Activation mask = op.residual ? math::Activation::none : op.activation;
            const Tiling tile = elementwise_tiling(t.x, width);
            with_kind(op.frozen, mask, [&](auto is_frozen, auto by) {
                launch("batch-norm gradient", stream, grad_kernel<T, width, is_frozen, by>,
                       tile.grid(), tile.block(), 0, a);
            });
        },
        t.x, t.dx);
}

}  // namespace deeplab::cuda
