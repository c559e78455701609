#include "tap_convolution.h"

#include <algorithm>
#include <cstring>

#include "matrix.h"
#include "scratch.h"

namespace deeplab::cpu {
namespace {

// Pixels of a product: enough for the weights to be reused, few enough to stay in a cache.
constexpr std::int64_t pixels_at_a_time = 192;
// What all threads copy for the weights' gradient at a time.
constexpr std::int64_t shared_block_bytes = 32 << 20;

bool follow_each_other(const std::vector<PixelRow>& rows, std::int64_t channels) {
    return rows.front().step == 1 &&
           std::all_of(rows.begin() + 1, rows.end(), [channels](const PixelRow& row) {
               const PixelRow* before = &row - 1;
               return row.first == before->first + before->count * channels;
           });
}

// A matrix of all the rows' pixels in `to`; copy(row, place) is asked for each.
template <class Copy>
Matrix gathered(const std::vector<PixelRow>& rows, std::int64_t channels, float* to,
                const Copy& copy) {
    float* place = to;
    for (const PixelRow& row : rows) {
        copy(row, place);
        place += row.count * padded(channels);
    }
    return {to, padded(channels), false};
}

void copy_row(const PixelRow& row, std::int64_t channels, float* to) {
    for (std::int64_t i = 0; i < row.count; ++i) {
        std::memcpy(to + i * padded(channels), row.first + i * row.step * channels,
                    static_cast<std::size_t>(channels) * sizeof(float));
    }
}

void add_row(const float* from, std::int64_t channels, const PixelRow& row) {
    for (std::int64_t i = 0; i < row.count; ++i) {
        float* to = row.first + i * row.step * channels;
        const float* values = from + i * padded(channels);
#pragma omp simd
        for (std::int64_t c = 0; c < channels; ++c) to[c] += values[c];
    }
}

}  // namespace

TapConvolution::TapConvolution(const Threads& threads, Pass pass, const graph::ConvGeometry& g,
                               const ConvolutionTensors& t, const Buffer& scratch)
    : threads_(threads),
      pass_(pass),
      stride_(g.stride),
      x_(t.x),
      y_(t.y),
      weights_(t.w),
      scratch_(scratch) {
    const auto range = [&g](std::int64_t in, std::int64_t out, std::int64_t tap) {
        Range r{0, tap * g.dilation - g.pad, 0};
        for (; r.in < 0; r.in += g.stride) ++r.out;
        if (r.in < in) r.count = std::min(out - r.out, (in - r.in + g.stride - 1) / g.stride);
        return r;
    };
    const std::int64_t count = weights_.shape.h * weights_.shape.w;
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t tap = (i + count / 2) % count;
        const Range rows = range(x_.shape.h, y_.shape.h, tap / weights_.shape.w),
                    columns = range(x_.shape.w, y_.shape.w, tap % weights_.shape.w);
        if (rows.count > 0 && columns.count > 0) taps_.push_back({tap, rows, columns});
    }
    std::int64_t pixels = pixels_at_a_time;
    if (pass == Pass::data) pixels *= g.stride * g.stride;  // of which a tap reaches one in so many
    if (pass == Pass::weights) {
        pixels = shared_block_bytes /
                 (count * (x_.shape.c + y_.shape.c) * static_cast<std::int64_t>(sizeof(float)));
    }
    const Shape& owner = pass == Pass::data ? x_.shape : y_.shape;
    block_rows_ = std::clamp<std::int64_t>(pixels / owner.w, 1, owner.n * owner.h);
    block_pixels_ = block_rows_ * y_.shape.w;
}

// In the rows [first, last), over all images, of the side that is written, or of y for the weights'
// gradient.
TapConvolution::Pairs TapConvolution::pairs(const Tap& tap, std::int64_t first,
                                            std::int64_t last) const {
    const bool by_input = pass_ == Pass::data;
    const Shape &xs = x_.shape, &ys = y_.shape;
    const std::int64_t height = by_input ? xs.h : ys.h, columns = tap.columns.count;
    Pairs all;
    for (std::int64_t row = first; row < last; ++row) {
        const std::int64_t n = row / height, h = row % height;
        const std::int64_t steps = by_input ? h - tap.rows.in : (h - tap.rows.out) * stride_;
        if (steps < 0 || steps % stride_ != 0 || steps / stride_ >= tap.rows.count) continue;
        const std::int64_t in = (n * xs.h + tap.rows.in + steps) * xs.w + tap.columns.in,
                           out = (n * ys.h + tap.rows.out + steps / stride_) * ys.w +
                                 tap.columns.out;
        all.in.push_back({x_.f32() + in * x_.pitch, stride_, columns});
        all.out.push_back({y_.f32() + out * y_.pitch, 1, columns});
        all.pixels += columns;
    }
    return all;
}

std::int64_t TapConvolution::scratch_bytes() const {
    const std::int64_t copies = pass_ == Pass::weights ? static_cast<std::int64_t>(taps_.size())
                                                       : threads_.count();
    return Scratch::bytes_of<float>(weights_.shape.elements()) +
           Scratch::bytes_of<float>(copies * block_pixels_ * padded(x_.shape.c)) +
           Scratch::bytes_of<float>(copies * block_pixels_ * padded(y_.shape.c));
}

// A (K, C) matrix a tap.
const float* TapConvolution::tap_major_weights(float* to) const {
    if (one_tap()) return weights_.f32();
    const Shape& s = weights_.shape;
    const std::int64_t count = s.h * s.w;
    const float* w = weights_.f32();
    threads_.split(s.n, [&](int, std::int64_t first, std::int64_t last) {
        for (const Tap& tap : taps_) {
            for (std::int64_t i = first * s.c; i < last * s.c; ++i)
                to[tap.index * s.n * s.c + i] = w[i * count + tap.index];
        }
    });
    return to;
}

// The outputs, or the gradient of the data from that of the outputs: each thread writes rows of its
// own.
void TapConvolution::convolve() {
    const bool data = pass_ == Pass::data;
    const std::int64_t in = data ? y_.shape.c : x_.shape.c, out = data ? x_.shape.c : y_.shape.c;
    const Shape& written = data ? x_.shape : y_.shape;
    Scratch scratch(scratch_);
    const float* weights = tap_major_weights(scratch.take<float>(weights_.shape.elements()));
    float* inputs = scratch.take<float>(threads_.count() * block_pixels_ * padded(in));
    float* products = scratch.take<float>(threads_.count() * block_pixels_ * padded(out));
    threads_.split(written.n * written.h, [&](int thread, std::int64_t first, std::int64_t last) {
        const std::int64_t blocks = (last - first + block_rows_ - 1) / block_rows_;
        for (std::int64_t b = 0; b < blocks; ++b) {
            convolve_rows(weights, inputs + thread * block_pixels_ * padded(in),
                          products + thread * block_pixels_ * padded(out),
                          first + (last - first) * b / blocks,
                          first + (last - first) * (b + 1) / blocks);
        }
    });
}

void TapConvolution::convolve_rows(const float* weights, float* rows, float* products,
                                   std::int64_t first, std::int64_t last) const {
    const bool data = pass_ == Pass::data;
    const View &from = data ? y_ : x_, &to = data ? x_ : y_;
    const std::int64_t in = from.shape.c, out = to.shape.c, pixels = (last - first) * to.shape.w;
    float* written = to.f32() + first * to.shape.w * out;
    const auto clear = [&] {
        std::memset(written, 0, static_cast<std::size_t>(pixels * out) * sizeof(float));
    };
    bool begun = false;
    for (const Tap& tap : taps_) {
        const Pairs met = pairs(tap, first, last);
        if (met.pixels == 0) continue;
        const std::vector<PixelRow>& sources = data ? met.out : met.in;
        const Matrix a = follow_each_other(sources, in)
                             ? Matrix{sources.front().first, in, false}
                             : gathered(sources, in, rows, [in](const PixelRow& row, float* place) {
                                   copy_row(row, in, place);
                               });
        const Matrix w{weights + tap.index * in * out, data ? out : in, !data};
        const Extents extents{met.pixels, out, in};
        if (met.pixels == pixels) {
            multiply(a, w, {written, out}, extents, begun);
        } else {
            if (!begun) clear();
            multiply(a, w, {products, padded(out)}, extents);
            const float* product = products;
            for (const PixelRow& row : data ? met.in : met.out) {
                add_row(product, out, row);
                product += row.count * padded(out);
            }
        }
        begun = true;
    }
    if (!begun) clear();
}

// Block by block: all threads copy, then all multiply. A thread has some outputs' rows of the sums.
void TapConvolution::sum_weight_gradients(bool add) {
    const std::int64_t copies = static_cast<std::int64_t>(taps_.size()) * block_pixels_;
    Scratch scratch(scratch_);
    float* sums = scratch.take<float>(weights_.shape.elements());
    float* inputs = scratch.take<float>(copies * padded(x_.shape.c));
    float* gradients = scratch.take<float>(copies * padded(y_.shape.c));
    if (one_tap()) sums = weights_.f32();
    const std::int64_t rows = y_.shape.n * y_.shape.h;
    const std::int64_t blocks = (rows + block_rows_ - 1) / block_rows_;
    const bool keep = one_tap() && add;
    if (!keep) {
        std::memset(sums, 0, static_cast<std::size_t>(weights_.shape.elements()) * sizeof(float));
    }
    for (std::int64_t b = 0; b < blocks; ++b)
        sum_block(sums, rows * b / blocks, rows * (b + 1) / blocks, inputs, gradients);
    if (!one_tap()) write_weight_gradients(sums, add);
}

void TapConvolution::sum_block(float* sums, std::int64_t first, std::int64_t last, float* inputs,
                               float* gradients) const {
    struct Copy {
        PixelRow row;
        std::int64_t channels;
        float* to;
    };
    struct Operands {
        std::int64_t tap, pixels;
        Matrix x, dy;
    };
    const std::int64_t in = x_.shape.c, out = y_.shape.c;
    std::vector<Copy> copies;
    std::vector<Operands> operands;
    const auto gather = [&](const std::vector<PixelRow>& rows, std::int64_t channels, float* to) {
        const auto place = static_cast<std::int64_t>(operands.size()) * block_pixels_;
        return gathered(rows, channels, to + place * padded(channels),
                        [&](const PixelRow& row, float* p) {
                            copies.push_back({row, channels, p});
                        });
    };
    for (const Tap& tap : taps_) {
        const Pairs met = pairs(tap, first, last);
        if (met.pixels == 0) continue;
        operands.push_back(
            {tap.index, met.pixels, gather(met.in, in, inputs), gather(met.out, out, gradients)});
    }
    threads_.each(static_cast<std::int64_t>(copies.size()), [&](std::int64_t i) {
        const Copy& c = copies[static_cast<std::size_t>(i)];
        copy_row(c.row, c.channels, c.to);
    });
    threads_.split(out, [&](int, std::int64_t k, std::int64_t end) {
        for (const Operands& o : operands) {
            if (k == end) break;
            multiply({o.dy.data + k, o.dy.row, true}, o.x, {sums + (o.tap * out + k) * in, in},
                     {end - k, in, o.pixels}, true);
        }
    });
}

void TapConvolution::write_weight_gradients(const float* sums, bool add) const {
    const Shape& s = weights_.shape;
    const std::int64_t count = s.h * s.w;
    float* dw = weights_.f32();
    threads_.split(s.n, [&](int, std::int64_t first, std::int64_t last) {
        for (std::int64_t i = first * s.c; i < last * s.c; ++i) {
            for (std::int64_t tap = 0; tap < count; ++tap) {
                const float sum = sums[tap * s.n * s.c + i];
                float& to = dw[i * count + tap];
                to = add ? to + sum : sum;
            }
        }
    });
}

void TapConvolution::run(bool add) {
    if (pass_ == Pass::weights) {
        sum_weight_gradients(add);
    } else {
        convolve();
    }
}

bool taps_pay(Pass pass, const graph::ConvGeometry& g, const Shape& x, const Shape& w,
              const Shape& y) {
    constexpr std::int64_t least_channels = 32, many_channels = 256;
    const std::int64_t channels = std::min(x.c, y.c);
    if (g.groups != 1 || channels < least_channels || w.h > 3 || w.w > 3) return false;
    // oneDNN reads rows of many channels against its cache.
    const bool one_by_one = w.h == 1 && w.w == 1;
    return g.stride > 1 || g.dilation > 1 ||
           (one_by_one && pass == Pass::weights && channels >= many_channels);
}

}  // namespace deeplab::cpu
