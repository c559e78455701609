// Every op's shape rule, stated as what must hold between a node's tensors.

#include <set>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/graph/builder.h"

namespace deeplab::graph {
namespace {

class Check {
public:
    Check(const Plan& plan, const Node& node, std::size_t index)
        : plan_(plan), node_(node), index_(index) {}

    void operator()(const Conv2d& op) const {
        counts(2, 3, 1, 1);
        convolution(op.geometry, in(0), in(1), out(0));
        require(in(1).space == Space::parameter, "weights are a parameter");
        if (node_.in.size() == 3)
            require(in(2).shape == Shape{1, out(0).shape.c, 1, 1}, "one bias a channel");
    }
    void operator()(const Conv2dGradData& op) const {
        counts(2, 2, 1, 1);
        convolution(op.geometry, out(0), in(1), in(0));
    }
    void operator()(const Conv2dGradWeights& op) const {
        counts(2, 2, 1, 2);
        convolution(op.geometry, in(0), out(0), in(1));
        gradient_outputs(0);
    }
    void operator()(const BatchNormSums&) const {
        counts(1, 1, 1, 1);
        require(out(0).space == Space::exchange && out(0).dtype == DType::f64,
                "sums are f64 in the exchange space");
        require(out(0).shape == Shape{1, 2 * in(0).shape.c + 1, 1, 1}, "sums are 2C+1 numbers");
    }
    void operator()(const ExchangeStart& op) const { exchange(op.message); }
    void operator()(const ExchangeFinish& op) const { exchange(op.message); }
    void operator()(const BatchNormAct& op) const {
        const std::size_t inputs = 5 + (op.frozen ? 0 : 1) + (op.residual ? 1 : 0);
        counts(inputs, inputs, 1, 2);
        require(out(0).shape == in(0).shape, "y has x's shape");
        for (std::size_t i = 1; i < 5; ++i) channels(in(i), in(0).shape.c);
        if (!op.frozen) require(in(5).space == Space::exchange, "the sixth input are the sums");
        if (op.residual) require(in(inputs - 1).shape == in(0).shape, "the residual has x's shape");
        if (node_.out.size() == 2) channels(out(1), 2 * in(0).shape.c);
    }
    void operator()(const BatchNormGradSums& op) const {
        const std::size_t first_dy = 4 + (op.residual ? 1 : 0);
        const std::size_t inputs = first_dy + static_cast<std::size_t>(op.gradients),
                          outputs = op.residual ? 4 : 3;
        counts(inputs, inputs, outputs, outputs);
        for (std::size_t i = first_dy; i < inputs; ++i)
            require(in(i).shape == in(0).shape, "dy has x's shape");
        channels(in(3), 2 * in(0).shape.c);
        channels(out(0), 2 * in(0).shape.c);
        channels(out(1), in(0).shape.c);
        channels(out(2), in(0).shape.c);
        if (op.residual) require(out(3).shape == in(0).shape, "dz has x's shape");
    }
    void operator()(const BatchNormActGrad& op) const {
        const std::size_t first_dy = 5 + (op.frozen ? 0 : 1);
        const std::size_t inputs = first_dy + static_cast<std::size_t>(op.gradients);
        counts(inputs, inputs, 1, 1);
        for (std::size_t i = first_dy; i < inputs; ++i)
            require(in(i).shape == in(0).shape, "dy has x's shape");
        require(out(0).shape == in(0).shape, "dx has x's shape");
    }
    void operator()(const MaxPool& op) const {
        counts(1, 1, 1, 2);
        pooling(op.kernel, op.stride, op.pad, in(0).shape, out(0).shape);
        if (node_.out.size() == 2)
            require(out(1).shape == out(0).shape && out(1).dtype == DType::u8,
                    "arg is u8 of y's shape");
    }
    void operator()(const MaxPoolGrad& op) const {
        counts(2, 2, 1, 1);
        pooling(op.kernel, op.stride, op.pad, out(0).shape, in(0).shape);
    }
    void operator()(const GlobalAveragePool&) const { pooled(in(0).shape, out(0).shape); }
    void operator()(const GlobalAveragePoolGrad&) const { pooled(out(0).shape, in(0).shape); }
    void operator()(const Upsample&) const { same_channels(); }
    void operator()(const UpsampleGrad&) const { same_channels(); }
    void operator()(const Dropout&) const { same_shape(); }
    void operator()(const DropoutGrad&) const { same_shape(); }
    void operator()(const Sum&) const {
        require(node_.in.size() >= 2 && node_.out.size() == 1, "two inputs or more, one output");
        for (std::size_t i = 0; i < node_.in.size(); ++i)
            require(in(i).shape == out(0).shape, "inputs have the output's shape");
    }
    void operator()(const SegmentationLoss& op) const {
        counts(2, 2, 1, 2);
        require(in(1).dtype == DType::u8 && in(1).shape.c == 1 && in(1).shape.n == in(0).shape.n,
                "labels are (N,1,H,W) u8");
        require(in(0).shape.c <= 255 && op.ignore >= 0, "at most 255 classes");
        require(out(0).dtype == DType::f64, "the loss is f64");
        if (node_.out.size() == 2)
            require(out(1).shape == in(0).shape, "dlogits have the logits' shape");
    }
    void operator()(const AllReduce& op) const {
        require(op.bucket >= 0 && static_cast<std::size_t>(op.bucket) < plan_.buckets.size(),
                "the bucket exists");
    }
    void operator()(const Update&) const { counts(0, 0, 0, 0); }

    void require(bool condition, const char* rule) const {
        if (!condition) throw LogicError(cat("node ", index_, " (", name(node_.op), "): ", rule));
    }

private:
    const Tensor& in(std::size_t i) const { return plan_.tensor(node_.in[i]); }
    const Tensor& out(std::size_t i) const { return plan_.tensor(node_.out[i]); }

    void counts(std::size_t in_low, std::size_t in_high, std::size_t out_low,
                std::size_t out_high) const {
        require(node_.in.size() >= in_low && node_.in.size() <= in_high, "wrong number of inputs");
        require(node_.out.size() >= out_low && node_.out.size() <= out_high,
                "wrong number of outputs");
    }
    void channels(const Tensor& t, std::int64_t c) const {
        require(t.shape == Shape{1, c, 1, 1}, "one value a channel");
    }
    static bool maps(std::int64_t size, std::int64_t kernel, const ConvGeometry& g,
                     std::int64_t result) {
        return (size + 2 * g.pad - g.dilation * (kernel - 1) - 1) / g.stride + 1 == result;
    }
    void convolution(const ConvGeometry& g, const Tensor& x, const Tensor& w,
                     const Tensor& y) const {
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
    void gradient_outputs(std::size_t from) const {
        for (std::size_t i = from; i < node_.out.size(); ++i) {
            require(out(i).space == Space::gradient,
                    "gradients of parameters lie in the gradient space");
        }
    }
    void exchange(std::int32_t message) const {
        require(node_.in == node_.out && !node_.in.empty(), "an exchange works in place");
        require(message >= 0 && message < plan_.messages, "the message exists");
        for (std::size_t i = 0; i < node_.in.size(); ++i) {
            require(in(i).space == Space::exchange,
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
        counts(1, 1, 1, 1);
        require(y == Shape{x.n, x.c, 1, 1}, "one value a channel and sample");
    }
    void same_channels() const {
        counts(1, 1, 1, 1);
        require(in(0).shape.n == out(0).shape.n && in(0).shape.c == out(0).shape.c, "N and C stay");
    }
    void same_shape() const {
        counts(1, 1, 1, 1);
        require(in(0).shape == out(0).shape, "the shape stays");
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
            const bool made_here = space == Space::arena || space == Space::exchange;
            check.require(!made_here || written.contains(plan.root(id)),
                          "its inputs were written before");
        }
        for (const TensorId id : node.out) written.insert(plan.root(id));
        std::visit(check, node.op);
    }
}

}  // namespace deeplab::graph
