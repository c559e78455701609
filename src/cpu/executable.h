#pragma once
// A plan on the host: every node becomes a prepared step, run() walks the list.

#include <functional>
#include <memory>
#include <vector>

#include "buffer.h"
#include "convolution.h"
#include "deeplab/exec/backend.h"
#include "deeplab/math/philox.h"
#include "threads.h"

namespace deeplab::cpu {

// The model's state and the memory that all plans of a backend share.
struct Model {
    explicit Model(int thread_count) : threads(thread_count) {}

    Threads threads;
    Buffer values{"parameters"}, gradients{"gradients"}, momenta{"momentum"},
        states{"running statistics"};
    Buffer arena{"activations"}, scratch{"scratch"};

    std::int64_t bytes() const {
        std::int64_t sum = 0;
        for (const Buffer* b : {&values, &gradients, &momenta, &states, &arena, &scratch})
            sum += b->bytes();
        return sum;
    }
};

class CpuExecutable final : public exec::Executable {
public:
    CpuExecutable(std::shared_ptr<Model> model, const graph::Plan& plan,
                  const exec::Communicators& communicators, const exec::CompileOptions& options);

    void start(const exec::Step& step) override;
    exec::StepResult finish() override { return result_; }
    std::vector<float> download(graph::TensorId tensor) override;
    const graph::MemoryPlan& memory() const override { return memory_; }
    std::vector<double> node_seconds() const override { return node_seconds_; }

private:
    using Action = std::function<void()>;

    // Compiling.
    void place_tensors();
    void place_exchanges(std::vector<std::int64_t>& offsets);
    View view(graph::TensorId id) const {
        return id == graph::none ? View{} : views_[static_cast<std::size_t>(id)];
    }
    std::vector<View> views(const graph::Node& node, std::size_t first) const;
    void need_scratch(std::int64_t bytes);
    Action rounding(Action action, const graph::Node& node) const;
    Action convolution(Pass pass, const graph::ConvGeometry& geometry, ConvolutionTensors tensors,
                       DType type);
    Action dropout(float probability, std::uint32_t layer, const graph::Node& node);
    Action lower(const graph::Conv2d& op, const graph::Node& node);
    Action lower(const graph::Conv2dGradData& op, const graph::Node& node);
    Action lower(const graph::Conv2dGradWeights& op, const graph::Node& node);
    Action lower(const graph::BatchNormSums& op, const graph::Node& node);
    Action lower(const graph::ExchangeStart& op, const graph::Node& node);
    Action lower(const graph::ExchangeFinish& op, const graph::Node& node);
    Action lower(const graph::BatchNormAct& op, const graph::Node& node);
    Action lower(const graph::BatchNormGradSums& op, const graph::Node& node);
    Action lower(const graph::BatchNormActGrad& op, const graph::Node& node);
    Action lower(const graph::MaxPool& op, const graph::Node& node);
    Action lower(const graph::MaxPoolGrad& op, const graph::Node& node);
    Action lower(const graph::GlobalAveragePool& op, const graph::Node& node);
    Action lower(const graph::GlobalAveragePoolGrad& op, const graph::Node& node);
    Action lower(const graph::Upsample& op, const graph::Node& node);
    Action lower(const graph::UpsampleGrad& op, const graph::Node& node);
    Action lower(const graph::Dropout& op, const graph::Node& node);
    Action lower(const graph::DropoutGrad& op, const graph::Node& node);
    Action lower(const graph::Sum& op, const graph::Node& node);
    Action lower(const graph::SegmentationLoss& op, const graph::Node& node);
    Action lower(const graph::AllReduce& op, const graph::Node& node);
    Action lower(const graph::Update& op, const graph::Node& node);

    // Running.
    void check(const exec::Step& step) const;
    void load_inputs();
    void check_labels(std::span<const std::uint8_t> labels) const;
    void wait(comm::Communicator& communicator, comm::Request request);
    void finish_all_reduces();
    void round_traffic(const graph::Bucket& bucket);
    void progress();
    void poison_dead(std::size_t node);

    std::shared_ptr<Model> model_;
    graph::Plan plan_;
    exec::Communicators communicators_;
    exec::CompileOptions options_;
    graph::MemoryPlan memory_;
    Buffer exchange_{"batch-norm sums"}, inputs_{"inputs"}, results_{"results"};
    Buffer weights_{"bf16 weights"};  // of the convolution under way
    std::vector<View> views_;         // by TensorId
    std::vector<Action> steps_;
    // By node: arena tensors used there for the last time.
    std::vector<std::vector<graph::TensorId>> dying_;
    std::int64_t scratch_bytes_ = 0, image_elements_ = 0, label_elements_ = 0, dropout_samples_ = 0;
    std::int32_t ignore_ = -1;
    std::int64_t classes_ = 0, label_pixels_ = 1;  // 0 classes: a plan without loss
    double gradient_scale_ = 1;

    // Of the run under way.
    const exec::Step* step_ = nullptr;
    exec::StepResult result_;
    std::vector<math::SampleKey> keys_;
    std::vector<comm::Request> exchanges_;                              // by message
    std::vector<std::pair<comm::Request, graph::Bucket>> all_reduces_;  // those not finished
    int open_exchanges_ = 0;
    std::vector<double> node_seconds_;  // by node; empty without time_nodes
};

}  // namespace deeplab::cpu
