#pragma once
// The training step as data: tensors, a linear list of nodes, parameters, buckets. A plan knows no
// device; a backend compiles it once and runs it many times.

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "deeplab/base/types.h"
#include "deeplab/math/activation.h"

namespace deeplab::graph {

using math::Activation;
using TensorId = std::int32_t;
constexpr TensorId none = -1;

// Where a tensor lives. Only `arena` is subject to liveness; the communication queue never touches
// it.
enum class Space : std::uint8_t {
    arena,  // activations and their gradients: offsets by liveness
    // filled by the caller before a run: images (N,3,H,W) from f32, labels u8 (N,1,H,W)
    input,
    parameter,  // a parameter's slice of the flat parameter buffer
    gradient,   // its slice of the flat gradient buffer
    state,      // running mean and variance: f32 (1,C,1,1)
    exchange,   // batch-norm sums, f64 on the CPU, reduced over the batch-norm group
    result,     // small, read by the host after a run: loss sum f64 (1,1,1,1)
};

struct Tensor {
    std::string name;
    Shape shape;
    DType dtype = DType::f32;
    Space space = Space::arena;
    // Another arena tensor of which this is a channel slice (concatenation).
    TensorId parent = none;
    std::int64_t channel_offset = 0;  // first channel in the parent
    bool keep = false;                // stays valid until the next run, for download()
};

// --- Numbers ---
// Activations and their gradients are f32 or all bf16 (set_activation_type). Parameters, their
// gradients and momentum, and batch-norm statistics are f32 in any case. Every op reads its inputs
// as they are, computes in at least fp32, and rounds once, to nearest even, where it stores into a
// bf16 tensor:
// - A convolution of bf16 activations multiplies by a bf16 copy of its weights; products are exact,
//   sums and bias are fp32. Gradients of weights are stored as fp32.
// - Batch-norm sums are of the stored x. (A device that takes them in the convolution's epilogue,
//   before the rounding, gets means and variances that differ by about 2^-9 / sqrt(count) of the
//   deviation: far below the rounding of y itself.) Gradient sums are of dz before it is stored,
//   BatchNormActGrad reads the stored dz.
// - Several gradients that meet in one op are added in fp32 first.
// - The loss is fp32 and up, from the stored logits; dlogits are stored.

// --- Ops ---
// "in" and "out" list the node's inputs and outputs in order; graph/operands.h reads them by name.
// Gradient outputs of parameters obey Step::first_micro: written on the first micro-batch of a
// step, added to on the others.

struct ConvGeometry {
    std::int64_t stride = 1, pad = 0, dilation = 1, groups = 1;
    bool operator==(const ConvGeometry&) const = default;
};

// torch.nn.functional.conv2d. in: x (N,C,H,W), w (K,C/groups,R,S)[, bias (1,K,1,1)]; out: y
// (N,K,P,Q).
// `input`: conv2d(act(x)), of a depthwise convolution without bias. x stays as it is for others
// that read it: a sum that is both the skip and the input of the next unit, as in Xception.
struct Conv2d {
    ConvGeometry geometry;
    Activation input = Activation::none;
};
// in: dy (N,K,P,Q), w[, x with an activation of the input: dx is zero where it did not pass]; out:
// dx (N,C,H,W)
struct Conv2dGradData {
    ConvGeometry geometry;
    Activation input = Activation::none;
};
// in: x, dy; out: dw (gradient)[, dbias (gradient)]
struct Conv2dGradWeights {
    ConvGeometry geometry;
    Activation input = Activation::none;
};
// One filter a channel: w (C,1,R,S) of more than one channel.
inline bool is_depthwise(const ConvGeometry& g, const Shape& w) {
    return g.groups > 1 && w.c == 1 && w.n == g.groups;
}

// Local channel sums of x over N H W. in: x; out: sums (exchange, f64, (1,2C+1,1,1)): sum x [C],
// sum x^2 [C], count
struct BatchNormSums {};
// Sums `tensors` (node inputs = outputs) over the batch-norm group as one message. Finish has the
// same message number.
struct ExchangeStart {
    std::int32_t message = 0;
};
struct ExchangeFinish {
    std::int32_t message = 0;
};
// y = act(gamma * (x - mean) * invstd + beta [+ residual]).  torch.nn.BatchNorm2d (+ add) (+ ReLU).
// ReLU6 goes without residual: its mask cannot be told from a y that is stored as bf16.
// in: x, gamma, beta, running_mean, running_var[, sums unless frozen][, residual]
// out: y[, saved (arena, f32 (1,2C,1,1)): mean [C], invstd [C] as used; absent in a plan without
// gradients] Not frozen: mean and biased variance from sums; running_* (inputs) are updated with
// the unbiased variance. Frozen (evaluation, freeze_bn): the running statistics are used and left
// alone.
struct BatchNormAct {
    Activation activation = Activation::relu;
    bool residual = false, frozen = false;
    float eps = 1e-5f, momentum = 0.1f;
};
// With dz = sum of the incoming gradients, masked by the activation (recomputed from x; from y with
// a residual): sums dz and dz * xhat, local. They are the gradients of beta and gamma of this
// rank's samples. in: x, gamma, beta, saved[, y with residual], dy (one or more) out: gsums
// (exchange, f64 (1,2C,1,1)): sum dz [C], sum dz*xhat [C]; dgamma, dbeta (gradient)[, dz with
// residual: it is the residual's gradient]
struct BatchNormGradSums {
    Activation activation = Activation::relu;
    bool residual = false;
    std::int32_t gradients = 1; /* how many dy */
};
// dx = gamma * invstd * (dz - sum dz / n - xhat * sum dz*xhat / n); frozen: dx = gamma * invstd *
// dz. in: x, gamma, beta, saved, gsums (reduced), sums (its last element is n; absent when frozen),
// then dz with residual, else dy (one or more); out: dx
struct BatchNormActGrad {
    Activation activation = Activation::relu;
    bool residual = false, frozen = false;
    std::int32_t gradients = 1;
};

// torch.nn.MaxPool2d(kernel, stride, pad); first maximum in row order wins. in: x; out: y[, arg
// (arena, u8): r*kernel+s]
struct MaxPool {
    std::int64_t kernel = 3, stride = 2, pad = 1;
};
// in: dy, arg; out: dx (gather)
struct MaxPoolGrad {
    std::int64_t kernel = 3, stride = 2, pad = 1;
};
// torch.nn.AdaptiveAvgPool2d(1). in: x (N,C,H,W); out: y (N,C,1,1)
struct GlobalAveragePool {};
struct GlobalAveragePoolGrad {};  // in: dy (N,C,1,1); out: dx
// Bilinear (math/bilinear.h). in: x; out: y (may be a slice)
struct Upsample {
    bool align_corners = true;
};
struct UpsampleGrad {
    bool align_corners = true;
};  // in: dy; out: dx (gather)
// torch.nn.Dropout, element-wise; mask from math::dropout_keeps(seed, key of the sample, layer, C H
// W index).
struct Dropout {
    float probability = 0.5f;
    std::uint32_t layer = 0;
};  // in: x; out: y
struct DropoutGrad {
    float probability = 0.5f;
    std::uint32_t layer = 0;
};  // in: dy; out: dx
// y = x0 + x1 + ...: gradients that meet. in: two or more; out: y
struct Sum {};
// Upsample to the labels' size, softmax, cross-entropy summed over valid pixels, without full-size
// logits (torch.nn.functional.cross_entropy(interpolate(logits), ignore_index, reduction="sum")).
// in: logits (N,K,h,w), labels; out: loss (result f64)[, dlogits: gradient of that sum times
// `gradient_scale`]
struct SegmentationLoss {
    std::int32_t ignore = 255;
    float gradient_scale = 1.0f;
    bool align_corners = true;  // of the upsampling
};

// Sums one bucket of the flat gradients over all ranks; runs on the communication queue, on the
// last micro-batch only. in = out: the gradients that lie in the bucket.
struct AllReduce {
    std::int32_t bucket = 0;
};
// Waits for every AllReduce, then SGD over the flat buffers (math/sgd.h), on the last micro-batch
// only. The gradient is divided by gradient_scale and by the valid pixels of the global batch
// first; not applied when it is not finite. in: gradient and value of every parameter in turn; out:
// their values.
struct Update {};

using Op = std::variant<Conv2d, Conv2dGradData, Conv2dGradWeights, BatchNormSums, ExchangeStart,
                        ExchangeFinish, BatchNormAct, BatchNormGradSums, BatchNormActGrad, MaxPool,
                        MaxPoolGrad, GlobalAveragePool, GlobalAveragePoolGrad, Upsample,
                        UpsampleGrad, Dropout, DropoutGrad, Sum, SegmentationLoss, AllReduce,
                        Update>;

const char* name(const Op& op);

struct Node {
    Op op;
    std::vector<TensorId> in, out;
};

// --- Parameters ---

enum class ParameterKind : std::uint8_t { conv_weight, bias, bn_gamma, bn_beta };

struct Parameter {
    std::string name;  // PyTorch's: backbone.layer1.0.conv1.weight
    Shape shape;       // conv weights (K, C/groups, R, S); vectors (1, C, 1, 1)
    ParameterKind kind = ParameterKind::conv_weight;
    std::int64_t offset = 0;  // in elements, in the flat buffers: reverse order of creation
    TensorId value = none, gradient = none;
};

// Running statistics.
struct State {
    std::string name;  // backbone.bn1.running_mean
    Shape shape;       // (1, C, 1, 1)
    std::int64_t offset = 0;
    float initial = 0.0f;  // mean 0, variance 1
    TensorId value = none;
};

struct Bucket {
    std::int64_t offset = 0, count = 0;  // elements of the flat gradient buffer
};

// A contiguous run of parameters that the optimizer treats alike.
struct UpdateSegment {
    std::int64_t offset = 0, count = 0;
    float lr_multiplier = 1.0f, weight_decay = 0.0f;
    std::int32_t steps = 1;  // SGD steps per iteration on the same gradient
};

struct UpdateRule {
    float momentum = 0.9f;
    float clip_norm = 0.0f;  // 0: off; on the norm of the whole averaged gradient
    std::vector<UpdateSegment> segments;
    bool accumulate_decay = false;  // over the steps of an iteration (math/sgd.h)
};

struct Plan {
    std::vector<Tensor> tensors;
    std::vector<Node> nodes;
    std::vector<Parameter> parameters;  // in order of creation
    std::vector<State> states;          // in order of creation
    std::int64_t parameter_count = 0, state_count = 0;
    std::vector<Bucket> buckets;
    UpdateRule update;
    std::int32_t messages = 0;  // batch-norm exchanges
    TensorId images = none, labels = none, logits = none, loss = none;

    const Tensor& tensor(TensorId id) const { return tensors[static_cast<std::size_t>(id)]; }
    TensorId root(TensorId id) const;  // the tensor that owns the memory of a slice
};

// FNV-1a over everything that makes two plans differ: all ranks must have the same.
std::uint64_t hash(const Plan& plan);
// The same over parameters and states alone: a checkpoint or an evaluation plan must match it.
std::uint64_t parameter_hash(const Plan& plan);

// Convolution work of one run, 2 * MACs; of a node: 0 where it is none.
double convolution_flops(const Plan& plan);
double convolution_flops(const Plan& plan, const Node& node);

std::string to_string(const Plan& plan);  // one line a node, for --dry-run

}  // namespace deeplab::graph
