#include "winograd.h"

#include <algorithm>

#include "matrix.h"
#include "scratch.h"
#include "vector.h"

namespace deeplab::cpu {
namespace {

constexpr int points = 16;  // of a transformed tile

// Blocks of transformed tiles: a thread's own, those of many threads together, and one that all
// work on.
constexpr std::int64_t block_bytes = 8 << 20, all_blocks_bytes = 64 << 20,
                       shared_block_bytes = 32 << 20;
constexpr std::int64_t least_block = 16, largest_block = 128, largest_shared_block = 1024;

// The corners (h, w) of one image's tiles. With a rate, the outputs that share their inputs are the
// maps of every rate-th row and column.
std::vector<std::pair<std::int64_t, std::int64_t>> tiles_of(const Shape& y, std::int64_t rate) {
    const auto starts = [rate](std::int64_t size) {
        std::vector<std::int64_t> all;
        for (std::int64_t phase = 0; phase < std::min(rate, size); ++phase)
            for (std::int64_t i = phase; i < size; i += 2 * rate) all.push_back(i);
        return all;
    };
    std::vector<std::pair<std::int64_t, std::int64_t>> all;
    const std::vector<std::int64_t> columns = starts(y.w);
    for (const std::int64_t h : starts(y.h))
        for (const std::int64_t w : columns) all.emplace_back(h, w);
    return all;
}

// body<T>(c) for as many channels at once as T holds: vectors, then the rest one by one.
template <class Body>
void each_channel(std::int64_t channels, const Body& body) {
    std::int64_t c = 0;
    for (; c + lanes <= channels; c += lanes) body.template operator()<Vector>(c);
    for (; c < channels; ++c) body.template operator()<float>(c);
}

// T as one of the transforms below, of columns: T m T' of a square m, columns first.
template <class Transform, class T, int From, int To>
void both_ways(const T (&m)[From][From], T (&to)[To][To]) {
    T half[From][To];
    for (int j = 0; j < From; ++j) {
        T column[From];
        for (int i = 0; i < From; ++i) column[i] = m[i][j];
        Transform::of(column, half[j]);
    }
    for (int i = 0; i < To; ++i) {
        T row[From];
        for (int j = 0; j < From; ++j) row[j] = half[j][i];
        Transform::of(row, to[i]);
    }
}

struct Inputs {  // B'
    template <class T>
    static void of(const T (&d)[4], T (&to)[4]) {
        to[0] = d[0] - d[2];
        to[1] = d[1] + d[2];
        to[2] = d[2] - d[1];
        to[3] = d[1] - d[3];
    }
};

struct Outputs {  // A'
    template <class T>
    static void of(const T (&m)[4], T (&to)[2]) {
        to[0] = m[0] + m[1] + m[2];
        to[1] = m[1] - m[2] - m[3];
    }
};

struct Gradients {  // A
    template <class T>
    static void of(const T (&y)[2], T (&to)[4]) {
        to[0] = y[0];
        to[1] = y[0] + y[1];
        to[2] = y[0] - y[1];
        to[3] = -y[1];
    }
};

struct Weights {  // G
    template <class T>
    static void of(const T (&g)[3], T (&to)[4]) {
        const T ends = g[0] + g[2];
        to[0] = g[0];
        to[1] = 0.5f * (ends + g[1]);
        to[2] = 0.5f * (ends - g[1]);
        to[3] = g[2];
    }
};

struct WeightGradients {  // G'
    template <class T>
    static void of(const T (&u)[4], T (&to)[3]) {
        const T half_sum = 0.5f * (u[1] + u[2]);
        to[0] = u[0] + half_sum;
        to[1] = 0.5f * (u[1] - u[2]);
        to[2] = half_sum + u[3];
    }
};

// Weights of neighbouring channels lie nine apart.
template <class T>
constexpr int width = sizeof(T) / sizeof(float);

template <class T>
void load_kernels(const float* w, bool mirrored, T (&g)[3][3]) {
    float kernels[9][width<T>];
    for (int lane = 0; lane < width<T>; ++lane)
        for (int i = 0; i < 9; ++i) kernels[mirrored ? 8 - i : i][lane] = w[lane * 9 + i];
    for (int i = 0; i < 9; ++i) load(kernels[i], g[i / 3][i % 3]);
}

template <class T>
void store_kernels(const T (&g)[3][3], bool add, float* w) {
    float kernels[9][width<T>];
    for (int i = 0; i < 9; ++i) store(g[i / 3][i % 3], kernels[i]);
    for (int lane = 0; lane < width<T>; ++lane) {
        for (int i = 0; i < 9; ++i) {
            float& to = w[lane * 9 + i];
            to = add ? to + kernels[i][lane] : kernels[i][lane];
        }
    }
}

// G g G' of every (k, c): point p of (k, c) at u[(p * K + k) * C + c].
void transform_weights(const Threads& threads, const View& weights, bool mirrored, float* u) {
    const std::int64_t outputs = weights.shape.n, inputs = weights.shape.c;
    threads.each(outputs, [&](std::int64_t k) {
        each_channel(inputs, [&]<class T>(std::int64_t c) {
            T g[3][3], transformed[4][4];
            load_kernels(weights.f32() + (k * inputs + c) * 9, mirrored, g);
            both_ways<Weights>(g, transformed);
            for (int p = 0; p < points; ++p)
                store(transformed[p / 4][p % 4], u + (p * outputs + k) * inputs + c);
        });
    });
}

// The way back, into a gradient.
void transform_weight_gradients(const Threads& threads, const float* u, const View& gradient,
                                bool add) {
    const std::int64_t outputs = gradient.shape.n, inputs = gradient.shape.c;
    threads.each(outputs, [&](std::int64_t k) {
        each_channel(inputs, [&]<class T>(std::int64_t c) {
            T transformed[4][4], g[3][3];
            for (int p = 0; p < points; ++p)
                load(u + (p * outputs + k) * inputs + c, transformed[p / 4][p % 4]);
            both_ways<WeightGradients>(transformed, g);
            store_kernels(g, add, gradient.f32() + (k * inputs + c) * 9);
        });
    });
}

// Pixel (h, w) of image n; `outside` where the map has none.
float* pixel(const View& v, std::int64_t n, std::int64_t h, std::int64_t w, float* outside) {
    const Shape& s = v.shape;
    if (h < 0 || h >= s.h || w < 0 || w >= s.w) return outside;
    return v.f32() + ((n * s.h + h) * s.w + w) * v.pitch;
}

}  // namespace

WinogradConvolution::WinogradConvolution(const Threads& threads, Pass pass,
                                         const graph::ConvGeometry& g, const ConvolutionTensors& t,
                                         const Buffer& scratch)
    : threads_(threads),
      pass_(pass),
      rate_(g.dilation),
      pad_(pass == Pass::data ? 2 * g.dilation - g.pad : g.pad),
      in_(pass == Pass::data ? t.y : t.x),
      out_(pass == Pass::data ? t.x : t.y),
      weights_(t.w),
      scratch_(scratch),
      tiles_(tiles_of(out_.shape, rate_)),
      tile_count_(out_.shape.n * static_cast<std::int64_t>(tiles_.size())) {
    const std::int64_t channels = in_.shape.c + out_.shape.c;
    const bool shared = pass == Pass::weights;
    const std::int64_t bytes = shared ? shared_block_bytes
                                      : std::min(block_bytes, all_blocks_bytes / threads.count());
    block_ = std::clamp(bytes / (points * channels * static_cast<std::int64_t>(sizeof(float))),
                        least_block, shared ? largest_shared_block : largest_block);
    block_ = std::min(block_, tile_count_);
    zeros_.resize(static_cast<std::size_t>(std::max(in_.shape.c, out_.shape.c)));
}

std::int64_t WinogradConvolution::scratch_bytes() const {
    const std::int64_t in = in_.shape.c, out = out_.shape.c;
    const std::int64_t blocks = pass_ == Pass::weights ? 1 : threads_.count();
    return Scratch::bytes_of<float>(points * in * out) +
           Scratch::bytes_of<float>(blocks * points * block_ * padded(in)) +
           Scratch::bytes_of<float>(blocks * points * block_ * padded(out)) +
           Scratch::bytes_of<float>(blocks * out);
}

WinogradConvolution::Tile WinogradConvolution::tile(std::int64_t i) const {
    const auto count = static_cast<std::int64_t>(tiles_.size());
    const auto& [h, w] = tiles_[static_cast<std::size_t>(i % count)];
    return {i / count, h, w};
}

// B' d B of a tile: point p of channel c at to[p * step + c].
void WinogradConvolution::read_inputs(const Tile& t, float* to, std::int64_t step) {
    const float* from[points];
    for (int p = 0; p < points; ++p)
        from[p] = pixel(in_, t.n, t.h - pad_ + p / 4 * rate_, t.w - pad_ + p % 4 * rate_,
                        zeros_.data());
    each_channel(in_.shape.c, [&]<class T>(std::int64_t c) {
        T d[4][4], transformed[4][4];
        for (int p = 0; p < points; ++p) load(from[p] + c, d[p / 4][p % 4]);
        both_ways<Inputs>(d, transformed);
        for (int p = 0; p < points; ++p) store(transformed[p / 4][p % 4], to + p * step + c);
    });
}

// A dy A' of a tile.
void WinogradConvolution::read_gradients(const Tile& t, float* to, std::int64_t step) {
    const float* from[4];
    for (int p = 0; p < 4; ++p)
        from[p] = pixel(out_, t.n, t.h + p / 2 * rate_, t.w + p % 2 * rate_, zeros_.data());
    each_channel(out_.shape.c, [&]<class T>(std::int64_t c) {
        T y[2][2], transformed[4][4];
        for (int p = 0; p < 4; ++p) load(from[p] + c, y[p / 2][p % 2]);
        both_ways<Gradients>(y, transformed);
        for (int p = 0; p < points; ++p) store(transformed[p / 4][p % 4], to + p * step + c);
    });
}

// A' m A of a tile; outputs outside the map go to `nowhere`.
void WinogradConvolution::write_outputs(const Tile& t, const float* from, std::int64_t step,
                                        float* nowhere) const {
    float* to[4];
    for (int p = 0; p < 4; ++p)
        to[p] = pixel(out_, t.n, t.h + p / 2 * rate_, t.w + p % 2 * rate_, nowhere);
    each_channel(out_.shape.c, [&]<class T>(std::int64_t c) {
        T m[4][4], y[2][2];
        for (int p = 0; p < points; ++p) load(from + p * step + c, m[p / 4][p % 4]);
        both_ways<Outputs>(m, y);
        for (int p = 0; p < 4; ++p) store(y[p / 2][p % 2], to[p] + c);
    });
}

// The outputs, or the gradient of the data from that of the outputs. Each thread does its tiles
// alone, block by block.
void WinogradConvolution::convolve() {
    const std::int64_t in = in_.shape.c, out = out_.shape.c;
    const std::int64_t v_row = padded(in), m_row = padded(out);
    const bool data = pass_ == Pass::data;
    Scratch scratch(scratch_);
    float* u = scratch.take<float>(points * in * out);
    float* inputs = scratch.take<float>(threads_.count() * points * block_ * v_row);
    float* products = scratch.take<float>(threads_.count() * points * block_ * m_row);
    float* nowhere = scratch.take<float>(threads_.count() * out);
    transform_weights(threads_, weights_, data, u);
    threads_.split(tile_count_, [&](int thread, std::int64_t first, std::int64_t last) {
        float* v = inputs + thread * points * block_ * v_row;
        float* m = products + thread * points * block_ * m_row;
        const std::int64_t blocks = (last - first + block_ - 1) / block_;
        for (std::int64_t b = 0; b < blocks; ++b) {
            const std::int64_t begin = first + (last - first) * b / blocks,
                               count = first + (last - first) * (b + 1) / blocks - begin;
            for (std::int64_t t = 0; t < count; ++t)
                read_inputs(tile(begin + t), v + t * v_row, block_ * v_row);
            for (std::int64_t p = 0; p < points; ++p) {
                multiply({v + p * block_ * v_row, v_row, false},
                         {u + p * in * out, data ? out : in, !data},
                         {m + p * block_ * m_row, m_row}, {count, out, in});
            }
            for (std::int64_t t = 0; t < count; ++t)
                write_outputs(tile(begin + t), m + t * m_row, block_ * m_row,
                              nowhere + thread * out);
        }
    });
}

// Blocks of tiles, transformed by all threads, then multiplied by all: a thread has rows of some
// points' sums of its own.
void WinogradConvolution::sum_weight_gradients(bool add) {
    const std::int64_t in = in_.shape.c, out = out_.shape.c;
    const std::int64_t v_row = padded(in), dy_row = padded(out);
    Scratch scratch(scratch_);
    float* u = scratch.take<float>(points * in * out);
    float* v = scratch.take<float>(points * block_ * v_row);
    float* dy = scratch.take<float>(points * block_ * dy_row);
    const std::int64_t parts = std::min<std::int64_t>((threads_.count() + points - 1) / points,
                                                      out);
    const std::int64_t blocks = (tile_count_ + block_ - 1) / block_;
    for (std::int64_t b = 0; b < blocks; ++b) {
        const std::int64_t begin = tile_count_ * b / blocks,
                           count = tile_count_ * (b + 1) / blocks - begin;
        threads_.each(count, [&](std::int64_t t) {
            read_inputs(tile(begin + t), v + t * v_row, block_ * v_row);
            read_gradients(tile(begin + t), dy + t * dy_row, block_ * dy_row);
        });
        threads_.each(points * parts, [&](std::int64_t item) {
            const std::int64_t p = item / parts, k = out * (item % parts) / parts,
                               rows = out * (item % parts + 1) / parts - k;
            multiply({dy + p * block_ * dy_row + k, dy_row, true},
                     {v + p * block_ * v_row, v_row, false}, {u + (p * out + k) * in, in},
                     {rows, in, count}, b > 0);
        });
    }
    transform_weight_gradients(threads_, u, weights_, add);
}

void WinogradConvolution::run(bool add) {
    if (pass_ == Pass::weights) {
        sum_weight_gradients(add);
    } else {
        convolve();
    }
}

bool winograd_pays(const graph::ConvGeometry& g, const Shape& x, const Shape& w, const Shape& y) {
    constexpr std::int64_t least_channels = 32;
    constexpr double transforms = 1.25;  // what they add to the products, about
    if (w.h != 3 || w.w != 3 || g.stride != 1 || g.groups != 1 || g.pad > 2 * g.dilation ||
        std::min(x.c, y.c) < least_channels) {
        return false;
    }
    // Multiplications of one image, over the product of the channels.
    const auto taps_inside = [&g](std::int64_t in, std::int64_t out) {
        std::int64_t count = 0;
        for (std::int64_t o = 0; o < out; ++o) {
            for (std::int64_t tap = 0; tap < 3; ++tap) {
                const std::int64_t i = o - g.pad + tap * g.dilation;
                count += i >= 0 && i < in;
            }
        }
        return count;
    };
    const auto direct = static_cast<double>(taps_inside(x.h, y.h) * taps_inside(x.w, y.w));
    const auto tiles = static_cast<double>(tiles_of(y, g.dilation).size());
    return transforms * points * tiles < direct;
}

}  // namespace deeplab::cpu
