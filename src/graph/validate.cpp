// Every op's shape rule, stated as what must hold between a node's tensors.

#include <set>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/graph/builder.h"
#include "deeplab/graph/operands.h"

namespace deeplab::graph {
namespace {

class Check {
public:
    Check(const Plan& plan, const Node& node, std::size_t index)
        : plan_(plan), node_(node), index_(index) {}

    void operator()(const Conv2d& op) const {
        counts(2, 3, 1, 1);
        const auto t = operands(op, node_);
        convolution(op.geometry, op.input, t);
        require(tensor(t.w).space == Space::parameter, "weights are a parameter");
        if (t.bias != none)
            require(shape(t.bias) == Shape{1, shape(t.y).c, 1, 1}, "one bias a channel");
    }
    void operator()(const Conv2dGradData& op) const {
        const std::size_t inputs = op.input == Activation::none ? 2 : 3;
        counts(inputs, inputs, 1, 1);
        const auto t = operands(op, node_);
        convolution(op.geometry, op.input, t);
        if (t.masks == none) return;
        require(shape(t.masks) == shape(t.x) && tensor(t.masks).dtype == tensor(t.x).dtype &&
                    tensor(t.masks).parent == none,
                "what masks dx is x, a whole tensor of its shape and type");
    }
    void operator()(const Conv2dGradWeights& op) const {
        counts(2, 2, 1, 2);
        const auto t = operands(op, node_);
        convolution(op.geometry, op.input, t);
        gradient(t.w);
        if (t.bias != none) gradient(t.bias);
    }
    void operator()(const BatchNormSums& op) const {
        counts(1, 1, 1, 1);
        const auto t = operands(op, node_);
        require(tensor(t.sums).space == Space::exchange && tensor(t.sums).dtype == DType::f64,
                "sums are f64 in the exchange space");
        require(shape(t.sums) == Shape{1, 2 * shape(t.x).c + 1, 1, 1}, "sums are 2C+1 numbers");
    }
    void operator()(const ExchangeStart& op) const { exchange(op.message); }
    void operator()(const ExchangeFinish& op) const { exchange(op.message); }
    void operator()(const BatchNormAct& op) const {
        const std::size_t inputs = 5 + (op.frozen ? 0 : 1) + (op.residual ? 1 : 0);
        counts(inputs, inputs, 1, 2);
        const auto t = operands(op, node_);
        require(shape(t.y) == shape(t.x), "y has x's shape");
        for (const TensorId id : {t.gamma, t.beta, t.mean, t.variance}) channels(id, shape(t.x).c);
        if (!op.frozen)
            require(tensor(t.sums).space == Space::exchange, "the sixth input are the sums");
        if (op.residual) {
            require(shape(t.residual) == shape(t.x), "the residual has x's shape");
            require(op.activation != Activation::relu6,
                    "a residual's activation is none or relu, whose mask the stored y tells");
        }
        if (t.saved != none) channels(t.saved, 2 * shape(t.x).c);
    }
    void operator()(const BatchNormGradSums& op) const {
        const std::size_t inputs = 4 + (op.residual ? 1 : 0) +
                                   static_cast<std::size_t>(op.gradients),
                          outputs = op.residual ? 4 : 3;
        counts(inputs, inputs, outputs, outputs);
        const auto t = operands(op, node_);
        for (const TensorId dy : t.dy) require(shape(dy) == shape(t.x), "dy has x's shape");
        channels(t.saved, 2 * shape(t.x).c);
        channels(t.gsums, 2 * shape(t.x).c);
        channels(t.dgamma, shape(t.x).c);
        channels(t.dbeta, shape(t.x).c);
        if (op.residual) require(shape(t.dz) == shape(t.x), "dz has x's shape");
    }
    void operator()(const BatchNormActGrad& op) const {
        const std::size_t inputs = 5 + (op.frozen ? 0 : 1) + static_cast<std::size_t>(op.gradients);
        counts(inputs, inputs, 1, 1);
        const auto t = operands(op, node_);
        for (const TensorId dy : t.dy) require(shape(dy) == shape(t.x), "dy has x's shape");
        require(shape(t.dx) == shape(t.x), "dx has x's shape");
    }
    void operator()(const MaxPool& op) const {
        counts(1, 1, 1, 2);
        const auto t = operands(op, node_);
        pooling(op.kernel, op.stride, op.pad, shape(t.x), shape(t.y));
        if (t.arg != none)
            require(shape(t.arg) == shape(t.y) && tensor(t.arg).dtype == DType::u8,
                    "arg is u8 of y's shape");
    }
    void operator()(const MaxPoolGrad& op) const {
        counts(2, 2, 1, 1);
        const auto t = operands(op, node_);
        pooling(op.kernel, op.stride, op.pad, shape(t.dx), shape(t.dy));
    }
    void operator()(const GlobalAveragePool& op) const {
        counts(1, 1, 1, 1);
        const auto t = operands(op, node_);
        pooled(shape(t.x), shape(t.y));
    }
    void operator()(const GlobalAveragePoolGrad& op) const {
        counts(1, 1, 1, 1);
        const auto t = operands(op, node_);
        pooled(shape(t.dx), shape(t.dy));
    }
    void operator()(const Upsample& op) const {
        counts(1, 1, 1, 1);
        const auto t = operands(op, node_);
        same_channels(shape(t.x), shape(t.y));
    }
    void operator()(const UpsampleGrad& op) const {
        counts(1, 1, 1, 1);
        const auto t = operands(op, node_);
        same_channels(shape(t.dx), shape(t.dy));
    }
    void operator()(const Dropout& op) const {
        counts(1, 1, 1, 1);
        const auto t = operands(op, node_);
        require(shape(t.x) == shape(t.y), "the shape stays");
    }
    void operator()(const DropoutGrad& op) const {
        counts(1, 1, 1, 1);
        const auto t = operands(op, node_);
        require(shape(t.dx) == shape(t.dy), "the shape stays");
    }
    void operator()(const Sum& op) const {
        require(node_.in.size() >= 2 && node_.out.size() == 1, "two inputs or more, one output");
        const auto t = operands(op, node_);
        for (const TensorId x : t.x)
            require(shape(x) == shape(t.y), "inputs have the output's shape");
    }
    void operator()(const SegmentationLoss& op) const {
        counts(2, 2, 1, 2);
        const auto t = operands(op, node_);
        const Tensor& labels = tensor(t.labels);
        require(
            labels.dtype == DType::u8 && labels.shape.c == 1 && labels.shape.n == shape(t.logits).n,
            "labels are (N,1,H,W) u8");
        require(shape(t.logits).c <= 255 && op.ignore >= 0, "at most 255 classes");
        require(tensor(t.loss).dtype == DType::f64, "the loss is f64");
        if (t.dlogits != none)
            require(shape(t.dlogits) == shape(t.logits), "dlogits have the logits' shape");
    }
    void operator()(const AllReduce& op) const {
        require(op.bucket >= 0 && static_cast<std::size_t>(op.bucket) < plan_.buckets.size(),
                "the bucket exists");
        lists(all_reduce_node(plan_, op.bucket), "it sums the gradients of its bucket, in place");
    }
    void operator()(const Update&) const {
        lists(update_node(plan_), "it reads every gradient and parameter, and writes the latter");
    }

    void require(bool condition, const char* rule) const {
        if (!condition) throw LogicError(cat("node ", index_, " (", name(node_.op), "): ", rule));
    }

private:
    const Tensor& tensor(TensorId id) const { return plan_.tensor(id); }
    const Shape& shape(TensorId id) const { return plan_.tensor(id).shape; }

    void counts(std::size_t in_low, std::size_t in_high, std::size_t out_low,
                std::size_t out_high) const {
        require(node_.in.size() >= in_low && node_.in.size() <= in_high, "wrong number of inputs");
        require(node_.out.size() >= out_low && node_.out.size() <= out_high,
                "wrong number of outputs");
    }
    void lists(const Node& wanted, const char* rule) const {
        require(node_.in == wanted.in && node_.out == wanted.out, rule);
    }
    void channels(TensorId id, std::int64_t c) const {
        require(shape(id) == Shape{1, c, 1, 1}, "one value a channel");
    }
    void gradient(TensorId id) const {
        require(tensor(id).space == Space::gradient,
                "gradients of parameters lie in the gradient space");
    }
    static bool maps(std::int64_t size, std::int64_t kernel, const ConvGeometry& g,
                     std::int64_t result) {
        return (size + 2 * g.pad - g.dilation * (kernel - 1) - 1) / g.stride + 1 == result;
    }
    void convolution(const ConvGeometry& g, Activation input, const ConvolutionOperands& t) const {
        const Tensor &x = tensor(t.x), &w = tensor(t.w), &y = tensor(t.y);
        require(input == Activation::none || (is_depthwise(g, w.shape) && t.bias == none),
                "an activation of the input is a depthwise convolution's without bias");
        require(x.shape.n == y.shape.n && y.shape.c == w.shape.n &&
                    x.shape.c == w.shape.c * g.groups && w.shape.n % g.groups == 0,
                "x (N,C,H,W), w (K,C/groups,R,S), y (N,K,P,Q)");
        require(
            maps(x.shape.h, w.shape.h, g, y.shape.h) && maps(x.shape.w, w.shape.w, g, y.shape.w),
            "the output size follows from kernel, stride, pad and dilation");
        require(x.dtype == y.dtype, "a convolution's activations have one element type");
        require(x.parent == none && y.parent == none,
                "a convolution reads and writes whole tensors");
    }
    void exchange(std::int32_t message) const {
        require(node_.in == node_.out && !node_.in.empty(), "an exchange works in place");
        require(message >= 0 && message < plan_.messages, "the message exists");
        for (const TensorId id : node_.in) {
            require(tensor(id).space == Space::exchange,
                    "the communication queue never touches the arena");
        }
    }
    void pooling(std::int64_t kernel, std::int64_t stride, std::int64_t pad, const Shape& x,
                 const Shape& y) const {
        const ConvGeometry g{stride, pad, 1, 1};
        require(x.n == y.n && x.c == y.c && maps(x.h, kernel, g, y.h) && maps(x.w, kernel, g, y.w),
                "the output size follows from kernel, stride and pad");
        require(kernel * kernel <= 256, "an argument fits a byte");
    }
    void pooled(const Shape& x, const Shape& y) const {
        require(y == Shape{x.n, x.c, 1, 1}, "one value a channel and sample");
    }
    void same_channels(const Shape& x, const Shape& y) const {
        require(x.n == y.n && x.c == y.c, "N and C stay");
    }

    const Plan& plan_;
    const Node& node_;
    std::size_t index_;
};

}  // namespace

void validate(const Plan& plan) {
    std::set<TensorId> written;
    for (std::size_t i = 0; i < plan.nodes.size(); ++i) {
        const Node& node = plan.nodes[i];
        const Check check(plan, node, i);
        for (const auto* list : {&node.in, &node.out}) {
            for (const TensorId id : *list) {
                check.require(id >= 0 && static_cast<std::size_t>(id) < plan.tensors.size(),
                              "its tensors exist");
            }
        }
        for (const TensorId id : node.in) {
            const Space space = plan.tensor(id).space;
            const bool made_here = space == Space::arena || space == Space::exchange ||
                                   space == Space::gradient;
            check.require(!made_here || written.contains(plan.root(id)),
                          "its inputs were written before");
        }
        for (const TensorId id : node.out) written.insert(plan.root(id));
        std::visit(check, node.op);
    }
}

}  // namespace deeplab::graph
