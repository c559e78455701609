// Running a compiled plan.

#include "executable.h"

#include <cstring>
#include <exception>
#include <utility>

#include "layout.h"

namespace deeplab::cuda {
namespace {

// Asynchronous copies on the stream: the memory on the host is pinned, or the stream is waited for.
void copy(void* to, const void* from, std::size_t bytes, cudaStream_t stream, const char* what) {
    if (bytes > 0) check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream), what);
}

void* at(const void* base, std::int64_t offset) {
    return static_cast<char*>(const_cast<void*>(base)) + offset;
}

}  // namespace

CudaExecutable::~CudaExecutable() {
    // What is under way may wait for a rank that does not come. The order is the communicators'
    // (comm/device_communicator.h).
    if (failed_ || std::uncaught_exceptions() > 0) {
        destroy_graphs();
        comm::abort_all(watched_);
    }
    // What is under way uses memory that goes away, also of a step that was not enqueued whole.
    cudaStreamSynchronize(model_->copies.get());
    cudaStreamSynchronize(model_->stream.get());
    destroy_graphs();
}

void CudaExecutable::destroy_graphs() {
    for (cudaGraphExec_t& graph : graphs_)
        if (graph != nullptr) cudaGraphExecDestroy(std::exchange(graph, nullptr));
}

// The launches of a micro-batch, from the plan's inputs to the results on the host.
void CudaExecutable::enqueue() {
    cudaStream_t stream = model_->stream.get();
    waits_[variant()] = 0;
    for (std::size_t i = 0; i < actions_.size(); ++i) {
        if (!node_events_.empty()) node_events_[i]->record(stream);
        actions_[i]();
    }
    if (!node_events_.empty()) node_events_.back()->record(stream);
    join_clock();
    copy(answered_.data(), results_.data(), results_.bytes(), stream, "results");
}

void CudaExecutable::capture(cudaGraphExec_t& graph) {
    cudaStream_t stream = model_->stream.get();
    cudaGraph_t captured = nullptr;
    // Other threads (loader, checkpoints) may call CUDA meanwhile.
    cuda::check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "a capture");
    try {
        enqueue();
    } catch (...) {
        if (cudaStreamEndCapture(stream, &captured) == cudaSuccess) cudaGraphDestroy(captured);
        throw;
    }
    cuda::check(cudaStreamEndCapture(stream, &captured), "the end of a capture");
    // Kernels keep the priorities of the streams they were captured from: sums over ranks go first.
    const cudaError_t status = cudaGraphInstantiate(&graph, captured,
                                                    cudaGraphInstantiateFlagUseNodePriority);
    cudaGraphDestroy(captured);
    cuda::check(status, "instantiation of the micro-batch's CUDA graph");
}

// The first run of a variant is eager: libraries load their kernels then.
void CudaExecutable::launch() {
    auto& runs = runs_[variant()];
    auto& graph = graphs_[variant()];
    if (!capturable_ || runs++ == 0) {
        enqueue();
        return;
    }
    if (graph == nullptr) capture(graph);
    cuda::check(cudaGraphLaunch(graph, model_->stream.get()), "the micro-batch's CUDA graph");
}

void CudaExecutable::start(const exec::MicroBatch& micro_batch) {
    expects(!under_way_, "a micro-batch has been finished before the next one starts");
    expects(!micro_batch.prefetched || prefetched_, "what a micro-batch says was prefetched was");
    batch_.check_samples(micro_batch);
    cuda::check(cudaSetDevice(model_->options.device), "the device");
    prefetched_ = false;
    if (micro_batch.prefetched)
        present_ = 1 - present_;
    else
        send_batch(inboxes_[present_], micro_batch);
    if (!arena_.valid() || !scratch_.valid()) build();
    first_micro_ = micro_batch.first_micro;
    last_micro_ = micro_batch.last_micro;
    if (needs_bf16_ && model_->bf16_stale) {
        to_bf16(model_->stream.get(), model_->values.as<float>(), model_->bf16.data(),
                model_->parameter_count);
        model_->bf16_stale = false;
    }
    failed_ = true;  // until all of it is enqueued
    send_scalars(micro_batch);
    receive();
    launch();
    if (updates_ && last_micro_ && !needs_bf16_) model_->bf16_stale = true;
    finished_.record(model_->stream.get());
    failed_ = false;
    under_way_ = true;
}

// The host's part, too, happens while the device computes: into pinned memory, then on its way.
void CudaExecutable::prefetch(const exec::MicroBatch& next) {
    cuda::check(cudaSetDevice(model_->options.device), "the device");
    prefetched_ = false;
    send_batch(inboxes_[1 - present_], next);
    prefetched_ = true;
}

exec::MicroBatchResult CudaExecutable::finish() {
    expects(under_way_, "a micro-batch has been started before it is finished");
    wait();
    under_way_ = false;
    for (Inbox& inbox : inboxes_) inbox.free_replaced();
    return results();
}

exec::MicroBatchResult CudaExecutable::results() const {
    exec::MicroBatchResult result;
    result.comm_exposed_s = waited_s();
    if (plan_.loss != graph::none) {
        const std::int64_t offset = static_cast<const char*>(view(plan_.loss).data) -
                                    static_cast<const char*>(results_.data());
        std::memcpy(&result.loss_sum, at(answered_.data(), offset), sizeof(double));
    }
    if (last_micro_ && updates_) {
        UpdateOutcome outcome;
        std::memcpy(&outcome, at(answered_.data(), outcome_at_), sizeof outcome);
        result.finite = outcome.finite != 0;
        result.gradient_norm = outcome.norm;
    }
    return result;
}

std::vector<double> CudaExecutable::node_seconds() const {
    std::vector<double> seconds;
    for (std::size_t i = 0; i + 1 < node_events_.size(); ++i) {
        float ms = 0;
        cuda::check(cudaEventElapsedTime(&ms, node_events_[i]->get(), node_events_[i + 1]->get()),
                    "the time of a node");
        seconds.push_back(static_cast<double>(ms) / 1e3);
    }
    return seconds;
}

std::vector<float> CudaExecutable::download(graph::TensorId tensor) {
    check_download(tensor);
    return model_->transfers.fetch(view(tensor));
}

}  // namespace deeplab::cuda
