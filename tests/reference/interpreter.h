#pragma once
// A plan's nodes one after another by the plain loops of ops.h, rounded where "Numbers" in
// graph/plan.h says: what a backend makes of a plan is held to this.

#include <cstdint>
#include <vector>

#include "deeplab/exec/backend.h"
#include "deeplab/graph/plan.h"
#include "reference/ops.h"

namespace deeplab::reference {

// What the GPU's plans of bf16 activations round beside what "Numbers" says: cuDNN gives gradients
// of weights in the activations' type (a depthwise convolution has kernels of its own, which give
// them as fp32); with a residual, gradient sums are of dz as it is stored.
struct Roundings {
    bool weight_gradients = false, dz_before_sums = false;
};

class Interpreter {
public:
    Interpreter(const graph::Plan& plan, std::uint64_t seed, Roundings roundings = {});

    // An input, or a parameter's or state's value.
    void give(graph::TensorId id, const Tensor& value);
    // Of the step, images and labels are not looked at.
    void run(const exec::MicroBatch& step) { run(step, plan_.nodes.size()); }
    void run(const exec::MicroBatch& step, std::size_t nodes);  // the first ones only

    Tensor value(graph::TensorId id) const;  // as it is stored
    // As its op gave it, before it was rounded into a bf16 tensor.
    const Tensor& exact(graph::TensorId id) const { return exact_[index(id)]; }
    // Of the optimizer, by parameter; the norm is that of the last update.
    const std::vector<double>& momentum(std::size_t parameter) const { return momenta_[parameter]; }
    double gradient_norm() const { return norm_; }

private:
    struct Ops;

    static std::size_t index(graph::TensorId id) { return static_cast<std::size_t>(id); }
    bool is_bf16(graph::TensorId id) const { return plan_.tensor(id).dtype == DType::bf16; }
    // First channel in the root.
    std::int64_t first_channel(graph::TensorId id) const;
    void write(graph::TensorId id, const Tensor& value);
    void write_vector(graph::TensorId id, const std::vector<double>& value);
    void update(const exec::MicroBatch& step);

    const graph::Plan& plan_;
    std::uint64_t seed_;
    Roundings roundings_;
    std::vector<Tensor> values_, exact_;  // by TensorId; values of roots only
    std::vector<std::vector<double>> momenta_;
    double gradient_scale_ = 1, norm_ = 0;
};

}  // namespace deeplab::reference
