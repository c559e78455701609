// Running a compiled plan.

#include "executable.h"

#include <algorithm>

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

void CpuExecutable::check(const exec::Step& step) const {
    expects(static_cast<std::int64_t>(step.images.size()) == image_elements_,
            "a step has the plan's images");
    expects(static_cast<std::int64_t>(step.labels.size()) == label_elements_,
            "a step has the plan's labels");
    expects(
        dropout_samples_ == 0 || static_cast<std::int64_t>(step.samples.size()) == dropout_samples_,
        "a step of a plan with dropout has the plan's samples");
}

// An unknown class would read another pixel's logit.
void CpuExecutable::check_labels(std::span<const std::uint8_t> labels) const {
    const auto wrong = std::find_if(labels.begin(), labels.end(), [&](std::uint8_t label) {
        return label >= classes_ && label != ignore_;
    });
    if (wrong == labels.end()) return;
    throw DataError(cat(
        "label ", static_cast<int>(*wrong), " in sample ", (wrong - labels.begin()) / label_pixels_,
        " of the batch, of ", classes_, " classes and ignore label ", ignore_,
        " — the loss is not defined there — pack the data set again or change model.num_classes"));
}

// The inputs of one element type follow one another in the step's span, in the order of their ids.
void CpuExecutable::load_inputs() {
    const float* image = step_->images.data();
    const std::uint8_t* label = step_->labels.data();
    if (classes_ > 0) check_labels(step_->labels);
    for (std::size_t t = 0; t < views_.size(); ++t) {
        if (plan_.tensors[t].space != graph::Space::input) continue;
        const View& v = views_[t];
        if (v.dtype == DType::f32) {
            load(model_->threads, image, v);
            if (plan_.tensors[t].dtype == DType::bf16) round_to_bf16(model_->threads, v, v);
            image += v.shape.elements();
        } else {
            load(model_->threads, label, v);
            label += v.shape.elements();
        }
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
        round_traffic(bucket);
    }
    all_reduces_.clear();
}

// What bf16 on the way makes of a bucket, before the sum and after it: the numbers of a GPU's
// ranks, in messages of f32, which MPI can add.
void CpuExecutable::round_traffic(const graph::Bucket& bucket) {
    if (options_.gradient_traffic != DType::bf16 || communicators_.gradients->size() == 1) return;
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
        const graph::Placement& p = memory_.placements[static_cast<std::size_t>(id)];
        model_->arena.poison(p.offset, p.bytes);
    }
}

void CpuExecutable::start(const exec::Step& step) {
    check(step);
    model_->threads.prepare();
    step_ = &step;
    result_ = {};
    all_reduces_.clear();
    open_exchanges_ = 0;
    for (std::size_t i = 0; i < keys_.size(); ++i)
        keys_[i] = {step.samples[i].epoch, step.samples[i].sample};
    load_inputs();
    if (options_.poison) {
        model_->arena.poison(0, model_->arena.bytes());
        model_->scratch.poison(0, model_->scratch.bytes());
    }
    bool updated = false;
    for (std::size_t i = 0; i < steps_.size(); ++i) {
        updated = updated || std::holds_alternative<graph::Update>(plan_.nodes[i].op);
        if (step.between_nodes && !updated) step.between_nodes();
        const auto start = Clock::now();
        steps_[i]();
        if (options_.time_nodes) node_seconds_[i] = seconds_since(start);
        progress();
        if (options_.poison) poison_dead(i);
    }
    finish_all_reduces();  // of a plan without Update
    if (plan_.loss != graph::none) result_.loss_sum = *view(plan_.loss).f64();
    step_ = nullptr;
}

std::vector<float> CpuExecutable::download(graph::TensorId tensor) {
    expects(tensor >= 0 && static_cast<std::size_t>(tensor) < views_.size(),
            "the tensor belongs to the plan");
    const View& v = views_[static_cast<std::size_t>(tensor)];
    const graph::Tensor& t = plan_.tensor(tensor);
    expects(t.space != graph::Space::arena || plan_.tensor(plan_.root(tensor)).keep,
            "download() of a kept tensor");
    if (t.space == graph::Space::parameter || t.space == graph::Space::gradient) {
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
