// Running a compiled plan.

#include "executable.h"

#include "deeplab/base/clock.h"
#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/math/bf16.h"
#include "elementwise.h"

namespace deeplab::cpu {
namespace {

// N C H W on the host to N H W C.
template <class T>
void load(const Threads& threads, const T* from, const View& to) {
    const Shape& s = to.shape;
    T* data = to.as<T>();
    threads.each(s.n * s.h, [&](std::int64_t row) {
        const std::int64_t n = row / s.h, h = row % s.h;
        for (std::int64_t c = 0; c < s.c; ++c) {
            const T* line = from + ((n * s.c + c) * s.h + h) * s.w;
            for (std::int64_t w = 0; w < s.w; ++w) data[(row * s.w + w) * to.pitch + c] = line[w];
        }
    });
}

template <class T>
std::vector<float> unload(const View& from) {
    const Shape& s = from.shape;
    const T* data = from.as<T>();
    std::vector<float> result;
    result.reserve(static_cast<std::size_t>(s.elements()));
    for (std::int64_t n = 0; n < s.n; ++n) {
        for (std::int64_t c = 0; c < s.c; ++c) {
            for (std::int64_t p = 0; p < s.h * s.w; ++p) {
                result.push_back(static_cast<float>(data[(n * s.h * s.w + p) * from.pitch + c]));
            }
        }
    }
    return result;
}

}  // namespace

void CpuExecutable::load_inputs() {
    for (const exec::BatchInput& input : batch_.inputs()) {
        const View v = view(input.tensor);
        if (input.labels) {
            load(model_->threads, micro_batch_->labels.data() + input.first, v);
            continue;
        }
        load(model_->threads, micro_batch_->images.data() + input.first, v);
        if (plan_.tensor(input.tensor).dtype == DType::bf16) round_to_bf16(model_->threads, v, v);
    }
}

void CpuExecutable::wait(comm::Communicator& communicator, comm::Request request) {
    const auto start = Clock::now();
    communicator.finish(request);
    result_.comm_exposed_s += seconds_since(start);
}

void CpuExecutable::finish_all_reduces() {
    for (const auto& [request, bucket] : all_reduces_) {
        wait(*communicators_.gradients, request);
        round_gradients(bucket);
    }
    all_reduces_.clear();
}

// What bf16 on the way makes of a bucket, before the sum and after it: the numbers of a GPU's
// ranks, in messages of f32, which MPI can add.
void CpuExecutable::round_gradients(const graph::Bucket& bucket) {
    if (options_.gradient_type != DType::bf16 || communicators_.gradients->size() == 1) return;
    auto* values = reinterpret_cast<float*>(model_->gradients.data()) + bucket.offset;
    model_->threads.each(bucket.count,
                         [values](std::int64_t i) { values[i] = math::round_to_bf16(values[i]); });
}

void CpuExecutable::progress() {
    if (!all_reduces_.empty()) communicators_.gradients->progress();
    if (open_exchanges_ > 0) communicators_.batch_norm->progress();
}

void CpuExecutable::poison_dead(std::size_t node) {
    for (const graph::TensorId id : dying_[node]) {
        const graph::Placement& p = placement_.memory.placements[static_cast<std::size_t>(id)];
        model_->arena.poison(p.offset, p.bytes);
    }
}

void CpuExecutable::start(const exec::MicroBatch& micro_batch) {
    batch_.check_samples(micro_batch);
    batch_.check_images_and_labels(micro_batch);
    model_->threads.prepare();
    micro_batch_ = &micro_batch;
    result_ = {};
    all_reduces_.clear();
    open_exchanges_ = 0;
    std::copy_n(micro_batch.samples.begin(), keys_.size(), keys_.begin());
    load_inputs();
    if (options_.poison) {
        model_->arena.poison(0, model_->arena.bytes());
        model_->scratch.poison(0, model_->scratch.bytes());
    }
    bool updated = false;
    for (std::size_t i = 0; i < actions_.size(); ++i) {
        updated = updated || std::holds_alternative<graph::Update>(plan_.nodes[i].op);
        if (micro_batch.between_nodes && !updated) micro_batch.between_nodes();
        const auto start = Clock::now();
        actions_[i]();
        if (options_.time_nodes) node_seconds_[i] = seconds_since(start);
        progress();
        if (options_.poison) poison_dead(i);
    }
    finish_all_reduces();  // of a plan without Update
    if (plan_.loss != graph::none) result_.loss_sum = *view(plan_.loss).f64();
    micro_batch_ = nullptr;
}

std::vector<float> CpuExecutable::download(graph::TensorId tensor) {
    check_download(tensor);
    const View v = view(tensor);
    const graph::Space space = plan_.tensor(tensor).space;
    if (space == graph::Space::parameter || space == graph::Space::gradient) {
        return {v.f32(), v.f32() + v.shape.elements()};
    }
    switch (v.dtype) {
        case DType::f32: return unload<float>(v);
        case DType::f64: return unload<double>(v);
        case DType::u8: return unload<std::uint8_t>(v);
        default:
            throw LogicError(cat("the CPU backend has no tensors of ", deeplab::name(v.dtype)));
    }
}

}  // namespace deeplab::cpu
