#pragma once
// Writes a plan: forward ops with shape inference, then reverse mode, then buckets and update.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "deeplab/graph/plan.h"

namespace deeplab::graph {

enum class Mode {
    inference,  // running statistics, no gradients
    training,   // batch statistics
    frozen,     // gradients, but running statistics (freeze_bn)
};

// One member of a group of batch norms that are ready together: their sums travel as one message.
struct Norm {
    TensorId x = none;
    // Parameters are <name>.weight, .bias, states <name>.running_mean, .running_var.
    std::string name;
    Activation activation = Activation::relu;
    TensorId residual = none;  // added before the activation
    int residual_member = -1;  // or: the output of an earlier member of the group
    TensorId into = none;      // write a channel slice of this tensor, from channel_offset
    std::int64_t channel_offset = 0;
};

struct BatchNormSettings {
    float eps = 1e-5f, momentum = 0.1f;
};

class Builder {
public:
    explicit Builder(Mode mode) : mode_(mode) {}

    // For the batch norms of the part of a network that follows.
    void set_batch_norm(const BatchNormSettings& settings) { batch_norm_ = settings; }

    TensorId images(const Shape& shape);
    TensorId labels(const Shape& shape);

    // Every function returns its output; LogicError when shapes do not fit.
    // `input`: an activation of x, for this convolution alone; see Conv2d.
    TensorId conv2d(TensorId x, const std::string& name, std::int64_t out_channels,
                    std::int64_t kernel, const ConvGeometry& geometry, bool bias = false,
                    Activation input = Activation::none);
    std::vector<TensorId> batch_norm_act(std::span<const Norm> group);
    TensorId batch_norm_act(const Norm& norm) { return batch_norm_act({&norm, 1}).front(); }
    TensorId max_pool(TensorId x, std::int64_t kernel, std::int64_t stride, std::int64_t pad);
    TensorId global_average_pool(TensorId x);
    TensorId upsample(TensorId x, std::int64_t height, std::int64_t width, TensorId into = none,
                      std::int64_t channel_offset = 0, bool align_corners = true);
    // The same tensor where probability is 0 and in plans without gradients.
    TensorId dropout(TensorId x, float probability, std::uint32_t layer);
    TensorId concatenation(const std::string& name, const Shape& shape);  // filled through `into`
    void segmentation_loss(TensorId logits, TensorId labels, std::int32_t ignore,
                           bool align_corners = true);
    void keep(TensorId tensor);
    const Shape& shape(TensorId tensor) const { return plan_.tensor(tensor).shape; }

    // Appends the backward pass, all-reduces in buckets of about bucket_bytes, and the update.
    // `rule` tells how the optimizer treats a parameter (offset and count of its answer are
    // ignored).
    Plan training_plan(std::int64_t bucket_bytes, const UpdateRule& update,
                       const std::function<UpdateSegment(const Parameter&)>& rule);
    Plan inference_plan();

private:
    TensorId add(Tensor tensor);
    TensorId output(const std::string& name, const Shape& shape, TensorId into,
                    std::int64_t channel_offset);
    TensorId parameter(const std::string& name, const Shape& shape, ParameterKind kind);
    TensorId state(const std::string& name, std::int64_t channels, float initial);
    void emit(Op op, std::vector<TensorId> in, std::vector<TensorId> out);
    void assign_offsets();

    Plan plan_;
    Mode mode_;
    BatchNormSettings batch_norm_;
};

// Appends the gradients of plan.loss to a forward plan whose parameters have gradient tensors.
void append_backward(Plan& plan);

// Cuts the flat gradient buffer into buckets and puts each AllReduce behind the last node that
// writes into it.
void append_all_reduces(Plan& plan, std::int64_t bucket_bytes);

// These nodes with what they touch in their lists.
Node all_reduce_node(const Plan& plan, std::int32_t bucket);
Node update_node(const Plan& plan);

// Keeps images, activations and their gradients as `type` (f32 or bf16); all else, batch-norm
// statistics among it, stays as it is. See "Numbers" in graph/plan.h.
void set_activation_type(Plan& plan, DType type);

// LogicError when a node's tensors do not fit its op: counts, shapes, element types, spaces, use
// before definition.
void validate(const Plan& plan);

// Visits a variant with one lambda per alternative; a forgotten one is a compile error.
template <class... Cases>
struct Overloaded : Cases... {
    using Cases::operator()...;
};
template <class... Cases>  // clang before 17 does not find it by itself
Overloaded(Cases...)->Overloaded<Cases...>;

}  // namespace deeplab::graph
