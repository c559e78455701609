// How a plan's sums over ranks travel: on streams of their own, joined to the computation by
// events.

#include <cstring>
#include <type_traits>
#include <utility>

#include "clock.h"
#include "executable.h"
#include "layout.h"
#include "staging.h"

namespace deeplab::cuda {
namespace {

template <class Op>
bool has(const graph::Plan& plan) {
    return std::any_of(plan.nodes.begin(), plan.nodes.end(),
                       [](const graph::Node& node) { return std::holds_alternative<Op>(node.op); });
}

}  // namespace

Channel::Channel(comm::Communicator& group, bool nccl, const comm::NcclOptions& options)
    : stream(Stream::Priority::high), ready(cudaEventDisableTiming), done(cudaEventDisableTiming) {
    if (nccl) {
        communicator = comm::make_nccl(group, options);
    } else if (group.size() > 1) {
        communicator = comm::make_staged(group, std::make_unique<PinnedStaging>());
    }
}

// Collective where the plan has sums over ranks: all ranks compile the same plan.
void CudaExecutable::open_channels() {
    // Few blocks each: both may run beside the computation, and at the same time.
    const comm::NcclOptions gradients{
        .name = "gradients", .max_ctas = 8, .deterministic = options_.deterministic};
    const comm::NcclOptions batch_norm{
        .name = "batch-norm sums", .max_ctas = 2, .deterministic = options_.deterministic};
    const bool nccl = model_->options.nccl;
    if (has<graph::AllReduce>(plan_))
        gradients_ = std::make_unique<Channel>(*communicators_.gradients, nccl, gradients);
    if (gradients_ && options_.gradient_type == DType::bf16 &&
        communicators_.gradients->size() > 1) {
        bf16_gradients_ = DeviceBuffer(
            static_cast<std::size_t>(plan_.parameter_count) * sizeof(std::uint16_t),
            "gradients on their way");
    }
    if (has<graph::ExchangeStart>(plan_))
        batch_norm_ = std::make_unique<Channel>(*communicators_.batch_norm, nccl, batch_norm);
    for (const auto& channel : {gradients_.get(), batch_norm_.get()}) {
        if (channel == nullptr || !channel->communicator) continue;
        watched_.push_back(channel->communicator.get());
        capturable_ = capturable_ && channel->communicator->capturable();
    }
}

// The sum of what the computation has enqueued so far. A communicator that cannot be captured keeps
// the host, and so the computation, until it is there.
void CudaExecutable::start_sum(Channel& channel, void* data, std::int64_t count, DType type,
                               const char* what) {
    channel.ready.record(model_->stream.get());
    channel.stream.wait(channel.ready.get());
    Wait* const wait = channel.communicator->capturable() ? nullptr : begin_wait(channel);
    channel.communicator->all_reduce(data, static_cast<std::size_t>(count), type,
                                     channel.stream.get(), what);
    if (wait != nullptr) stamp(channel.stream.get(), &wait->end);
}

// What was enqueued for the sums so far comes before what the computation does from here on. The
// time at which they are there is read beside that.
void CudaExecutable::join(Channel& channel) {
    channel.done.record(channel.stream.get());
    channel.ready.record(model_->stream.get());
    model_->stream.wait(channel.done.get());
    if (!channel.communicator->capturable()) return;  // start_sum() has seen to it
    stamp(channel.stream.get(), &begin_wait(channel)->end);
    channel.stamped = true;
}

// The computation has come to what `ready` was recorded after.
Wait* CudaExecutable::begin_wait(Channel& channel) {
    Wait* const wait = reinterpret_cast<Wait*>(results_.as<std::byte>() + waits_at_) +
                       waits_[variant()]++;
    ensures(reinterpret_cast<std::byte*>(wait + 1) <= results_.as<std::byte>() + results_.bytes(),
            "every wait has its place");
    clock_.wait(channel.ready.get());
    stamp(clock_.get(), &wait->begin);
    return wait;
}

// Before the results leave.
void CudaExecutable::join_clock() {
    if (waits_[variant()] == 0) return;
    clock_done_.record(clock_.get());
    model_->stream.wait(clock_done_.get());
    for (const auto& channel : {gradients_.get(), batch_norm_.get()}) {
        if (channel == nullptr || !std::exchange(channel->stamped, false)) continue;
        channel->done.record(channel->stream.get());
        model_->stream.wait(channel->done.get());
    }
}

// Sums that were there before they were waited for ended earlier than their wait began.
double CudaExecutable::waited_s() const {
    std::int64_t sum = 0;
    for (std::size_t i = 0; i < waits_[variant()]; ++i) {
        Wait wait;
        std::memcpy(&wait, answered_.as<std::byte>() + waits_at_ + i * sizeof wait, sizeof wait);
        sum += std::max<std::int64_t>(0, wait.end - wait.begin);
    }
    return static_cast<double>(sum) / 1e9;
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::ExchangeStart& op,
                                             const graph::Node& node) {
    const graph::TensorIds message = operands(op, node).message;
    std::int64_t count = 0;
    for (const graph::TensorId id : message) count += view(id).shape.elements();
    return [this, count, first = view(message.front()).data] {
        if (batch_norm_->communicator)
            start_sum(*batch_norm_, first, count, DType::f64, "batch-norm sums");
    };
}

// Messages finish in the order of their start: joining the stream joins this one and those before.
template <>
CudaExecutable::Action CudaExecutable::lower(const graph::ExchangeFinish&, const graph::Node&) {
    return [this] {
        if (batch_norm_->communicator) join(*batch_norm_);
    };
}

template <>
CudaExecutable::Action CudaExecutable::lower(const graph::AllReduce& op, const graph::Node&) {
    const graph::Bucket bucket = plan_.buckets[static_cast<std::size_t>(op.bucket)];
    return [this, bucket] {
        if (!last_micro_ || !gradients_->communicator) return;
        float* values = model_->gradients.as<float>() + bucket.offset;
        if (bf16_gradients_.bytes() == 0) {
            start_sum(*gradients_, values, bucket.count, DType::f32, "gradients");
        } else {
            auto* sent = bf16_gradients_.as<std::uint16_t>() + bucket.offset;
            to_bf16(model_->stream.get(), values, sent, bucket.count);
            start_sum(*gradients_, sent, bucket.count, DType::bf16, "gradients");
            accumulate(gradients_->stream.get(), DType::bf16, sent, values, bucket.count, false);
        }
        summing_ = true;
        if (!options_.overlap) finish_all_reduces();
    };
}

void CudaExecutable::finish_all_reduces() {
    if (summing_) join(*gradients_);
    summing_ = false;
}

// Until the run's results are on the host, watching the communicators.
void CudaExecutable::wait() {
    if (watched_.empty()) {
        cuda::check(cudaEventSynchronize(finished_.get()), "a micro-batch");
        return;
    }
    failed_ = true;  // until it is over
    comm::wait_until([this] { return finished_.done(); }, watched_, options_.wait_limit_s);
    failed_ = false;
}

}  // namespace deeplab::cuda
