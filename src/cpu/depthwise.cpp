#include "depthwise.h"

#include <algorithm>

#include "deeplab/base/error.h"
#include "depthwise_lanes.h"
#include "scratch.h"

namespace deeplab::cpu {
namespace {

using Meeting = DepthwiseConvolution::Meeting;

// What a thread reads of its rows again and again stays in the second cache: so many bytes.
constexpr std::int64_t cached_bytes = 256 << 10;
constexpr std::int64_t least_channels = 128;  // that are read side by side

// Vectors of a block, and places a rate apart that share what they read: their sums, a row of the
// window and a value fit the registers. Alone: vectors of a block where nothing is shared.
constexpr int shared_vectors = 2, together = 4, alone_vectors = 4;

// What a row of one image reads, from a block's first channel on.
struct Source {
    const float* in;       // the image
    const float* weights;  // (taps, C)
    std::int64_t row, pitch, channels, kernel_width;

    const float* at(const Meeting& r, std::int64_t column) const {
        return in + r.at * row + column * pitch;
    }
    const float* weight(const Meeting& r, std::int64_t s) const {
        return weights + (r.tap * kernel_width + s) * channels;
    }
};

// Any window.
template <Activation A, class T, int V>
[[gnu::flatten]] void gather_pixel(const Source& from, const std::vector<Meeting>& rows,
                                   const std::vector<Meeting>& columns, T (&result)[V]) {
    T sum[V] = {};
    for (const Meeting& r : rows) {
        for (const Meeting& s : columns) {
            T x[V], w[V];
            load_activated<A>(from.at(r, s.at), x);
            load_activated<Activation::none>(from.weight(r, s.tap), w);
            each<V>([&](auto v) { sum[v] += x[v] * w[v]; });
        }
    }
    each<V>([&](auto v) { result[v] = sum[v]; });
}

// A window three columns wide: `together` places a rate apart meet these columns of what is read,
// also a rate apart, of which [first, last) exist.
constexpr int columns_of_group(int stride) { return (together - 1) * stride + 3; }
struct Group {
    std::int64_t place, column;  // of the first place, and what its first tap meets
    int first, last;
};
std::vector<Group> groups_of(std::int64_t written, std::int64_t read, std::int64_t stride,
                             std::int64_t pad, std::int64_t rate) {
    std::vector<Group> groups;
    for (std::int64_t begin = 0; begin < written; begin += together * rate) {
        for (std::int64_t place = begin; place < std::min(begin + rate, written); ++place) {
            Group g{place, place * stride - pad, 0, columns_of_group(static_cast<int>(stride))};
            while (g.first < g.last && g.column + g.first * rate < 0) ++g.first;
            while (g.first < g.last && g.column + (g.last - 1) * rate >= read) --g.last;
            groups.push_back(g);
        }
    }
    return groups;
}

// f(place of the group, tap) for those that meet the group's column K.
template <int Stride, int K, class F>
void each_meeting(const F& f) {
    each<3>([&](auto s) {
        constexpr int steps = K - s.value;
        if constexpr (steps >= 0 && steps % Stride == 0 && steps / Stride < together)
            f(std::integral_constant<int, steps / Stride>{}, s);
    });
}

template <Activation A, int Stride, class T, int V>
[[gnu::flatten]] void gather_group(const Source& from, const std::vector<Meeting>& rows,
                                   const Group& group, std::int64_t rate, bool turned,
                                   T (&result)[together][V]) {
    T sum[together][V] = {};  // in registers, where `result` would not be
    const int first = group.first, last = group.last;
    const std::int64_t step = rate * from.pitch;
    for (const Meeting& r : rows) {
        T w[3][V];
        each<3>([&](auto s) {
            load_activated<Activation::none>(from.weight(r, turned ? 2 - s.value : s.value), w[s]);
        });
        const float* x = from.at(r, group.column);
        each<columns_of_group(Stride)>([&](auto k) {
            if (k < first || k >= last) return;
            T value[V];
            load_activated<A>(x + k * step, value);
            each_meeting<Stride, k.value>(
                [&](auto o, auto s) { each<V>([&](auto v) { sum[o][v] += value[v] * w[s][v]; }); });
        });
    }
    each<together>([&](auto o) { each<V>([&](auto v) { result[o][v] = sum[o][v]; }); });
}

// A row of y's gradient and one of x that meet by a row of the window, from a block's first channel
// on; the sums of products of that row of the window, (taps, C).
struct RowPair {
    const float *x, *dy;
    float* sums;
    std::int64_t x_pitch, dy_pitch, width, channels;  // width: of dy
};

// With a window three columns wide.
template <Activation A, int Stride, class T, int V>
[[gnu::flatten]] void add_products(const RowPair& p, const std::vector<Group>& groups,
                                   std::int64_t rate, Block<T, V>) {
    T sum[3][V] = {};
    for (const Group& group : groups) {
        T gradient[together][V] = {};
        each<together>([&](auto o) {
            const std::int64_t place = group.place + o * rate;
            if (place < p.width)
                load_activated<Activation::none>(p.dy + place * p.dy_pitch, gradient[o]);
        });
        const int first = group.first, last = group.last;
        const std::int64_t step = rate * p.x_pitch;
        const float* x = p.x + group.column * p.x_pitch;
        each<columns_of_group(Stride)>([&](auto k) {
            if (k < first || k >= last) return;
            T value[V];
            load_activated<A>(x + k * step, value);
            each_meeting<Stride, k.value>([&](auto o, auto s) {
                each<V>([&](auto v) { sum[s][v] += value[v] * gradient[o][v]; });
            });
        });
    }
    each<3>([&](auto s) { add_to(sum[s], p.sums + s * p.channels); });
}

// With one tap, which meets x's column `column` from dy's place `first` on.
struct Met {
    std::int64_t first, last, column, stride;
};
template <Activation A, class T, int V>
[[gnu::flatten]] void add_products(const RowPair& p, const Met& met, Block<T, V>) {
    T sum[V] = {};
    const float* x = p.x + met.column * p.x_pitch;
    for (std::int64_t q = met.first; q < met.last; ++q, x += met.stride * p.x_pitch) {
        T value[V], gradient[V];
        load_activated<A>(x, value);
        load_activated<Activation::none>(p.dy + q * p.dy_pitch, gradient);
        each<V>([&](auto v) { sum[v] += value[v] * gradient[v]; });
    }
    add_to(sum, p.sums);
}
std::vector<Met> met_by_taps(const DepthwiseConvolution::Axis& columns, std::int64_t taps,
                             std::int64_t stride) {
    std::vector<Met> all(static_cast<std::size_t>(taps), {0, 0, 0, stride});
    for (std::size_t q = 0; q < columns.size(); ++q) {
        for (const Meeting& m : columns[q]) {
            Met& met = all[static_cast<std::size_t>(m.tap)];
            if (met.last == 0) met.first = static_cast<std::int64_t>(q), met.column = m.at;
            met.last = static_cast<std::int64_t>(q) + 1;
        }
    }
    return all;
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

// What a sample's rows summed in f32 is added in f64, and begins again.
void move_sums(float* rows, double* samples, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
        samples[i] += static_cast<double>(rows[i]);
        rows[i] = 0;
    }
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

// f(first channel, count): channels of which the rows that a window spans stay in a cache.
template <class F>
void DepthwiseConvolution::each_part(const View& read, const View& written, const F& f) const {
    const std::int64_t channels = t_.w.shape.n,
                       span = std::min((t_.w.shape.h - 1) * g_.dilation / rows_apart() + 1,
                                       read.shape.h),
                       bytes = (span * read.shape.w + written.shape.w) *
                               static_cast<std::int64_t>(sizeof(float)),
                       part = std::max(cached_bytes / bytes / least_channels, std::int64_t{1}) *
                              least_channels;
    for (std::int64_t c = 0; c < channels; c += part) f(c, std::min(part, channels - c));
}

// Rows [first, last) in the order in which a thread takes them: those a rate apart follow each
// other, since they share most of what they read.
std::vector<std::int64_t> DepthwiseConvolution::order(std::int64_t first, std::int64_t last) const {
    const auto height = static_cast<std::int64_t>(rows_.size());
    const std::int64_t step = rows_apart();
    std::vector<std::int64_t> items;
    for (std::int64_t begin = first; begin < last;) {
        const std::int64_t end = std::min(last, (begin / height + 1) * height);
        for (std::int64_t m = begin; m < std::min(begin + step, end); ++m)
            for (std::int64_t item = m; item < end; item += step) items.push_back(item);
        begin = end;
    }
    return items;
}

// What the next row of the order reads, and this one does not.
void DepthwiseConvolution::prefetch_next(const View& read, std::int64_t item, std::int64_t next,
                                         std::int64_t c, std::int64_t count) const {
    const auto height = static_cast<std::int64_t>(rows_.size());
    const std::vector<Meeting>& now = rows_[static_cast<std::size_t>(item % height)];
    for (const Meeting& r : rows_[static_cast<std::size_t>(next % height)]) {
        const bool known = next / height == item / height &&
                           std::any_of(now.begin(), now.end(),
                                       [&](const Meeting& n) { return n.at == r.at; });
        if (!known)
            prefetch(
                read.f32() + (next / height * read.shape.h + r.at) * read.shape.w * read.pitch + c,
                read.shape.w, read.pitch, count);
    }
}

std::int64_t DepthwiseConvolution::rows_apart() const { return g_.stride == 1 ? g_.dilation : 1; }

// Whether places a rate apart are taken together: a window three columns wide, and a map wide
// enough for them.
bool DepthwiseConvolution::shares() const {
    return t_.w.shape.w == 3 && g_.stride <= 2 && together * g_.dilation <= t_.y.shape.w + 2;
}

// The channels from c on at one place.
template <Activation A, class T, int V>
void DepthwiseConvolution::write(const View& to, std::int64_t place, std::int64_t c,
                                 const T (&sum)[V]) const {
    each<V>([&](auto v) {
        const std::int64_t at = place * to.pitch + c + v * width_of<T>;
        T value = sum[v];
        if (A != Activation::none && pass_ == Pass::data) {
            T x;
            load(t_.masks.f32() + at, x);
            mask<A>(x, value);
        }
        store(value, to.f32() + at);
    });
}

template <Activation A>
void DepthwiseConvolution::gather() const {
    constexpr Activation none = Activation::none;
    const bool forward = pass_ == Pass::forward;
    const View &from = forward ? t_.x : t_.y, &to = forward ? t_.y : t_.x;
    const std::int64_t width = to.shape.w, rate = g_.dilation;
    const bool in_groups = shares() && (g_.stride == 1 || forward);
    const std::vector<Group> groups = groups_of(in_groups ? width : 0, from.shape.w,
                                                forward ? g_.stride : 1,
                                                forward ? g_.pad : 2 * rate - g_.pad, rate);
    // A row's channels [begin, begin + count).
    const auto row = [&](std::int64_t item, std::int64_t begin, std::int64_t count) {
        const std::vector<Meeting>& rows = rows_[static_cast<std::size_t>(item % to.shape.h)];
        const float* image = from.f32() +
                             item / to.shape.h * from.shape.h * from.shape.w * from.pitch;
        const auto source = [&](std::int64_t c) {
            return Source{image + c,  packed() + c, from.shape.w * from.pitch,
                          from.pitch, to.shape.c,   t_.w.shape.w};
        };
        for (const Group& group : groups) {
            each_block<shared_vectors>(count, [&](auto block, std::int64_t in_part) {
                typename decltype(block)::Type sum[together][decltype(block)::vectors];
                const std::int64_t c = begin + in_part;
                if (!forward)
                    gather_group<none, 1>(source(c), rows, group, rate, true, sum);
                else if (g_.stride == 1)
                    gather_group<A, 1>(source(c), rows, group, rate, false, sum);
                else
                    gather_group<A, 2>(source(c), rows, group, rate, false, sum);
                for (int o = 0; o < together; ++o)
                    if (group.place + o * rate < width)
                        write<A>(to, item * width + group.place + o * rate, c, sum[o]);
            });
        }
        for (std::int64_t q = in_groups ? width : 0; q < width; ++q) {
            each_block<alone_vectors>(count, [&](auto block, std::int64_t in_part) {
                typename decltype(block)::Type sum[decltype(block)::vectors];
                const std::int64_t c = begin + in_part;
                const std::vector<Meeting>& columns = columns_[static_cast<std::size_t>(q)];
                if (forward)
                    gather_pixel<A>(source(c), rows, columns, sum);
                else
                    gather_pixel<none>(source(c), rows, columns, sum);
                write<A>(to, item * width + q, c, sum);
            });
        }
    };
    threads_.split(to.shape.n * to.shape.h, [&](int, std::int64_t first, std::int64_t last) {
        const std::vector<std::int64_t> items = order(first, last);
        each_part(from, to, [&](std::int64_t c, std::int64_t count) {
            for (std::size_t i = 0; i < items.size(); ++i) {
                if (i + 1 < items.size()) prefetch_next(from, items[i], items[i + 1], c, count);
                row(items[i], c, count);
            }
        });
    });
}

template <Activation A>
void DepthwiseConvolution::sum_products(bool add) const {
    const std::int64_t channels = t_.x.shape.c, kernel = t_.w.shape.w, height = t_.y.shape.h,
                       width = t_.y.shape.w, rate = g_.dilation, x_row = t_.x.shape.w * t_.x.pitch;
    const std::vector<Group> groups = groups_of(shares() ? width : 0, t_.x.shape.w, g_.stride,
                                                g_.pad, rate);
    const std::vector<Met> met = met_by_taps(columns_, kernel, g_.stride);
    // The products of a block of a row with a row of the window.
    const auto products = [&](const RowPair& pair, auto block) {
        if (!shares()) {
            RowPair tap = pair;
            for (const Met& m : met) {
                add_products<A>(tap, m, block);
                tap.sums += channels;
            }
        } else if (g_.stride == 1) {
            add_products<A, 1>(pair, groups, rate, block);
        } else {
            add_products<A, 2>(pair, groups, rate, block);
        }
    };
    const auto row = [&](std::int64_t item, std::int64_t begin, std::int64_t count, float* sums) {
        const float *image = t_.x.f32() + item / height * t_.x.shape.h * x_row,
                    *dy = t_.y.f32() + item * width * t_.y.pitch;
        const auto one = [&](auto block, std::int64_t in_part) {
            const std::int64_t c = begin + in_part;
            for (const Meeting& r : rows_[static_cast<std::size_t>(item % height)])
                products({image + r.at * x_row + c, dy + c, sums + r.tap * kernel * channels + c,
                          t_.x.pitch, t_.y.pitch, width, channels},
                         block);
        };
        if (shares())
            each_block<shared_vectors>(count, one);
        else
            each_block<alone_vectors>(count, one);
    };
    threads_.split(t_.y.shape.n * height, [&](int thread, std::int64_t first, std::int64_t last) {
        float* of_rows = row_sums(thread);
        double* of_samples = sample_sums(thread);
        std::fill_n(of_rows, taps() * channels, 0.0f);
        std::fill_n(of_samples, taps() * channels, 0.0);
        const std::vector<std::int64_t> items = order(first, last);
        each_part(t_.x, t_.y, [&](std::int64_t c, std::int64_t count) {
            for (std::size_t at = 0; at < items.size(); ++at) {
                const std::int64_t item = items[at],
                                   next = at + 1 < items.size() ? items[at + 1] : -1;
                if (next >= 0) {
                    prefetch_next(t_.x, item, next, c, count);
                    prefetch(t_.y.f32() + next * width * t_.y.pitch + c, width, t_.y.pitch, count);
                }
                row(item, c, count, of_rows);
                if (next >= 0 && next / height == item / height) continue;
                for (std::int64_t tap = 0; tap < taps(); ++tap)
                    move_sums(of_rows + tap * channels + c, of_samples + tap * channels + c, count);
            }
        });
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
