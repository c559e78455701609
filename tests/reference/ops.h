#pragma once
// Every op of graph/plan.h as plain loops in double precision over N C H W: small enough to check
// by hand, fast enough for tests only.

#include <cstdint>
#include <vector>

#include "deeplab/base/types.h"
#include "deeplab/graph/plan.h"
#include "deeplab/math/philox.h"

namespace deeplab::reference {

struct Tensor {
    Shape shape;
    std::vector<double> data;

    Tensor() = default;
    explicit Tensor(const Shape& s) : shape(s), data(static_cast<std::size_t>(s.elements())) {}
    double& at(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) {
        return data[index(n, c, h, w)];
    }
    double at(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) const {
        return data[index(n, c, h, w)];
    }

private:
    std::size_t index(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) const {
        return static_cast<std::size_t>(((n * shape.c + c) * shape.h + h) * shape.w + w);
    }
};

// Values in [-1, 1) that floats hold exactly; a pure function of seed and index.
Tensor random_tensor(const Shape& shape, std::uint64_t seed);
// What a device with bf16 activations stores: every element rounded to nearest even.
Tensor bf16(const Tensor& x);
Tensor channels(const Tensor& x, std::int64_t first, std::int64_t count);
// x as the channels from `first` of y.
void put_channels(const Tensor& x, std::int64_t first, Tensor& y);
Tensor sum(const std::vector<Tensor>& all);

// Size of a convolution's or pooling's output along one axis.
std::int64_t output_size(std::int64_t in, std::int64_t kernel, std::int64_t stride,
                         std::int64_t pad, std::int64_t dilation = 1);

// bias: empty or one value a channel.
Tensor conv2d(const Tensor& x, const Tensor& w, const std::vector<double>& bias,
              const graph::ConvGeometry& g);
Tensor conv2d_grad_data(const Tensor& dy, const Tensor& w, const Shape& x,
                        const graph::ConvGeometry& g);
Tensor conv2d_grad_weights(const Tensor& x, const Tensor& dy, const Shape& w,
                           const graph::ConvGeometry& g);
std::vector<double> conv2d_grad_bias(const Tensor& dy);

// max(z, 0), and of ReLU6 at most 6; a gradient passes between the kinks, not at them.
double activated(graph::Activation activation, double z);
bool passes(graph::Activation activation, double z);

struct BatchNorm {
    Tensor y;
    std::vector<double> mean, invstd;  // as used
    std::vector<double> running_mean, running_variance;
};
struct BatchNormParameters {
    std::vector<double> gamma, beta, running_mean, running_variance;
};
// residual: null or x's shape.
BatchNorm batch_norm_act(const Tensor& x, const BatchNormParameters& p, const Tensor* residual,
                         const graph::BatchNormAct& op);
struct BatchNormGrad {
    Tensor dx, dz;
    std::vector<double> dgamma, dbeta;
};
BatchNormGrad batch_norm_act_grad(const Tensor& x, const BatchNormParameters& p,
                                  const BatchNorm& forward, const Tensor& dy,
                                  const graph::BatchNormAct& op);

struct MaxPool {
    Tensor y, arg;
};
MaxPool max_pool(const Tensor& x, const graph::MaxPool& op);
Tensor max_pool_grad(const Tensor& dy, const Tensor& arg, const Shape& x, const graph::MaxPool& op);
Tensor global_average_pool(const Tensor& x);
Tensor global_average_pool_grad(const Tensor& dy, const Shape& x);

Tensor upsample(const Tensor& x, std::int64_t height, std::int64_t width,
                bool align_corners = true);
Tensor upsample_grad(const Tensor& dy, const Shape& x, bool align_corners = true);

Tensor dropout(const Tensor& x, float probability, std::uint32_t layer, std::uint64_t seed,
               const std::vector<math::SampleKey>& samples);

struct Loss {
    double loss = 0;
    Tensor dlogits;
};
Loss segmentation_loss(const Tensor& logits, const std::vector<std::uint8_t>& labels,
                       std::int64_t height, std::int64_t width, const graph::SegmentationLoss& op);

// torch.optim.SGD on one parameter: d = g + wd * w; buffer = mu * buffer + d; w -= lr * buffer,
// `steps` times; accumulate_decay: each adds its wd * w to g for the next.
void sgd(std::vector<double>& w, std::vector<double>& buffer, const std::vector<double>& g,
         double lr, double mu, double wd, int steps, bool accumulate_decay = false);

}  // namespace deeplab::reference
