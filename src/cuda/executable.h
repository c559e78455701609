#pragma once
// A plan on one GPU: every node becomes launches on a stream, fixed when the plan is compiled. A
// micro-batch enqueues them, from its second on as one CUDA graph, and is waited for once, for its
// small results; meanwhile the next one's batch is sent.

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "augment.h"
#include "convolution.h"
#include "deeplab/comm/device_communicator.h"
#include "deeplab/exec/plan_executable.h"
#include "deeplab/graph/operands.h"
#include "deeplab/math/philox.h"
#include "depthwise.h"
#include "model.h"
#include "runtime.h"
#include "scratch.h"
#include "update.h"
#include "view.h"

namespace deeplab::cuda {

// The way of one kind of sums over ranks. No communicator: one rank, nothing to sum.
struct Channel {
    // Collective over `group`.
    Channel(comm::Communicator& group, bool nccl, const comm::NcclOptions& options);

    std::unique_ptr<comm::DeviceCommunicator> communicator;
    Stream stream;
    Event ready, done;     // of the computation; of the sums
    bool stamped = false;  // the stream has more than was joined: the time of the sums' end
};

// When the computation came to where it waits for sums, and when they were there.
struct Wait {
    std::int64_t begin, end;  // the device's nanoseconds
};

// A batch on its way: in pinned memory, and where it goes; as large as any batch was. Images, then
// labels; or words of crops, then the decoded samples that are not kept.
struct Inbox {
    // May come while a micro-batch is under way, which freeing memory would wait for: what was too
    // small is kept until free_replaced().
    void reserve(std::int64_t bytes);
    // After a micro-batch; does nothing while a batch is on its way.
    void free_replaced();

    PinnedBuffer sent;
    DeviceBuffer received;
    std::vector<std::pair<PinnedBuffer, DeviceBuffer>> replaced;
    std::vector<CropSource> sources;  // of decoded samples: where they are on the device
    Event copied{cudaEventDisableTiming};
};

class CudaExecutable final : public exec::PlanExecutable {
public:
    CudaExecutable(std::shared_ptr<Model> model, const graph::Plan& plan,
                   const exec::Communicators& communicators, const exec::CompileOptions& options);
    ~CudaExecutable() override;

    void start(const exec::MicroBatch& micro_batch) override;
    exec::MicroBatchResult finish() override;
    void prefetch(const exec::MicroBatch& next) override;
    std::vector<float> download(graph::TensorId tensor) override;
    std::vector<double> node_seconds() const override;

private:
    // Enqueues a node's launches on the model's stream.
    using Action = std::function<void()>;

    // Compiling.
    void open_channels();
    void build();
    void place_tensors();
    void allocate_buffers();
    View view(graph::TensorId id) const {
        return id == graph::none ? View{} : views_[static_cast<std::size_t>(id)];
    }
    std::vector<View> views(graph::TensorIds ids) const;
    void need_scratch(std::int64_t bytes) { scratch_bytes_ = std::max(scratch_bytes_, bytes); }
    // For a launch on this stream, which must be the model's (model.h).
    Scratch scratch(cudaStream_t stream) const {
        expects(stream == model_->stream.get(), "scratch memory is for the model's stream alone");
        return {scratch_.data(), model_->tickets.as<std::uint32_t>()};
    }
    char* workspace() const { return static_cast<char*>(scratch(model_->cudnn.stream()).data); }
    template <class Op>  // Conv2d or a gradient of it
    std::optional<DepthwiseTensors> depthwise_tensors(const Op& op,
                                                      const graph::ConvolutionOperands& t) const;
    ConvolutionProblem problem(Pass pass, const graph::ConvGeometry& geometry,
                               const graph::ConvolutionOperands& t) const;
    const Convolution& convolution(const ConvolutionProblem& problem);
    void* parameter(graph::TensorId id, DType type) const;
    Action dropout(float probability, std::uint32_t layer, const View& x, const View& y);
    void lower_nodes();
    // Specialised for every op: lower_nodes() does not compile without one of them. Sums over ranks
    // in communication.cpp, the others in lower.cpp.
    template <class Op>
    Action lower(const Op& op, const graph::Node& node) = delete;

    // Running.
    void check_batch(const exec::MicroBatch& micro_batch) const;
    void check_decoded(std::span<const exec::DecodedSample> samples) const;
    void send_batch(Inbox& inbox, const exec::MicroBatch& micro_batch);
    void send_decoded(Inbox& inbox, std::span<const exec::DecodedSample> samples);
    void send_scalars(const exec::MicroBatch& micro_batch);
    void receive();
    void enqueue();
    void launch();
    void capture(cudaGraphExec_t& graph);
    void destroy_graphs();
    void start_sum(Channel& channel, void* data, std::int64_t count, DType type, const char* what);
    void join(Channel& channel);
    Wait* begin_wait(Channel& channel);
    void join_clock();
    double waited_s() const;
    void finish_all_reduces();
    void wait();
    exec::MicroBatchResult results() const;

    std::shared_ptr<Model> model_;
    std::vector<View> views_;  // by TensorId
    std::vector<Action> actions_;
    // Equal problems share an engine.
    std::vector<std::pair<ConvolutionProblem, std::unique_ptr<Convolution>>> convolutions_;
    std::int64_t scratch_bytes_ = 0;
    double gradient_scale_ = 1;

    std::unique_ptr<Channel> gradients_, batch_norm_;
    DeviceBuffer bf16_gradients_;  // gradients as bf16, where they travel so
    std::vector<comm::DeviceCommunicator*> watched_;

    DeviceBuffer exchange_, inputs_, results_, received_, pieces_;
    // Sent before a micro-batch, in this order: scalars, keys of the samples, where decoded samples
    // lie. Answered after it: the plan's results, the optimizer's outcome, the waits for sums.
    PinnedBuffer sent_, answered_;
    std::int64_t keys_at_ = 0, sources_at_ = 0, outcome_at_ = 0, waits_at_ = 0;  // bytes
    // The inputs of the micro-batch under way (or of the last one), and the next. No launch of the
    // plan knows their addresses.
    std::array<Inbox, 2> inboxes_;
    std::size_t present_ = 0;
    bool prefetched_ = false, under_way_ = false, failed_ = false;
    bool needs_bf16_ = false, updates_ = false, capturable_ = false;
    RunMemory::Place arena_, scratch_;  // that the launches were made with

    // Of the micro-batch under way, whose variant has a graph of its own.
    std::size_t variant() const { return (first_micro_ ? 2u : 0u) + (last_micro_ ? 1u : 0u); }
    bool first_micro_ = true, last_micro_ = true;
    bool summing_ = false;  // all-reduces of gradients are under way
    // The clock's stream forks off the computation where it waits: reading the time holds up
    // nobody.
    Stream clock_;
    Event clock_done_{cudaEventDisableTiming};
    std::array<std::size_t, 4> waits_{};  // by variant, as its launches were enqueued last
    Event finished_{cudaEventDisableTiming};
    std::array<cudaGraphExec_t, 4> graphs_{};
    std::array<std::int64_t, 4> runs_{};
    std::vector<std::unique_ptr<Event>> node_events_;  // with time_nodes: one more than nodes
};

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::ExchangeStart& op,
                                             const graph::Node& node);
template <>
CudaExecutable::Action CudaExecutable::lower(const graph::ExchangeFinish& op,
                                             const graph::Node& node);
template <>
CudaExecutable::Action CudaExecutable::lower(const graph::AllReduce& op, const graph::Node& node);

}  // namespace deeplab::cuda
