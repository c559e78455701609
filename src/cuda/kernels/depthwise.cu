#include "depthwise.h"

#include "column_sums.cuh"
#include "deeplab/math/activation.h"

namespace deeplab::cuda {
namespace {

using math::Activation;

// A sum over taps: row h of what is written collects from the rows (h * stride - pad + r * rate) /
// step of what is read, where these are whole and exist; columns likewise. The forward pass has
// step 1. The data gradient is such a sum with the window turned by 180 degrees, stride 1, and the
// forward pass's stride as its step.
struct Collected {
    int in_h, in_w, out_h, out_w, channels, tiles;
    int kernel_h, kernel_w, stride, step, pad_h, pad_w, rate;
    bool turned;

    __device__ __forceinline__ int taps() const { return kernel_h * kernel_w; }
};

template <class T>
struct CollectArguments {
    Rows<const T> from, masks;  // masks: of a data gradient with an activation
    const T* weights;           // (C, taps)
    Rows<T> to;
    Activation mask;
    Collected g;
};

// Of a thread in a pixel_tiling(): which column and first channel are its own.
template <int V>
struct Place {
    int first, width, in_tile, column;  // the tile's first channel, its channels; the thread's

    __device__ __forceinline__ explicit Place(int tiles)
        : first(static_cast<int>(blockIdx.x % tiles * blockDim.x) * V),
          width(static_cast<int>(blockDim.x) * V),
          in_tile(static_cast<int>(threadIdx.x) * V),
          column(static_cast<int>(blockIdx.x / tiles * blockDim.y + threadIdx.y)) {}
};

// The windows of the block's channels as (taps, width) in shared memory, by all its threads.
template <class T>
__device__ __forceinline__ T* tile_of_weights(const CollectArguments<T>& a, int first, int width) {
    T* tile = dynamic_shared<T>();
    const int taps = a.g.taps(), known = min(width, a.g.channels - first) * taps;
    for (int i = thread_number(); i < known; i += thread_count()) {
        const int channel = i / taps, tap = a.g.turned ? taps - 1 - i % taps : i % taps;
        tile[tap * width + channel] = a.weights[static_cast<std::int64_t>(first) * taps + i];
    }
    __syncthreads();
    return tile;
}

template <class T, int V>
__device__ __forceinline__ void write(const CollectArguments<T>& a, int pixel, int c,
                                      float (&sum)[V]) {
    if (a.masks) {
        float x[V];
        load(a.masks.at(pixel, c), x);
#pragma unroll
        for (int i = 0; i < V; ++i) sum[i] = math::passes(a.mask, x[i]) ? sum[i] : 0.0f;
    }
    store(a.to.at(pixel, c), sum);
}

// Outputs that a thread computes, `rate` rows apart: they share all but two of the rows they read.
constexpr int together = 4;

// 3x3, stride and step 1. blockIdx.y: a group of such rows.
template <class T, int V, Activation In>
__global__ void __launch_bounds__(256, 2) column_kernel(const CollectArguments<T> a) {
    const Collected& g = a.g;
    const Place<V> at(g.tiles);
    const T* weights = tile_of_weights(a, at.first, at.width) + at.in_tile;
    const int c = at.first + at.in_tile, n = static_cast<int>(blockIdx.z),
              group = static_cast<int>(blockIdx.y),
              top = group / g.rate * together * g.rate + group % g.rate;
    if (c >= g.channels || at.column >= g.out_w) return;
    float sum[together][V] = {};
#pragma unroll
    for (int s = 0; s < 3; ++s) {
        const int j = at.column - g.pad_w + s * g.rate;
        if (j < 0 || j >= g.in_w) continue;
        Packed<T, V> in[together + 2];
#pragma unroll
        for (int k = 0; k < together + 2; ++k) {
            const int i = top - g.pad_h + k * g.rate;
            in[k] = {};
            if (i >= 0 && i < g.in_h) in[k] = load<V>(a.from.at((n * g.in_h + i) * g.in_w + j, c));
        }
        float w[3][V];
#pragma unroll
        for (int r = 0; r < 3; ++r) load(weights + (r * 3 + s) * at.width, w[r]);
#pragma unroll
        for (int k = 0; k < together + 2; ++k) {
            float x[V];
            unpack(in[k], x);
#pragma unroll
            for (int i = 0; i < V; ++i) {
                x[i] = math::activated(In, x[i]);
#pragma unroll
                for (int r = 0; r < 3; ++r) {
                    const int o = k - r;
                    if (o >= 0 && o < together) sum[o][i] = fmaf(w[r][i], x[i], sum[o][i]);
                }
            }
        }
    }
#pragma unroll
    for (int o = 0; o < together; ++o) {
        const int h = top + o * g.rate;
        if (h < g.out_h) write(a, (n * g.out_h + h) * g.out_w + at.column, c, sum[o]);
    }
}

// The place that a tap meets, or -1.
__device__ __forceinline__ int met(int from, int step, int size) {
    if (from < 0 || from % step != 0) return -1;
    return from / step < size ? from / step : -1;
}

// Any window, stride and step: an output a thread.
template <class T, int V, Activation In>
__global__ void __launch_bounds__(256, 4) pixel_kernel(const CollectArguments<T> a) {
    const Collected& g = a.g;
    const Place<V> at(g.tiles);
    const T* weights = tile_of_weights(a, at.first, at.width) + at.in_tile;
    const int c = at.first + at.in_tile, h = static_cast<int>(blockIdx.y),
              n = static_cast<int>(blockIdx.z);
    if (c >= g.channels || at.column >= g.out_w) return;
    float sum[V] = {};
    for (int r = 0; r < g.kernel_h; ++r) {
        const int i = met(h * g.stride - g.pad_h + r * g.rate, g.step, g.in_h);
        if (i < 0) continue;
#pragma unroll 3
        for (int s = 0; s < g.kernel_w; ++s) {
            const int j = met(at.column * g.stride - g.pad_w + s * g.rate, g.step, g.in_w);
            if (j < 0) continue;
            float x[V], w[V];
            load(a.from.at((n * g.in_h + i) * g.in_w + j, c), x);
            load(weights + (r * g.kernel_w + s) * at.width, w);
#pragma unroll
            for (int k = 0; k < V; ++k) sum[k] = fmaf(math::activated(In, x[k]), w[k], sum[k]);
        }
    }
    write(a, (n * g.out_h + h) * g.out_w + at.column, c, sum);
}

// --- Gradient of the weights ---

constexpr int taps_at_once = 9, weights_threads = 256;

struct WeightsGeometry {
    int in_h, in_w, out_h, out_w, channels, pixels, chunk;
    int kernel_h, kernel_w, stride, pad, rate;
};

// Grid (tiles of channels, splits, nines of taps): a block has `chunk` pixels of dy that follow
// each other, whose x comes from the cache again and again. Kernel: 3 for 3x3, 0 for any.
template <class T, int V, Activation In, int Kernel>
__global__ void __launch_bounds__(weights_threads, 2)
    weights_kernel(Rows<const T> x, Rows<const T> dy, const WeightsGeometry g, double* partial,
                   std::uint32_t* tickets, float* dw, bool add) {
    const int c = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * V,
              first_tap = static_cast<int>(blockIdx.z) * taps_at_once,
              taps = g.kernel_h * g.kernel_w,
              end = min(static_cast<int>(blockIdx.y + 1) * g.chunk, g.pixels);
    float sum[taps_at_once][V] = {};
    for (int p = static_cast<int>(blockIdx.y) * g.chunk + static_cast<int>(threadIdx.y);
         c < g.channels && p < end; p += static_cast<int>(blockDim.y)) {
        const int row = p / g.out_w, left = (p - row * g.out_w) * g.stride - g.pad,
                  n = row / g.out_h, top = (row - n * g.out_h) * g.stride - g.pad;
        float gradient[V];
        load(dy.at(p, c), gradient);
#pragma unroll
        for (int t = 0; t < taps_at_once; ++t) {
            const int tap = first_tap + t, r = Kernel == 3 ? t / 3 : tap / g.kernel_w,
                      s = Kernel == 3 ? t % 3 : tap % g.kernel_w;
            const int i = top + r * g.rate, j = left + s * g.rate;
            if (i < 0 || i >= g.in_h || j < 0 || j >= g.in_w) continue;
            if (Kernel != 3 && tap >= taps) continue;
            float value[V];
            load(x.at((n * g.in_h + i) * g.in_w + j, c), value);
#pragma unroll
            for (int k = 0; k < V; ++k)
                sum[t][k] = fmaf(math::activated(In, value[k]), gradient[k], sum[t][k]);
        }
    }
    const std::int64_t nine = static_cast<std::int64_t>(gridDim.y) * taps_at_once * g.channels;
    grid_column_sums_of<taps_at_once, V, weights_threads>(
        [&](int q, double(&own)[V]) {
#pragma unroll
            for (int k = 0; k < V; ++k) own[k] = static_cast<double>(sum[q][k]);
        },
        g.channels, partial + blockIdx.z * nine, tickets + blockIdx.z * gridDim.x,
        [&](int q, int channel, double total) {
            if (first_tap + q >= taps) return;
            float* gradient = dw + channel * taps + first_tap + q;
            *gradient = (add ? *gradient : 0.0f) + static_cast<float>(total);
        });
}

Tiling weights_tiling(const Shape& y, int width) {
    return tiling(y.c, y.n * y.h * y.w, width, width > 1 ? 8 : 32, weights_threads, 2 * processors,
                  4);
}
std::int64_t nines(const Shape& w) { return ceil_div(w.h * w.w, taps_at_once); }

// f(the activation as a constant).
template <class F>
void with_input(Activation input, const F& f) {
    switch (input) {
        case Activation::none: return f(std::integral_constant<Activation, Activation::none>{});
        case Activation::relu: return f(std::integral_constant<Activation, Activation::relu>{});
        case Activation::relu6: return f(std::integral_constant<Activation, Activation::relu6>{});
    }
}

int narrow(std::int64_t value) { return static_cast<int>(value); }
void check_pixels(const View& v) {
    expects(v.pixels() < (std::int64_t{1} << 30), "kernels count pixels with 30 bits");
}

void collect(const char* what, cudaStream_t stream, const View& in, const View& w, const View& out,
             const View& masks, Activation input, Activation mask, Collected g) {
    check_pixels(in), check_pixels(out);
    expects(w.type == in.type, "weights have the activations' type");
    g.in_h = narrow(in.shape.h), g.in_w = narrow(in.shape.w);
    g.out_h = narrow(out.shape.h), g.out_w = narrow(out.shape.w);
    g.channels = narrow(out.shape.c);
    g.kernel_h = narrow(w.shape.h), g.kernel_w = narrow(w.shape.w);
    const bool columns = g.kernel_h == 3 && g.kernel_w == 3 && g.stride == 1 && g.step == 1;
    const std::int64_t rows_apart = together * g.rate,
                       groups = ceil_div(out.shape.h, rows_apart) * g.rate;
    with_vectors(
        [&](auto zero, auto width) {
            using T = decltype(zero);
            const PixelTiling t = pixel_tiling(out.shape, width, columns ? groups : out.shape.h);
            CollectArguments<T> a{};
            a.from = rows<const T>(in), a.masks = rows<const T>(masks), a.to = rows<T>(out);
            a.weights = w.as<T>(), a.mask = mask, a.g = g;
            a.g.tiles = narrow(t.tiles);
            const std::size_t shared = static_cast<std::size_t>(w.shape.h * w.shape.w * t.lanes *
                                                                width) *
                                       sizeof(T);
            with_input(input, [&](auto activation) {
                launch(what, stream,
                       columns ? column_kernel<T, width, activation>
                               : pixel_kernel<T, width, activation>,
                       t.grid, t.block(), shared, a);
            });
        },
        in, out, masks);
}

}  // namespace

bool has_depthwise_kernels(const graph::ConvGeometry& geometry, const Shape& w, bool bias) {
    return graph::is_depthwise(geometry, w) && !bias && w.h * w.w <= 81;
}

void depthwise(cudaStream_t stream, const graph::Conv2d& op, const DepthwiseTensors& t) {
    const graph::ConvGeometry& o = op.geometry;
    Collected g{};
    g.stride = narrow(o.stride), g.step = 1, g.rate = narrow(o.dilation);
    g.pad_h = g.pad_w = narrow(o.pad);
    collect("depthwise convolution", stream, t.x, t.w, t.y, {}, op.input, Activation::none, g);
}

void depthwise_grad_data(cudaStream_t stream, const graph::Conv2dGradData& op,
                         const DepthwiseTensors& t) {
    expects(static_cast<bool>(t.masks) == (op.input != Activation::none),
            "x masks where the input was activated");
    const graph::ConvGeometry& o = op.geometry;
    Collected g{};
    g.stride = 1, g.step = narrow(o.stride), g.rate = narrow(o.dilation);
    g.pad_h = narrow((t.w.shape.h - 1) * o.dilation - o.pad);
    g.pad_w = narrow((t.w.shape.w - 1) * o.dilation - o.pad);
    g.turned = true;
    collect("depthwise convolution's data gradient", stream, t.y, t.w, t.x, t.masks,
            Activation::none, op.input, g);
}

std::int64_t depthwise_grad_weights_scratch_bytes(const Shape& y, const Shape& w, DType type) {
    std::int64_t most = 0;
    with_type(type, [&](auto zero) {
        for (const int width : {1, vector_width<decltype(zero)>})
            most = std::max(most, weights_tiling(y, width).splits);
    });
    return most * nines(w) * taps_at_once * y.c * static_cast<std::int64_t>(sizeof(double));
}

void depthwise_grad_weights(cudaStream_t stream, const graph::Conv2dGradWeights& op,
                            const DepthwiseTensors& t, bool add, const Scratch& scratch) {
    check_pixels(t.x), check_pixels(t.y);
    expects(t.w.type == DType::f32, "gradients of weights are f32");
    WeightsGeometry g{};
    g.in_h = narrow(t.x.shape.h), g.in_w = narrow(t.x.shape.w);
    g.out_h = narrow(t.y.shape.h), g.out_w = narrow(t.y.shape.w);
    g.channels = narrow(t.x.shape.c), g.pixels = narrow(t.y.pixels());
    g.kernel_h = narrow(t.w.shape.h), g.kernel_w = narrow(t.w.shape.w);
    g.stride = narrow(op.geometry.stride), g.pad = narrow(op.geometry.pad);
    g.rate = narrow(op.geometry.dilation);
    const bool three = g.kernel_h == 3 && g.kernel_w == 3;
    with_vectors(
        [&](auto zero, auto width) {
            using T = decltype(zero);
            const Tiling tile = weights_tiling(t.y.shape, width);
            WeightsGeometry own = g;
            own.chunk = narrow(ceil_div(g.pixels, tile.splits));
            dim3 grid = tile.grid();
            grid.z = as_unsigned(nines(t.w.shape));
            expects(tile.tiles * grid.z <= ticket_count, "there are tickets for all tiles");
            with_input(op.input, [&](auto activation) {
                launch("depthwise convolution's weight gradient", stream,
                       three ? weights_kernel<T, width, activation, 3>
                             : weights_kernel<T, width, activation, 0>,
                       grid, tile.block(), 0, rows<const T>(t.x), rows<const T>(t.y), own,
                       scratch.data, scratch.tickets, t.w.data, add);
            });
        },
        t.x, t.y);
}

}  // namespace deeplab::cuda
