#include "depthwise.h"

#include <algorithm>

#include "deeplab/base/error.h"
#include "scratch.h"
#include "vector.h"

namespace deeplab::cpu {
namespace {

using math::Activation;
using Meeting = DepthwiseConvolution::Meeting;

// Values side by side: a register's, half of one, or one.
using Half = float __attribute__((vector_size(8 * sizeof(float))));
template <class T>
constexpr std::int64_t width_of = static_cast<std::int64_t>(sizeof(T) / sizeof(float));

// As math::activated and math::passes.
template <Activation A, class T>
T activated(const T& x) {
    const T zero = T{}, six = T{} + 6.0f;
    if constexpr (A == Activation::none) return x;
    const T above = zero > x ? zero : x;
    if constexpr (A == Activation::relu) return above;
    return six < above ? six : above;
}
template <Activation A, class T>
T masked(const T& x, const T& gradient) {
    const T zero = T{}, six = T{} + 6.0f;
    if constexpr (A == Activation::none) return gradient;
    const T above = x > zero ? gradient : zero;
    if constexpr (A == Activation::relu) return above;
    return x < six ? above : zero;
}

template <class T, int Count>
struct Block {
    static constexpr int vectors = Count;
    using Type = T;
};

// f(block, its first channel), for all channels: many vectors at a time, then what is left.
template <int Vectors, class F>
void each_block(std::int64_t channels, const F& f) {
    std::int64_t c = 0;
    for (; c + Vectors * lanes <= channels; c += Vectors * lanes) f(Block<Vector, Vectors>{}, c);
    for (; c + lanes <= channels; c += lanes) f(Block<Vector, 1>{}, c);
    for (; c + width_of<Half> <= channels; c += width_of<Half>) f(Block<Half, 1>{}, c);
    for (; c < channels; ++c) f(Block<float, 1>{}, c);
}

// 64 channels: the taps of neighbouring pixels stay in the first cache.
constexpr int gathered_vectors = static_cast<int>(64 / lanes);
// Three taps' sums and a gradient's values in registers.
constexpr int summed_vectors = lanes == 16 ? 4 : 2;

// What a row of one image reads, from a block's first channel on.
struct Source {
    const float* in;       // the image
    const float* weights;  // (taps, C)
    std::int64_t row, pitch, channels, kernel_width;

    const float* at(const Meeting& r, const Meeting& s) const {
        return in + r.at * row + s.at * pitch;
    }
    const float* weight(const Meeting& r, const Meeting& s) const {
        return weights + (r.tap * kernel_width + s.tap) * channels;
    }
};

template <Activation A, class T, int V>
void add_tap(const float* in, const float* weight, T (&sum)[V]) {
    for (int v = 0; v < V; ++v) {
        T x, w;
        load(in + v * width_of<T>, x);
        load(weight + v * width_of<T>, w);
        sum[v] += activated<A>(x) * w;
    }
}

template <Activation A, class T, int V>
void gather_pixel(const Source& from, const std::vector<Meeting>& rows,
                  const std::vector<Meeting>& columns, T (&sum)[V]) {
    if (rows.size() == 3 && columns.size() == 3) {
#pragma GCC unroll 3
        for (std::size_t r = 0; r < 3; ++r) {
#pragma GCC unroll 3
            for (std::size_t s = 0; s < 3; ++s)
                add_tap<A>(from.at(rows[r], columns[s]), from.weight(rows[r], columns[s]), sum);
        }
        return;
    }
    for (const Meeting& r : rows) {
        for (const Meeting& s : columns) add_tap<A>(from.at(r, s), from.weight(r, s), sum);
    }
}

// Sums over `count` places of a gradient's row of its product with x at S taps beside each other.
struct Products {
    const float *x, *dy;
    std::int64_t count, x_step, dy_step, x_tap, sums_tap;
};
template <Activation A, int S, class T, int V>
void add_products(const Products& p, Block<T, V>, float* sums) {
    T sum[S][V] = {};
    const float *x = p.x, *dy = p.dy;
    for (std::int64_t i = 0; i < p.count; ++i, x += p.x_step, dy += p.dy_step) {
        T gradient[V];
        for (int v = 0; v < V; ++v) load(dy + v * width_of<T>, gradient[v]);
        for (int s = 0; s < S; ++s) {
            for (int v = 0; v < V; ++v) {
                T value;
                load(x + s * p.x_tap + v * width_of<T>, value);
                sum[s][v] += activated<A>(value) * gradient[v];
            }
        }
    }
    for (int s = 0; s < S; ++s) {
        for (int v = 0; v < V; ++v) {
            float* place = sums + s * p.sums_tap + v * width_of<T>;
            T before;
            load(place, before);
            store(before + sum[s][v], place);
        }
    }
}

// The columns of y that a tap meets the map from.
struct Range {
    std::int64_t first, last;
};
Range met(const DepthwiseConvolution::Axis& columns, std::int64_t tap) {
    Range r{0, 0};
    for (std::size_t q = 0; q < columns.size(); ++q) {
        for (const Meeting& m : columns[q]) {
            if (m.tap != tap) continue;
            if (r.last == 0) r.first = static_cast<std::int64_t>(q);
            r.last = static_cast<std::int64_t>(q) + 1;
        }
    }
    return r;
}

// f(activation as a constant).
template <class F>
void with_activation(Activation activation, const F& f) {
    switch (activation) {
        case Activation::none: return f(std::integral_constant<Activation, Activation::none>{});
        case Activation::relu: return f(std::integral_constant<Activation, Activation::relu>{});
        case Activation::relu6: return f(std::integral_constant<Activation, Activation::relu6>{});
    }
}

// Of the places of one side of a convolution with those of the other.
DepthwiseConvolution::Axis meetings(bool of_input, std::int64_t in, std::int64_t kernel,
                                    const graph::ConvGeometry& g, std::int64_t out) {
    DepthwiseConvolution::Axis all(static_cast<std::size_t>(of_input ? in : out));
    for (std::int64_t p = 0; p < out; ++p) {
        for (std::int64_t tap = 0; tap < kernel; ++tap) {
            const std::int64_t i = p * g.stride - g.pad + tap * g.dilation;
            if (i < 0 || i >= in) continue;
            all[static_cast<std::size_t>(of_input ? i : p)].push_back({tap, of_input ? p : i});
        }
    }
    return all;
}

}  // namespace

DepthwiseConvolution::DepthwiseConvolution(const Threads& threads, Pass pass,
                                           const graph::ConvGeometry& geometry,
                                           const ConvolutionTensors& tensors, const Buffer& scratch)
    : threads_(threads), pass_(pass), g_(geometry), t_(tensors), scratch_(scratch) {
    expects(t_.bias.buffer == nullptr, "a depthwise convolution with a bias is oneDNN's");
    const Shape &x = t_.x.shape, &w = t_.w.shape, &y = t_.y.shape;
    rows_ = meetings(pass == Pass::data, x.h, w.h, g_, y.h);
    columns_ = meetings(pass == Pass::data, x.w, w.w, g_, y.w);
}

std::int64_t DepthwiseConvolution::scratch_bytes() const {
    const std::int64_t count = taps() * t_.w.shape.n;
    if (pass_ != Pass::weights) return Scratch::bytes_of<float>(count);
    return (Scratch::bytes_of<float>(count) + Scratch::bytes_of<double>(count)) * threads_.count();
}

float* DepthwiseConvolution::packed() const { return Scratch(scratch_).take<float>(0); }

double* DepthwiseConvolution::sample_sums(int thread) const {
    const std::int64_t count = taps() * t_.w.shape.n;
    return Scratch(scratch_.data() + Scratch::bytes_of<double>(count) * thread).take<double>(count);
}

float* DepthwiseConvolution::row_sums(int thread) const {
    const std::int64_t count = taps() * t_.w.shape.n;
    return Scratch(reinterpret_cast<std::byte*>(sample_sums(threads_.count())) +
                   Scratch::bytes_of<float>(count) * thread)
        .take<float>(count);
}

void DepthwiseConvolution::pack_weights() const {
    const std::int64_t channels = t_.w.shape.n, count = taps();
    const float* from = t_.w.f32();
    float* to = packed();
    for (std::int64_t tap = 0; tap < count; ++tap) {
        for (std::int64_t c = 0; c < channels; ++c) to[tap * channels + c] = from[c * count + tap];
    }
}

template <Activation A>
void DepthwiseConvolution::gather() const {
    const bool forward = pass_ == Pass::forward;
    const View &from = forward ? t_.x : t_.y, &to = forward ? t_.y : t_.x;
    const std::int64_t channels = to.shape.c, width = to.shape.w;
    constexpr Activation none = Activation::none;
    threads_.split(to.shape.n * to.shape.h, [&](int, std::int64_t first, std::int64_t last) {
        for (std::int64_t item = first; item < last; ++item) {
            const std::vector<Meeting>& rows = rows_[static_cast<std::size_t>(item % to.shape.h)];
            const float* image = from.f32() +
                                 item / to.shape.h * from.shape.h * from.shape.w * from.pitch;
            each_block<gathered_vectors>(channels, [&](auto block, std::int64_t c) {
                using T = typename decltype(block)::Type;
                const Source source{image + c,  packed() + c, from.shape.w * from.pitch,
                                    from.pitch, channels,     t_.w.shape.w};
                for (std::int64_t q = 0; q < width; ++q) {
                    T sum[decltype(block)::vectors] = {};
                    const std::vector<Meeting>& columns = columns_[static_cast<std::size_t>(q)];
                    if (forward)
                        gather_pixel<A>(source, rows, columns, sum);
                    else
                        gather_pixel<none>(source, rows, columns, sum);
                    const std::int64_t place = (item * width + q) * to.pitch + c;
                    for (int v = 0; v < decltype(block)::vectors; ++v) {
                        const std::int64_t at = place + v * width_of<T>;
                        if (A != none && !forward) {
                            T x;
                            load(t_.masks.f32() + at, x);
                            sum[v] = masked<A>(x, sum[v]);
                        }
                        store(sum[v], to.f32() + at);
                    }
                }
            });
        }
    });
}

template <Activation A>
void DepthwiseConvolution::sum_products(bool add) const {
    const std::int64_t channels = t_.x.shape.c, kernel = t_.w.shape.w, count = taps() * channels,
                       height = t_.y.shape.h, x_pitch = t_.x.pitch, y_pitch = t_.y.pitch;
    std::vector<Range> ranges;
    for (std::int64_t s = 0; s < kernel; ++s) ranges.push_back(met(columns_, s));
    // Where all three taps meet the map.
    Range all{0, 0};
    if (kernel == 3) {
        all = {std::max({ranges[0].first, ranges[1].first, ranges[2].first}),
               std::min({ranges[0].last, ranges[1].last, ranges[2].last})};
    }
    const bool together = all.last - all.first >= 4;
    const auto row = [&](const float* x, const float* dy, auto block, float* sums) {
        const auto products = [&](std::int64_t q, std::int64_t last, std::int64_t s) {
            return Products{x + (q * g_.stride - g_.pad + s * g_.dilation) * x_pitch,
                            dy + q * y_pitch,
                            last - q,
                            g_.stride * x_pitch,
                            y_pitch,
                            g_.dilation * x_pitch,
                            channels};
        };
        if (together) add_products<A, 3>(products(all.first, all.last, 0), block, sums);
        for (std::int64_t s = 0; s < kernel; ++s) {
            const Range r = ranges[static_cast<std::size_t>(s)];
            const Range left{r.first, together ? all.first : r.last};
            const Range right{together ? all.last : r.last, r.last};
            for (const Range part : {left, right}) {
                if (part.first < part.last)
                    add_products<A, 1>(products(part.first, part.last, s), block,
                                       sums + s * channels);
            }
        }
    };
    threads_.split(t_.y.shape.n * height, [&](int thread, std::int64_t first, std::int64_t last) {
        float* of_rows = row_sums(thread);
        double* of_samples = sample_sums(thread);
        std::fill_n(of_rows, count, 0.0f);
        std::fill_n(of_samples, count, 0.0);
        for (std::int64_t item = first; item < last; ++item) {
            const float *image = t_.x.f32() + item / height * t_.x.shape.h * t_.x.shape.w * x_pitch,
                        *dy = t_.y.f32() + item * t_.y.shape.w * y_pitch;
            each_block<summed_vectors>(channels, [&](auto block, std::int64_t c) {
                for (const Meeting& r : rows_[static_cast<std::size_t>(item % height)])
                    row(image + r.at * t_.x.shape.w * x_pitch + c, dy + c, block,
                        of_rows + r.tap * kernel * channels + c);
            });
            if (item + 1 < last && (item + 1) % height != 0) continue;
            for (std::int64_t i = 0; i < count; ++i) {
                of_samples[i] += static_cast<double>(of_rows[i]);
                of_rows[i] = 0;
            }
        }
    });
    write_gradient(add);
}

void DepthwiseConvolution::write_gradient(bool add) const {
    const std::int64_t channels = t_.w.shape.n, count = taps();
    float* to = t_.w.f32();
    threads_.split(channels, [&](int, std::int64_t first, std::int64_t last) {
        for (std::int64_t tap = 0; tap < count; ++tap) {
            for (std::int64_t c = first; c < last; ++c) {
                double sum = 0;
                for (int t = 0; t < threads_.count(); ++t)
                    sum += sample_sums(t)[tap * channels + c];
                float& gradient = to[c * count + tap];
                gradient = (add ? gradient : 0.0f) + static_cast<float>(sum);
            }
        }
    });
}

void DepthwiseConvolution::run(bool add) {
    with_activation(t_.input, [&](auto activation) {
        if (pass_ == Pass::weights) return sum_products<activation.value>(add);
        pack_weights();
        gather<activation.value>();
    });
}

}  // namespace deeplab::cpu
