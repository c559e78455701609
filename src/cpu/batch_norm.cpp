#include "batch_norm.h"

#include <algorithm>

#include "deeplab/base/error.h"
#include "deeplab/math/activation.h"
#include "deeplab/math/batch_norm.h"
#include "gradient_rows.h"
#include "scratch.h"
#include "vector.h"

namespace deeplab::cpu {
namespace {

using math::Activation;
using math::Affine;

// What a loop over channels needs, one array a quantity.
struct ChannelAffine {
    float *scale, *shift;

    ChannelAffine(Scratch& scratch, std::int64_t channels)
        : scale(scratch.take<float>(channels)), shift(scratch.take<float>(channels)) {}

    void set(std::int64_t c, Affine a) { scale[c] = a.scale, shift[c] = a.shift; }
    Affine operator[](std::int64_t c) const { return {scale[c], shift[c]}; }
};

ChannelAffine affine_of_saved(Scratch& scratch, const BatchNormGradTensors& t) {
    const std::int64_t channels = t.x.shape.c;
    ChannelAffine affine(scratch, channels);
    const float *mean = t.saved.f32(), *invstd = mean + channels;
    for (std::int64_t c = 0; c < channels; ++c) {
        affine.set(c,
                   math::batch_norm_affine(t.gamma.f32()[c], t.beta.f32()[c], mean[c], invstd[c]));
    }
    return affine;
}

// Two fp64 sums a channel and thread.
struct PartialSums {
    std::int64_t channels;
    double* all;
    int threads;

    PartialSums(Scratch& scratch, std::int64_t c, int t)
        : channels(c), all(scratch.take<double>(2 * c * t)), threads(t) {}

    double* of(int thread) const {
        double* own = all + 2 * channels * thread;
        std::fill(own, own + 2 * channels, 0.0);
        return own;
    }
    void total(double* sums) const {
        for (std::int64_t i = 0; i < 2 * channels; ++i) {
            double sum = 0;
            for (int t = 0; t < threads; ++t) sum += all[2 * channels * t + i];
            sums[i] = sum;
        }
    }
};

constexpr std::int64_t together = 4;  // pixels for one load and store of the sums

// Floats of a thread: the sum of a pixel's gradients, and dz of `together`.
std::int64_t row_buffer(std::int64_t channels) { return (1 + together) * channels; }

template <Activation A, bool Residual>
void normalise(const Threads& threads, const BatchNormTensors& t, const ChannelAffine& affine) {
    const std::int64_t channels = t.x.shape.c;
    const float* residual = Residual ? t.residual.f32() : nullptr;
    const float *x = t.x.f32(), *scale = affine.scale, *shift = affine.shift;
    float* y = t.y.f32();
    threads.split(t.x.pixels(), [&](int, std::int64_t first, std::int64_t last) {
        for (std::int64_t p = first; p < last; ++p) {
            const float* from = x + p * t.x.pitch;
            const float* added = Residual ? residual + p * t.residual.pitch : nullptr;
            float* to = y + p * t.y.pitch;
#pragma omp simd
            for (std::int64_t c = 0; c < channels; ++c) {
                float z = math::batch_norm(from[c], {scale[c], shift[c]});
                if (Residual) z += added[c];
                to[c] = math::activated(A, z);
            }
        }
    });
}

// dz of one pixel into `dz`: the gradients' sum where the activation passed. `y`: the output, with
// residual.
template <Activation A, bool Residual>
void masked(std::int64_t channels, const float* dy, const float* x, const float* y,
            const ChannelAffine& affine, float* dz) {
    const float *scale = affine.scale, *shift = affine.shift;
#pragma omp simd
    for (std::int64_t c = 0; c < channels; ++c) {
        const bool passes = math::passes(
            A, Residual ? y[c] : math::batch_norm(x[c], {scale[c], shift[c]}));
        dz[c] = passes ? dy[c] : 0.0f;
    }
}

template <Activation A, bool Residual>
void sum_gradients(const Threads& threads, const BatchNormGradTensors& t,
                   const ChannelAffine& affine, const PartialSums& partial, float* row_buffers) {
    const std::int64_t channels = t.x.shape.c;
    const GradientRows gradients(t.dy);
    const float *x = t.x.f32(), *y = Residual ? t.y.f32() : nullptr, *mean = t.saved.f32();
    float* dz = Residual ? t.dz.f32() : nullptr;
    threads.split(t.x.pixels(), [&](int thread, std::int64_t first, std::int64_t last) {
        double *sum = partial.of(thread), *sum_x = sum + channels;
        float *buffer = row_buffers + row_buffer(channels) * thread, *own_dz = buffer + channels;
        const auto dz_of = [&](std::int64_t p, std::int64_t place) {
            const float *in = x + p * t.x.pitch, *out = Residual ? y + p * t.y.pitch : nullptr;
            float* row = Residual ? dz + p * t.dz.pitch : own_dz + place * channels;
            gradients.prefetch(p);
            prefetch_after(in, channels);
            if (Residual) prefetch_after(out, channels);
            masked<A, Residual>(channels, gradients.row(p, buffer), in, out, affine, row);
            return row;
        };
        std::int64_t p = first;
        for (; p + together <= last; p += together) {
            const float *d0 = dz_of(p, 0), *d1 = dz_of(p + 1, 1), *d2 = dz_of(p + 2, 2),
                        *d3 = dz_of(p + 3, 3);
            const float *x0 = x + p * t.x.pitch, *x1 = x0 + t.x.pitch, *x2 = x1 + t.x.pitch,
                        *x3 = x2 + t.x.pitch;
#pragma omp simd
            for (std::int64_t c = 0; c < channels; ++c) {
                const double v0 = static_cast<double>(d0[c]), v1 = static_cast<double>(d1[c]);
                const double v2 = static_cast<double>(d2[c]), v3 = static_cast<double>(d3[c]);
                sum[c] += (v0 + v1) + (v2 + v3);
                sum_x[c] += (v0 * static_cast<double>(x0[c] - mean[c]) +
                             v1 * static_cast<double>(x1[c] - mean[c])) +
                            (v2 * static_cast<double>(x2[c] - mean[c]) +
                             v3 * static_cast<double>(x3[c] - mean[c]));
            }
        }
        for (; p < last; ++p) {
            const float *row = dz_of(p, 0), *from = x + p * t.x.pitch;
#pragma omp simd
            for (std::int64_t c = 0; c < channels; ++c) {
                const double d = static_cast<double>(row[c]);
                sum[c] += d;
                sum_x[c] += d * static_cast<double>(from[c] - mean[c]);
            }
        }
    });
}

struct ChannelGradient {
    float *dz_factor, *x_factor, *constant;
};

template <Activation Mask, bool Frozen>
void input_gradient(const Threads& threads, const BatchNormGradTensors& t,
                    const ChannelAffine& affine, const ChannelGradient& g, float* row_buffers) {
    const std::int64_t channels = t.x.shape.c;
    const GradientRows gradients(t.dy);
    const float *x = t.x.f32(), *mean = t.saved.f32();
    float* dx = t.dx.f32();
    threads.split(t.x.pixels(), [&](int thread, std::int64_t first, std::int64_t last) {
        float* buffer = row_buffers + row_buffer(channels) * thread;
        for (std::int64_t p = first; p < last; ++p) {
            const float *from = x + p * t.x.pitch, *dy = gradients.row(p, buffer);
            const float *scale = affine.scale, *shift = affine.shift;
            float* to = dx + p * t.dx.pitch;
#pragma omp simd
            for (std::int64_t c = 0; c < channels; ++c) {
                const bool passes = math::passes(Mask,
                                                 math::batch_norm(from[c], {scale[c], shift[c]}));
                const float dz = passes ? dy[c] : 0.0f;
                to[c] = Frozen
                            ? dz * g.dz_factor[c]
                            : math::batch_norm_dx(dz, from[c], mean[c],
                                                  {g.dz_factor[c], g.x_factor[c], g.constant[c]});
            }
        }
    });
}

// f(activation, flag) with both as compile-time constants.
template <class F>
void dispatch(Activation activation, bool flag, const F& f) {
    const auto with_flag = [&](auto a) { flag ? f(a, std::true_type{}) : f(a, std::false_type{}); };
    switch (activation) {
        case Activation::none:
            return with_flag(std::integral_constant<Activation, Activation::none>{});
        case Activation::relu:
            return with_flag(std::integral_constant<Activation, Activation::relu>{});
        case Activation::relu6:
            return with_flag(std::integral_constant<Activation, Activation::relu6>{});
    }
}

}  // namespace

std::int64_t batch_norm_scratch_bytes(const Threads& threads, std::int64_t channels) {
    return 5 * Scratch::bytes_of<float>(channels) +
           Scratch::bytes_of<double>(2 * channels * threads.count()) +
           Scratch::bytes_of<float>(row_buffer(channels) * threads.count());
}

void batch_norm_sums(const Threads& threads, const View& x, const View& sums,
                     const Buffer& buffer) {
    const std::int64_t channels = x.shape.c;
    Scratch scratch(buffer);
    const PartialSums partial(scratch, channels, threads.count());
    const float* data = x.f32();
    threads.split(x.pixels(), [&](int thread, std::int64_t first, std::int64_t last) {
        double *sum = partial.of(thread), *squares = sum + channels;
        std::int64_t p = first;
        for (; p + together <= last; p += together) {
            const float *a = data + p * x.pitch, *b = a + x.pitch, *c2 = b + x.pitch,
                        *d = c2 + x.pitch;
#pragma omp simd
            for (std::int64_t c = 0; c < channels; ++c) {
                const double v0 = static_cast<double>(a[c]), v1 = static_cast<double>(b[c]);
                const double v2 = static_cast<double>(c2[c]), v3 = static_cast<double>(d[c]);
                sum[c] += (v0 + v1) + (v2 + v3);
                squares[c] += (v0 * v0 + v1 * v1) + (v2 * v2 + v3 * v3);
            }
        }
        for (; p < last; ++p) {
            const float* row = data + p * x.pitch;
#pragma omp simd
            for (std::int64_t c = 0; c < channels; ++c) {
                const double v = static_cast<double>(row[c]);
                sum[c] += v;
                squares[c] += v * v;
            }
        }
    });
    partial.total(sums.f64());
    sums.f64()[2 * channels] = static_cast<double>(x.pixels());
}

void batch_norm_act(const Threads& threads, const graph::BatchNormAct& op,
                    const BatchNormTensors& t, const Buffer& buffer) {
    const std::int64_t channels = t.x.shape.c;
    Scratch scratch(buffer);
    ChannelAffine affine(scratch, channels);
    float *running_mean = t.mean.f32(), *running_variance = t.variance.f32();
    float* saved = t.saved.buffer != nullptr ? t.saved.f32() : nullptr;
    const double* sums = op.frozen ? nullptr : t.sums.f64();
    for (std::int64_t c = 0; c < channels; ++c) {
        float mean = running_mean[c], invstd;
        if (op.frozen) {
            invstd = math::inverse_deviation(static_cast<double>(running_variance[c]), op.eps);
        } else {
            const double count = sums[2 * channels];
            const math::Moments m = math::moments(sums[c], sums[channels + c], count);
            mean = static_cast<float>(m.mean);
            invstd = math::inverse_deviation(m.variance, op.eps);
            running_mean[c] = math::running(running_mean[c], m.mean, op.momentum);
            running_variance[c] = math::running(running_variance[c],
                                                math::unbiased(m.variance, count), op.momentum);
        }
        affine.set(c, math::batch_norm_affine(t.gamma.f32()[c], t.beta.f32()[c], mean, invstd));
        if (saved != nullptr) saved[c] = mean, saved[channels + c] = invstd;
    }
    dispatch(op.activation, op.residual, [&](auto activation, auto residual) {
        normalise<activation.value, residual.value>(threads, t, affine);
    });
}

void batch_norm_grad_sums(const Threads& threads, const graph::BatchNormGradSums& op,
                          const BatchNormGradTensors& t, bool add, const Buffer& buffer) {
    const std::int64_t channels = t.x.shape.c;
    Scratch scratch(buffer);
    const ChannelAffine affine = affine_of_saved(scratch, t);
    const PartialSums partial(scratch, channels, threads.count());
    float* row_buffers = scratch.take<float>(row_buffer(channels) * threads.count());
    dispatch(op.activation, op.residual, [&](auto activation, auto residual) {
        sum_gradients<activation.value, residual.value>(threads, t, affine, partial, row_buffers);
    });
    double* gsums = t.gsums.f64();
    partial.total(gsums);
    const float* invstd = t.saved.f32() + channels;
    float *dgamma = t.dgamma.f32(), *dbeta = t.dbeta.f32();
    for (std::int64_t c = 0; c < channels; ++c) {
        gsums[channels + c] *= static_cast<double>(invstd[c]);
        dgamma[c] = (add ? dgamma[c] : 0.0f) + static_cast<float>(gsums[channels + c]);
        dbeta[c] = (add ? dbeta[c] : 0.0f) + static_cast<float>(gsums[c]);
    }
}

void batch_norm_act_grad(const Threads& threads, const graph::BatchNormActGrad& op,
                         const BatchNormGradTensors& t, const Buffer& buffer) {
    const std::int64_t channels = t.x.shape.c;
    Scratch scratch(buffer);
    const ChannelAffine affine = affine_of_saved(scratch, t);
    const ChannelGradient g{scratch.take<float>(channels), scratch.take<float>(channels),
                            scratch.take<float>(channels)};
    float* row_buffers = scratch.take<float>(row_buffer(channels) * threads.count());
    const float *gamma = t.gamma.f32(), *invstd = t.saved.f32() + channels;
    const double *gsums = t.gsums.f64(), count = op.frozen ? 1.0 : t.sums.f64()[t.sums.shape.c - 1];
    for (std::int64_t c = 0; c < channels; ++c) {
        const math::InputGradient i = math::batch_norm_input_gradient(gamma[c], invstd[c], gsums[c],
                                                                      gsums[channels + c], count);
        g.dz_factor[c] = i.dz_factor, g.x_factor[c] = i.x_factor, g.constant[c] = i.constant;
    }
    // With residual, dy is dz already.
    dispatch(op.residual ? Activation::none : op.activation, op.frozen,
             [&](auto mask, auto frozen) {
                 input_gradient<mask.value, frozen.value>(threads, t, affine, g, row_buffers);
             });
}

}  // namespace deeplab::cpu
