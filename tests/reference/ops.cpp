#include "reference/ops.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "deeplab/math/bf16.h"
#include "deeplab/math/bilinear.h"

namespace deeplab::reference {
namespace {

template <class F>
void for_each(const Shape& s, const F& f) {
    for (std::int64_t n = 0; n < s.n; ++n) {
        for (std::int64_t c = 0; c < s.c; ++c) {
            for (std::int64_t h = 0; h < s.h; ++h) {
                for (std::int64_t w = 0; w < s.w; ++w) f(n, c, h, w);
            }
        }
    }
}

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// f(n, k, p, q, c, h, w, c within the group, r, s) for every product of a convolution.
template <class F>
void for_each_product(const Shape& x, const Shape& w, const Shape& y, const graph::ConvGeometry& g,
                      const F& f) {
    const std::int64_t group_outputs = w.n / g.groups;
    for_each(y, [&](std::int64_t n, std::int64_t k, std::int64_t p, std::int64_t q) {
        for (std::int64_t c = 0; c < w.c; ++c) {
            for (std::int64_t r = 0; r < w.h; ++r) {
                for (std::int64_t s = 0; s < w.w; ++s) {
                    const std::int64_t h = p * g.stride - g.pad + r * g.dilation;
                    const std::int64_t i = q * g.stride - g.pad + s * g.dilation;
                    if (h < 0 || h >= x.h || i < 0 || i >= x.w) continue;
                    f(n, k, p, q, k / group_outputs * w.c + c, h, i, c, r, s);
                }
            }
        }
    });
}

}  // namespace

Tensor random_tensor(const Shape& shape, std::uint64_t seed) {
    Tensor t(shape);
    for (std::size_t i = 0; i < t.data.size(); ++i) {
        const math::Philox4 r = math::philox(seed, {{static_cast<std::uint32_t>(i), 7, 7, 7}});
        t.data[i] = static_cast<double>(2.0f * math::uniform(r.v[0]) - 1.0f);
    }
    return t;
}

Tensor bf16(const Tensor& x) {
    Tensor y(x.shape);
    for (std::size_t i = 0; i < y.data.size(); ++i) {
        y.data[i] = static_cast<double>(math::round_to_bf16(static_cast<float>(x.data[i])));
    }
    return y;
}

Tensor channels(const Tensor& x, std::int64_t first, std::int64_t count) {
    Tensor y({x.shape.n, count, x.shape.h, x.shape.w});
    for_each(y.shape,
             [&](auto n, auto c, auto h, auto w) { y.at(n, c, h, w) = x.at(n, first + c, h, w); });
    return y;
}

void put_channels(const Tensor& x, std::int64_t first, Tensor& y) {
    for_each(x.shape,
             [&](auto n, auto c, auto h, auto w) { y.at(n, first + c, h, w) = x.at(n, c, h, w); });
}

Tensor sum(const std::vector<Tensor>& all) {
    Tensor y(all.front().shape);
    for (const Tensor& t : all) {
        for (std::size_t i = 0; i < y.data.size(); ++i) y.data[i] += t.data[i];
    }
    return y;
}

std::int64_t output_size(std::int64_t in, std::int64_t kernel, std::int64_t stride,
                         std::int64_t pad, std::int64_t dilation) {
    return (in + 2 * pad - dilation * (kernel - 1) - 1) / stride + 1;
}

Tensor conv2d(const Tensor& x, const Tensor& w, const std::vector<double>& bias,
              const graph::ConvGeometry& g) {
    Tensor y({x.shape.n, w.shape.n, output_size(x.shape.h, w.shape.h, g.stride, g.pad, g.dilation),
              output_size(x.shape.w, w.shape.w, g.stride, g.pad, g.dilation)});
    if (!bias.empty())
        for_each(y.shape, [&](auto n, auto k, auto p, auto q) { y.at(n, k, p, q) = bias[at(k)]; });
    for_each_product(x.shape, w.shape, y.shape, g,
                     [&](auto n, auto k, auto p, auto q, auto c, auto h, auto i, auto gc, auto r,
                         auto s) { y.at(n, k, p, q) += x.at(n, c, h, i) * w.at(k, gc, r, s); });
    return y;
}

Tensor conv2d_grad_data(const Tensor& dy, const Tensor& w, const Shape& x,
                        const graph::ConvGeometry& g) {
    Tensor dx(x);
    for_each_product(x, w.shape, dy.shape, g,
                     [&](auto n, auto k, auto p, auto q, auto c, auto h, auto i, auto gc, auto r,
                         auto s) { dx.at(n, c, h, i) += dy.at(n, k, p, q) * w.at(k, gc, r, s); });
    return dx;
}

Tensor conv2d_grad_weights(const Tensor& x, const Tensor& dy, const Shape& w,
                           const graph::ConvGeometry& g) {
    Tensor dw(w);
    for_each_product(x.shape, w, dy.shape, g,
                     [&](auto n, auto k, auto p, auto q, auto c, auto h, auto i, auto gc, auto r,
                         auto s) { dw.at(k, gc, r, s) += dy.at(n, k, p, q) * x.at(n, c, h, i); });
    return dw;
}

std::vector<double> conv2d_grad_bias(const Tensor& dy) {
    std::vector<double> sums(at(dy.shape.c));
    for_each(dy.shape, [&](auto n, auto k, auto p, auto q) { sums[at(k)] += dy.at(n, k, p, q); });
    return sums;
}

double activated(graph::Activation activation, double z) {
    if (activation == graph::Activation::none) return z;
    if (activation == graph::Activation::relu) return std::max(z, 0.0);
    return std::min(std::max(z, 0.0), 6.0);
}

bool passes(graph::Activation activation, double z) {
    if (activation == graph::Activation::none) return true;
    return z > 0 && (activation == graph::Activation::relu || z < 6);
}

BatchNorm batch_norm_act(const Tensor& x, const BatchNormParameters& p, const Tensor* residual,
                         const graph::BatchNormAct& op) {
    const auto count = static_cast<double>(x.shape.n * x.shape.h * x.shape.w);
    const std::size_t channels = at(x.shape.c);
    const double momentum = static_cast<double>(op.momentum);
    BatchNorm r;
    r.running_mean = p.running_mean;
    r.running_variance = p.running_variance;
    r.mean = p.running_mean;
    std::vector<double> variance = p.running_variance;
    if (!op.frozen) {
        r.mean.assign(channels, 0);
        variance.assign(channels, 0);
        for_each(x.shape, [&](auto n, auto c, auto h, auto w) {
            r.mean[at(c)] += x.at(n, c, h, w) / count;
        });
        for_each(x.shape, [&](auto n, auto c, auto h, auto w) {
            variance[at(c)] += std::pow(x.at(n, c, h, w) - r.mean[at(c)], 2) / count;
        });
        for (std::size_t c = 0; c < channels; ++c) {
            const double estimate = count > 1 ? variance[c] * count / (count - 1) : variance[c];
            r.running_mean[c] = (1 - momentum) * r.running_mean[c] + momentum * r.mean[c];
            r.running_variance[c] = (1 - momentum) * r.running_variance[c] + momentum * estimate;
        }
    }
    for (const double v : variance)
        r.invstd.push_back(1.0 / std::sqrt(v + static_cast<double>(op.eps)));
    r.y = Tensor(x.shape);
    for_each(x.shape, [&](auto n, auto c, auto h, auto w) {
        double z = p.gamma[at(c)] * (x.at(n, c, h, w) - r.mean[at(c)]) * r.invstd[at(c)] +
                   p.beta[at(c)];
        if (residual != nullptr) z += residual->at(n, c, h, w);
        r.y.at(n, c, h, w) = activated(op.activation, z);
    });
    return r;
}

BatchNormGrad batch_norm_act_grad(const Tensor& x, const BatchNormParameters& p,
                                  const BatchNorm& forward, const Tensor& dy,
                                  const graph::BatchNormAct& op) {
    const auto count = static_cast<double>(x.shape.n * x.shape.h * x.shape.w);
    BatchNormGrad g;
    g.dz = Tensor(x.shape);
    g.dx = Tensor(x.shape);
    g.dgamma.assign(at(x.shape.c), 0);
    g.dbeta.assign(at(x.shape.c), 0);
    const auto xhat = [&](auto n, auto c, auto h, auto w) {
        return (x.at(n, c, h, w) - forward.mean[at(c)]) * forward.invstd[at(c)];
    };
    for_each(x.shape, [&](auto n, auto c, auto h, auto w) {
        const double dz = passes(op.activation, forward.y.at(n, c, h, w)) ? dy.at(n, c, h, w) : 0.0;
        g.dz.at(n, c, h, w) = dz;
        g.dbeta[at(c)] += dz;
        g.dgamma[at(c)] += dz * xhat(n, c, h, w);
    });
    for_each(x.shape, [&](auto n, auto c, auto h, auto w) {
        double d = g.dz.at(n, c, h, w);
        if (!op.frozen) d -= g.dbeta[at(c)] / count + xhat(n, c, h, w) * g.dgamma[at(c)] / count;
        g.dx.at(n, c, h, w) = p.gamma[at(c)] * forward.invstd[at(c)] * d;
    });
    return g;
}

MaxPool max_pool(const Tensor& x, const graph::MaxPool& op) {
    MaxPool m;
    m.y = Tensor({x.shape.n, x.shape.c, output_size(x.shape.h, op.kernel, op.stride, op.pad),
                  output_size(x.shape.w, op.kernel, op.stride, op.pad)});
    m.arg = Tensor(m.y.shape);
    for_each(m.y.shape, [&](auto n, auto c, auto p, auto q) {
        double best = -std::numeric_limits<double>::infinity();
        for (std::int64_t r = 0; r < op.kernel; ++r) {
            for (std::int64_t s = 0; s < op.kernel; ++s) {
                const std::int64_t h = p * op.stride - op.pad + r, w = q * op.stride - op.pad + s;
                if (h < 0 || h >= x.shape.h || w < 0 || w >= x.shape.w ||
                    !(x.at(n, c, h, w) > best))
                    continue;
                best = x.at(n, c, h, w);
                m.arg.at(n, c, p, q) = static_cast<double>(r * op.kernel + s);
            }
        }
        m.y.at(n, c, p, q) = best;
    });
    return m;
}

Tensor max_pool_grad(const Tensor& dy, const Tensor& arg, const Shape& x,
                     const graph::MaxPool& op) {
    Tensor dx(x);
    for_each(dy.shape, [&](auto n, auto c, auto p, auto q) {
        const auto tap = static_cast<std::int64_t>(arg.at(n, c, p, q));
        dx.at(n, c, p * op.stride - op.pad + tap / op.kernel,
              q * op.stride - op.pad + tap % op.kernel) += dy.at(n, c, p, q);
    });
    return dx;
}

Tensor global_average_pool(const Tensor& x) {
    Tensor y({x.shape.n, x.shape.c, 1, 1});
    const auto count = static_cast<double>(x.shape.h * x.shape.w);
    for_each(x.shape,
             [&](auto n, auto c, auto h, auto w) { y.at(n, c, 0, 0) += x.at(n, c, h, w) / count; });
    return y;
}

Tensor global_average_pool_grad(const Tensor& dy, const Shape& x) {
    Tensor dx(x);
    const auto count = static_cast<double>(x.h * x.w);
    for_each(
        x, [&](auto n, auto c, auto h, auto w) { dx.at(n, c, h, w) = dy.at(n, c, 0, 0) / count; });
    return dx;
}

namespace {

// f(source row, source column, weight) for the four values an output pixel is made of.
template <class F>
void for_each_corner(std::int64_t p, std::int64_t q, const Shape& in, const Shape& out,
                     bool align_corners, const F& f) {
    const math::Tap v = math::bilinear_tap(p, in.h, out.h, align_corners),
                    h = math::bilinear_tap(q, in.w, out.w, align_corners);
    const double tv = static_cast<double>(v.t), th = static_cast<double>(h.t);
    f(v.i0, h.i0, (1 - tv) * (1 - th));
    f(v.i0, h.i1, (1 - tv) * th);
    f(v.i1, h.i0, tv * (1 - th));
    f(v.i1, h.i1, tv * th);
}

}  // namespace

Tensor upsample(const Tensor& x, std::int64_t height, std::int64_t width, bool align_corners) {
    Tensor y({x.shape.n, x.shape.c, height, width});
    for_each(y.shape, [&](auto n, auto c, auto p, auto q) {
        for_each_corner(p, q, x.shape, y.shape, align_corners, [&](auto h, auto w, double weight) {
            y.at(n, c, p, q) += weight * x.at(n, c, h, w);
        });
    });
    return y;
}

Tensor upsample_grad(const Tensor& dy, const Shape& x, bool align_corners) {
    Tensor dx(x);
    for_each(dy.shape, [&](auto n, auto c, auto p, auto q) {
        for_each_corner(p, q, x, dy.shape, align_corners, [&](auto h, auto w, double weight) {
            dx.at(n, c, h, w) += weight * dy.at(n, c, p, q);
        });
    });
    return dx;
}

Tensor dropout(const Tensor& x, float probability, std::uint32_t layer, std::uint64_t seed,
               const std::vector<math::SampleKey>& samples) {
    Tensor y(x.shape);
    for_each(x.shape, [&](auto n, auto c, auto h, auto w) {
        const auto index = static_cast<std::uint32_t>((c * x.shape.h + h) * x.shape.w + w);
        if (math::dropout_keeps(seed, samples[at(n)], layer, index, probability)) {
            y.at(n, c, h, w) = x.at(n, c, h, w) / (1.0 - static_cast<double>(probability));
        }
    });
    return y;
}

Loss segmentation_loss(const Tensor& logits, const std::vector<std::uint8_t>& labels,
                       std::int64_t height, std::int64_t width, const graph::SegmentationLoss& op) {
    const Tensor z = upsample(logits, height, width, op.align_corners);
    const double scale = static_cast<double>(op.gradient_scale);
    Tensor dz(z.shape);
    Loss result;
    for_each({z.shape.n, 1, height, width}, [&](auto n, auto, auto h, auto w) {
        const std::int64_t label = labels[at((n * height + h) * width + w)];
        if (label == op.ignore) return;
        double sum = 0;
        for (std::int64_t k = 0; k < z.shape.c; ++k) sum += std::exp(z.at(n, k, h, w));
        result.loss += std::log(sum) - z.at(n, label, h, w);
        for (std::int64_t k = 0; k < z.shape.c; ++k) {
            dz.at(n, k, h, w) = scale *
                                (std::exp(z.at(n, k, h, w)) / sum - (k == label ? 1.0 : 0.0));
        }
    });
    result.dlogits = upsample_grad(dz, logits.shape, op.align_corners);
    return result;
}

void sgd(std::vector<double>& w, std::vector<double>& buffer, const std::vector<double>& g,
         double lr, double mu, double wd, int steps, bool accumulate_decay) {
    for (std::size_t i = 0; i < w.size(); ++i) {
        double decay = 0;
        for (int step = 0; step < steps; ++step) {
            decay = wd * w[i] + (accumulate_decay ? decay : 0.0);
            buffer[i] = mu * buffer[i] + g[i] + decay;
            w[i] -= lr * buffer[i];
        }
    }
}

}  // namespace deeplab::reference
