// The cases of tests/ops, node by node: every tensor in memory of exactly its size, every launch
// with scratch memory of exactly the size that its header says.

#include <gtest/gtest.h>

#include <set>

#include "batch_norm.h"
#include "deeplab/base/error.h"
#include "deeplab/graph/operands.h"
#include "depthwise.h"
#include "device.h"
#include "elementwise.h"
#include "loss.h"
#include "ops/cases.h"
#include "pooling.h"
#include "reference/interpreter.h"
#include "resize.h"

namespace deeplab::testing {
namespace {

class OnKernels {
public:
    explicit OnKernels(const graph::Plan& plan) : plan_(plan) {
        for (std::size_t t = 0; t < plan.tensors.size(); ++t) {
            const graph::Tensor& tensor = plan.tensors[t];
            View v{tensor.shape, tensor.shape.c, tensor.dtype, nullptr};
            if (tensor.parent == graph::none) {
                memory_.emplace_back(
                    static_cast<std::size_t>(tensor.shape.elements()) * size_of(tensor.dtype),
                    "a test");
                v.data = memory_.back().data();
            } else {
                const View parent = view(tensor.parent);
                v.pitch = parent.pitch;
                v.data = parent.as<std::byte>() +
                         tensor.channel_offset * static_cast<std::int64_t>(size_of(tensor.dtype));
            }
            views_.push_back(v);
        }
    }

    View view(graph::TensorId id) const {
        return id == graph::none ? View{} : views_[static_cast<std::size_t>(id)];
    }
    void run(const exec::MicroBatch& step) const {
        std::vector<math::SampleKey> keys;
        for (const math::SampleKey& id : step.samples) keys.push_back({id.epoch, id.sample});
        const DeviceArray<math::SampleKey> samples(keys);
        for (const graph::Node& node : plan_.nodes)
            std::visit(Launch{*this, node, samples.data(), !step.first_micro}, node.op);
    }

private:
    // An op without a case here does not compile.
    struct Launch {
        const OnKernels& self;
        const graph::Node& node;
        const math::SampleKey* samples;
        bool add;

        View at(graph::TensorId id) const { return self.view(id); }
        std::vector<View> all(graph::TensorIds ids) const {
            std::vector<View> views;
            for (const graph::TensorId id : ids) views.push_back(at(id));
            return views;
        }

        void operator()(const graph::BatchNormSums& op) const {
            const auto o = operands(op, node);
            const View x = at(o.x);
            const DeviceScratch scratch(cuda::batch_norm_scratch_bytes(x.shape, x.type));
            cuda::batch_norm_sums(no_stream, x, at(o.sums), scratch.get());
        }
        void operator()(const graph::BatchNormAct& op) const {
            const auto o = operands(op, node);
            cuda::BatchNormTensors t;
            t.x = at(o.x), t.gamma = at(o.gamma), t.beta = at(o.beta);
            t.mean = at(o.mean), t.variance = at(o.variance), t.sums = at(o.sums);
            t.residual = at(o.residual), t.y = at(o.y), t.saved = at(o.saved);
            cuda::batch_norm_act(no_stream, op, t);
        }
        void operator()(const graph::BatchNormGradSums& op) const {
            const auto o = operands(op, node);
            cuda::BatchNormGradTensors t;
            t.x = at(o.x), t.gamma = at(o.gamma), t.beta = at(o.beta), t.saved = at(o.saved);
            t.y = at(o.y), t.dy = all(o.dy), t.gsums = at(o.gsums);
            t.dgamma = at(o.dgamma), t.dbeta = at(o.dbeta), t.dz = at(o.dz);
            const DeviceScratch scratch(cuda::batch_norm_scratch_bytes(t.x.shape, t.x.type));
            cuda::batch_norm_grad_sums(no_stream, op, t, add, scratch.get());
        }
        void operator()(const graph::BatchNormActGrad& op) const {
            const auto o = operands(op, node);
            cuda::BatchNormGradTensors t;
            t.x = at(o.x), t.gamma = at(o.gamma), t.beta = at(o.beta), t.saved = at(o.saved);
            t.gsums = at(o.gsums), t.sums = at(o.sums), t.dy = all(o.dy), t.dx = at(o.dx);
            cuda::batch_norm_act_grad(no_stream, op, t);
        }
        void operator()(const graph::MaxPool& op) const {
            const auto o = operands(op, node);
            cuda::max_pool(no_stream, op, at(o.x), at(o.y), at(o.arg));
        }
        void operator()(const graph::MaxPoolGrad& op) const {
            const auto o = operands(op, node);
            cuda::max_pool_grad(no_stream, op, at(o.dy), at(o.arg), at(o.dx));
        }
        void operator()(const graph::GlobalAveragePool& op) const {
            const auto o = operands(op, node);
            cuda::global_average_pool(no_stream, at(o.x), at(o.y));
        }
        void operator()(const graph::GlobalAveragePoolGrad& op) const {
            const auto o = operands(op, node);
            cuda::global_average_pool_grad(no_stream, at(o.dy), at(o.dx));
        }
        void operator()(const graph::Upsample& op) const {
            const auto o = operands(op, node);
            cuda::upsample(no_stream, op, at(o.x), at(o.y));
        }
        void operator()(const graph::UpsampleGrad& op) const {
            const auto o = operands(op, node);
            cuda::upsample_grad(no_stream, op, at(o.dy), at(o.dx));
        }
        void operator()(const graph::Dropout& op) const {
            const auto o = operands(op, node);
            cuda::dropout(no_stream, {case_seed, op.probability, op.layer}, samples, at(o.x),
                          at(o.y));
        }
        void operator()(const graph::DropoutGrad& op) const {
            const auto o = operands(op, node);
            cuda::dropout(no_stream, {case_seed, op.probability, op.layer}, samples, at(o.dy),
                          at(o.dx));
        }
        void operator()(const graph::Sum& op) const {
            const auto o = operands(op, node);
            cuda::sum(no_stream, all(o.x), at(o.y));
        }
        void operator()(const graph::SegmentationLoss& op) const {
            const auto o = operands(op, node);
            const View logits = at(o.logits), labels = at(o.labels);
            const DeviceScratch scratch(
                cuda::segmentation_loss_scratch_bytes(op, logits.shape, labels.shape));
            cuda::segmentation_loss(no_stream, op, logits, labels, at(o.loss), at(o.dlogits),
                                    scratch.get());
        }
        void operator()(const graph::ExchangeStart&) const {}  // one rank
        void operator()(const graph::ExchangeFinish&) const {}
        // Depthwise ones: cuDNN does the others. Weights are a tensor of the activations' type.
        cuda::DepthwiseTensors tensors(const graph::ConvolutionOperands& o) const {
            return {at(o.x), at(o.w), at(o.y), at(o.masks)};
        }
        DeviceTensor weights(graph::TensorId id, DType type) const {
            return DeviceTensor(load(at(id)), type);
        }
        void operator()(const graph::Conv2d& op) const {
            cuda::DepthwiseTensors t = tensors(operands(op, node));
            const DeviceTensor w = weights(operands(op, node).w, t.x.type);
            t.w = w.view();
            cuda::depthwise(no_stream, op, t);
        }
        void operator()(const graph::Conv2dGradData& op) const {
            cuda::DepthwiseTensors t = tensors(operands(op, node));
            const DeviceTensor w = weights(operands(op, node).w, t.x.type);
            t.w = w.view();
            cuda::depthwise_grad_data(no_stream, op, t);
        }
        void operator()(const graph::Conv2dGradWeights& op) const {
            const cuda::DepthwiseTensors t = tensors(operands(op, node));
            const DeviceScratch scratch(
                cuda::depthwise_grad_weights_scratch_bytes(t.y.shape, t.w.shape, t.x.type));
            cuda::depthwise_grad_weights(no_stream, op, t, add, scratch.get());
        }
        // Of the flat buffers (update_test.cpp).
        void operator()(const graph::AllReduce&) const { not_here(); }
        void operator()(const graph::Update&) const { not_here(); }
        void not_here() const { throw LogicError("a case of the kernels has kernels alone"); }
    };

    const graph::Plan& plan_;
    std::vector<cuda::DeviceBuffer> memory_;
    std::vector<View> views_;  // by TensorId
};

class KernelCases : public ::testing::TestWithParam<std::tuple<OpCase, DType>> {};

TEST_P(KernelCases, AgreeWithTheReference) {
    const auto& [c, type] = GetParam();
    CasePlan p = c.plan();
    const graph::Plan& plan = p.t.plan;
    graph::set_activation_type(p.t.plan, type);
    reference::Interpreter expected(plan, case_seed, {true, true});
    const OnKernels kernels(plan);
    for (const auto& [id, value] : p.t.given) {
        expected.give(id, value);
        store(expected.value(id), kernels.view(id));
    }
    std::set<graph::TensorId> written;
    for (const graph::Node& node : plan.nodes) written.insert(node.out.begin(), node.out.end());
    for (const graph::State& state : plan.states) written.insert(state.value);
    for (const bool first : {true, false}) {
        expected.run(p.step(first));
        kernels.run(p.step(first));
        for (const graph::TensorId id : written) {
            const graph::Tensor& tensor = plan.tensor(id);
            const Values got = load(kernels.view(id)).data, wanted = expected.value(id).data;
            if (tensor.dtype == DType::u8)
                EXPECT_EQ(got, wanted) << tensor.name;
            else
                EXPECT_TRUE(near(got, wanted, limit(tensor.dtype))) << tensor.name;
        }
    }
}

std::vector<OpCase> cases_of_kernels() {
    std::vector<OpCase> all;
    for (const OpCase& c : op_cases())
        if (c.family != "Conv2d" && c.family != "Update") all.push_back(c);
    for (const ConvolutionCase& c : convolution_cases()) {
        if (cuda::has_depthwise_kernels(c.g, c.w(), c.bias))
            all.push_back({"Conv2d", c.what, [c] { return convolution(c); }});
    }
    return all;
}

INSTANTIATE_TEST_SUITE_P(All, KernelCases,
                         ::testing::Combine(::testing::ValuesIn(cases_of_kernels()),
                                            ::testing::Values(DType::f32, DType::bf16)));

}  // namespace
}  // namespace deeplab::testing
