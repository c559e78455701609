#pragma once
// A plan on the host: every node becomes a prepared action, run() walks the list.

#include <functional>
#include <memory>
#include <vector>

#include "buffer.h"
#include "convolution.h"
#include "deeplab/exec/plan_executable.h"
#include "deeplab/graph/operands.h"
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

class CpuExecutable final : public exec::PlanExecutable {
public:
    CpuExecutable(std::shared_ptr<Model> model, const graph::Plan& plan,
                  const exec::Communicators& communicators, const exec::CompileOptions& options);

    void start(const exec::MicroBatch& micro_batch) override;
    exec::MicroBatchResult finish() override { return result_; }
    std::vector<float> download(graph::TensorId tensor) override;
    std::vector<double> node_seconds() const override { return node_seconds_; }

private:
    using Action = std::function<void()>;

    // Compiling.
    void place_tensors();
    View view(graph::TensorId id) const {
        return id == graph::none ? View{} : views_[static_cast<std::size_t>(id)];
    }
    std::vector<View> views(graph::TensorIds ids) const;
    void need_scratch(std::int64_t bytes);
    Action rounding(Action action, const graph::Node& node) const;
    template <class Op>  // Conv2d or a gradient of it
    Action convolution(Pass pass, const Op& op, const graph::ConvolutionOperands& t);
    Action dropout(float probability, std::uint32_t layer, const View& x, const View& y);
    void lower_nodes();
    // Specialised in lower.cpp for every op: lower_nodes() does not compile without one of them.
    template <class Op>
    Action lower(const Op& op, const graph::Node& node) = delete;

    // Running.
    void load_inputs();
    void wait(comm::Communicator& communicator, comm::Request request);
    void finish_all_reduces();
    void round_gradients(const graph::Bucket& bucket);
    void progress();
    void poison_dead(std::size_t node);

    std::shared_ptr<Model> model_;
    Buffer exchange_{"batch-norm sums"}, inputs_{"inputs"}, results_{"results"};
    Buffer weights_{"bf16 weights"};  // of the convolution under way
    std::vector<View> views_;         // by TensorId
    std::vector<Action> actions_;
    // By node: arena tensors used there for the last time.
    std::vector<std::vector<graph::TensorId>> dying_;
    std::int64_t scratch_bytes_ = 0;
    double gradient_scale_ = 1;

    // Of the run under way.
    const exec::MicroBatch* micro_batch_ = nullptr;
    exec::MicroBatchResult result_;
    std::vector<math::SampleKey> keys_;
    std::vector<comm::Request> exchanges_;                              // by message
    std::vector<std::pair<comm::Request, graph::Bucket>> all_reduces_;  // those not finished
    int open_exchanges_ = 0;
    std::vector<double> node_seconds_;  // by node; empty without time_nodes
};

}  // namespace deeplab::cpu
