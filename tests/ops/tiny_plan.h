#pragma once
// Hand-built plans of a node or a few, whose tensors come from the reference and go back to be
// compared with it.

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "deeplab/comm/communicator.h"
#include "deeplab/graph/builder.h"
#include "harness/compare.h"
#include "harness/device.h"
#include "reference/ops.h"

namespace deeplab::testing {

using graph::TensorId;
using Values = std::vector<double>;

constexpr double tolerance = 1e-5;
inline std::vector<float> floats(const Values& values) { return {values.begin(), values.end()}; }

// Channels of the tensor that a slice is of, beside it.
struct Margin {
    std::int64_t before = 0, after = 0;
};

class TinyPlan {
public:
    graph::Plan plan;
    std::vector<std::uint8_t> labels;
    std::vector<math::SampleKey> samples;
    // What inputs, parameters and states hold before the first run.
    std::vector<std::pair<TensorId, reference::Tensor>> given;

    TensorId add(graph::Tensor t) {
        t.name = "t" + std::to_string(plan.tensors.size());
        plan.tensors.push_back(std::move(t));
        return static_cast<TensorId>(plan.tensors.size() - 1);
    }
    TensorId input(const reference::Tensor& t) {
        const std::vector<float> data = floats(t.data);
        images_.insert(images_.end(), data.begin(), data.end());
        return give(add({.name = {}, .shape = t.shape, .space = graph::Space::input}), t);
    }
    TensorId channel_input(const Values& values) {
        reference::Tensor t({1, static_cast<std::int64_t>(values.size()), 1, 1});
        t.data = values;
        return input(t);
    }
    TensorId label_input(const Shape& shape, const std::vector<std::uint8_t>& data) {
        labels = data;
        plan.labels = add(
            {.name = {}, .shape = shape, .dtype = DType::u8, .space = graph::Space::input});
        reference::Tensor t(shape);
        t.data.assign(data.begin(), data.end());
        return give(plan.labels, t);
    }
    // The parameter's index in plan.parameters.
    std::size_t parameter(const reference::Tensor& t,
                          graph::ParameterKind kind = graph::ParameterKind::conv_weight) {
        graph::Parameter p{
            .name = "p" + std::to_string(plan.parameters.size()), .shape = t.shape, .kind = kind};
        p.offset = plan.parameter_count;
        p.value = add({.name = {}, .shape = t.shape, .space = graph::Space::parameter});
        p.gradient = add({.name = {}, .shape = t.shape, .space = graph::Space::gradient});
        plan.parameter_count += (t.shape.elements() + 31) / 32 * 32;
        plan.parameters.push_back(p);
        give(p.value, t);
        values_.push_back(floats(t.data));
        return plan.parameters.size() - 1;
    }
    std::size_t channel_parameter(const Values& values) {
        reference::Tensor t({1, static_cast<std::int64_t>(values.size()), 1, 1});
        t.data = values;
        return parameter(t, graph::ParameterKind::bn_gamma);
    }
    TensorId value(std::size_t p) const { return plan.parameters[p].value; }
    TensorId gradient(std::size_t p) const { return plan.parameters[p].gradient; }
    TensorId state(const Values& values) {
        const Shape shape{1, static_cast<std::int64_t>(values.size()), 1, 1};
        const TensorId id = add({.name = {}, .shape = shape, .space = graph::Space::state});
        plan.states.push_back({.name = "s" + std::to_string(plan.states.size()),
                               .shape = shape,
                               .offset = plan.state_count,
                               .value = id});
        plan.state_count += (shape.c + 31) / 32 * 32;
        states_.push_back(floats(values));
        reference::Tensor t(shape);
        t.data = values;
        return give(id, t);
    }
    TensorId arena(const Shape& shape, DType dtype = DType::f32, bool keep = true) {
        return add({.name = {}, .shape = shape, .dtype = dtype, .keep = keep});
    }
    TensorId slice(TensorId parent, std::int64_t channel_offset, std::int64_t channels) {
        Shape shape = plan.tensor(parent).shape;
        shape.c = channels;
        return add({.name = {},
                    .shape = shape,
                    .parent = parent,
                    .channel_offset = channel_offset,
                    .keep = true});
    }
    TensorId exchange(std::int64_t channels) {
        return add({.name = {},
                    .shape = {1, channels, 1, 1},
                    .dtype = DType::f64,
                    .space = graph::Space::exchange});
    }
    TensorId result() {
        return plan.loss = add(
                   {.name = {}, .shape = {}, .dtype = DType::f64, .space = graph::Space::result});
    }
    void node(graph::Op op, std::vector<TensorId> in, std::vector<TensorId> out) {
        plan.nodes.push_back({op, std::move(in), std::move(out)});
    }
    void all_reduce(std::int32_t bucket) {
        plan.nodes.push_back(graph::all_reduce_node(plan, bucket));
    }
    void update() { plan.nodes.push_back(graph::update_node(plan)); }
    // A slice of a wider tensor whose every channel holds something: what is written beside the
    // slice shows in the whole. A tensor of its own where there is no margin.
    TensorId slice(const Shape& shape, Margin margin) {
        if (margin.before + margin.after == 0) return arena(shape);
        Shape wide = shape;
        wide.c += margin.before + margin.after;
        const TensorId whole = arena(wide);
        node(graph::Upsample{}, {input(reference::random_tensor(wide, 99))}, {whole});
        return slice(whole, margin.before, shape.c);
    }
    // A copy of `x` as a slice of a wider tensor: by a resize that changes nothing.
    TensorId as_slice(TensorId x, Margin margin) {
        return margin.before + margin.after > 0 ? as_slice(x, margin.before, margin.after) : x;
    }
    TensorId as_slice(TensorId x, std::int64_t before, std::int64_t after) {
        Shape wide = plan.tensor(x).shape;
        const std::int64_t channels = wide.c;
        wide.c += before + after;
        const TensorId id = slice(arena(wide, DType::f32, false), before, channels);
        plan.tensors[static_cast<std::size_t>(id)].keep = false;
        node(graph::Upsample{}, {x}, {id});
        return id;
    }

    void set_up(exec::Backend& backend) const {
        backend.allocate(plan);
        for (std::size_t i = 0; i < values_.size(); ++i) {
            backend.upload(plan.parameters[i], exec::Slot::value, values_[i]);
        }
        for (std::size_t i = 0; i < states_.size(); ++i) backend.upload(plan.states[i], states_[i]);
    }
    exec::MicroBatch step() const {
        exec::MicroBatch s;
        s.images = images_;
        s.labels = labels;
        s.samples = samples;
        return s;
    }

private:
    TensorId give(TensorId id, const reference::Tensor& value) {
        given.emplace_back(id, value);
        return id;
    }

    std::vector<float> images_;
    std::vector<std::vector<float>> values_, states_;
};

// A backend that ran a tiny plan.
struct Ran {
    std::unique_ptr<exec::Backend> backend;
    std::unique_ptr<comm::Communicator> gradients = comm::make_self(),
                                        batch_norm = comm::make_self();
    std::unique_ptr<exec::Executable> executable;
    exec::MicroBatchResult result;

    explicit Ran(const TinyPlan& tiny, const exec::CompileOptions& options = {.poison = true},
                 int threads = 2)
        : backend(device(threads)) {
        tiny.set_up(*backend);
        executable = backend->compile(tiny.plan, {gradients.get(), batch_norm.get()}, options);
        result = executable->run(tiny.step());
    }
    std::vector<float> operator[](TensorId id) const { return executable->download(id); }
};

}  // namespace deeplab::testing
