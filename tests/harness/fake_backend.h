#pragma once
// A backend whose "network" is arithmetic on the first value of each parameter: for tests of what
// stands around the network, in milliseconds. Sums over ranks, momentum and running statistics
// behave like the real ones'.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/exec/backend.h"

namespace deeplab::testing {

class FakeBackend final : public exec::Backend {
public:
    std::int64_t not_finite_at = -1;  // the run (from 0) whose gradient is to be NaN
    // The sample that, in epoch 0, makes gradient, loss and statistics NaN on the rank that has it.
    std::int64_t poisoned = -1;
    // Like a GPU it takes decoded samples: the mean of all pixels stands for the crop's.
    bool decoded = false;
    std::int64_t room = 1 << 30;          // for keep_samples, bytes
    std::map<std::int64_t, double> kept;  // level by number
    std::vector<std::int64_t> came;       // of each batch: how many samples came with pixels
    bool prefetches = true;               // uses what prefetch() brought, and counts
    std::int64_t prefetched = 0;
    std::chrono::milliseconds step_time{0};
    // Evaluation: every pixel is of the class of the largest mean channel. Called for each image,
    // from 0.
    std::function<void(std::int64_t image)> on_inference;
    std::int64_t inferences = 0;
    std::int64_t largest_area = 1 << 30;  // of an image; above it memory is short
    double wait_limit_s = -1;             // that the last plan with a loss was compiled with

    bool takes_decoded_samples() const override { return decoded; }
    void keep_samples(std::span<const std::int64_t> pixels) override {
        std::int64_t bytes = 0;
        for (const std::int64_t p : pixels) bytes += 4 * p;
        if (bytes > room) throw DeviceError(std::to_string(bytes) + " bytes do not fit");
    }

    std::string description() const override { return "fake"; }

    void allocate(const graph::Plan& plan) override {
        expects(buffers_.empty(), "allocate is called once");
        for (const auto& p : plan.parameters) {
            for (const char* slot : {"value ", "gradient ", "momentum "}) {
                buffers_[slot + p.name].assign(static_cast<std::size_t>(p.shape.elements()), 0.0f);
            }
        }
        for (const auto& s : plan.states)
            buffers_["state " + s.name].assign(static_cast<std::size_t>(s.shape.elements()), 0.0f);
    }

    void upload(const graph::Parameter& p, exec::Slot slot, std::span<const float> data) override {
        put(key(p, slot), data);
    }
    std::vector<float> download(const graph::Parameter& p, exec::Slot slot) override {
        return buffers_.at(key(p, slot));
    }
    void upload(const graph::State& s, std::span<const float> data) override {
        put("state " + s.name, data);
    }
    std::vector<float> download(const graph::State& s) override {
        return buffers_.at("state " + s.name);
    }

    std::unique_ptr<exec::Executable> compile(const graph::Plan& plan,
                                              const exec::Communicators& communicators,
                                              const exec::CompileOptions& options) override;

private:
    friend class FakeExecutable;

    static std::string key(const graph::Parameter& p, exec::Slot slot) {
        const char* names[] = {"value ", "gradient ", "momentum "};
        return names[static_cast<int>(slot)] + p.name;
    }
    void put(const std::string& name, std::span<const float> data) {
        auto& buffer = buffers_.at(name);
        expects(buffer.size() == data.size(), "upload has the buffer's size");
        buffer.assign(data.begin(), data.end());
    }

    std::map<std::string, std::vector<float>> buffers_;
};

class FakeExecutable final : public exec::Executable {
public:
    FakeExecutable(FakeBackend& backend, const graph::Plan& plan,
                   const exec::Communicators& communicators)
        : backend_(backend), plan_(plan), communicators_(communicators) {}

    void prefetch(const exec::MicroBatch& next) override {
        if (!backend_.prefetches) return;
        taken_ = look_at(next);
        ++backend_.prefetched;
    }

    // Loss of a pixel: (parameter - mean of its image)^2; every parameter gets the same gradient.
    void start(const exec::MicroBatch& step) override {
        if (plan_.loss == graph::none) {
            if (backend_.on_inference) backend_.on_inference(backend_.inferences);
            ++backend_.inferences;
            return;
        }
        const bool taken = step.prefetched && backend_.prefetches;
        expects(!taken || !taken_.empty(), "what a step says was prefetched was");
        const std::vector<Sample> samples = taken ? taken_ : look_at(step);
        taken_.clear();
        const float value = backend_.buffers_.at("value " + plan_.parameters.front().name).front();
        if (step.first_micro) gradient_ = 0;
        exec::MicroBatchResult& result = result_ = {};
        double mean = 0;
        for (std::size_t n = 0; n < samples.size(); ++n) {
            const auto& [valid, level] = samples[n];
            gradient_ += valid * 2 * (value - level);
            result.loss_sum += valid * (value - level) * (value - level);
            mean += level / static_cast<double>(samples.size());
            if (step.samples[n].epoch == 0 &&
                static_cast<std::int64_t>(step.samples[n].sample) == backend_.poisoned)
                gradient_ = result.loss_sum = mean = std::numeric_limits<double>::quiet_NaN();
        }
        double statistics[] = {mean, 1};
        communicators_.batch_norm->all_reduce(statistics, 2, DType::f64, comm::ReduceOp::sum,
                                              "fake batch norm");
        for (const auto& s : plan_.states) {
            for (float& v : backend_.buffers_.at("state " + s.name)) {
                v = static_cast<float>(0.9 * v + 0.1 * statistics[0] / statistics[1]);
            }
        }
        if (step.between_nodes) step.between_nodes();
        if (step.last_micro) update(step, result);
        ++runs_;
        std::this_thread::sleep_for(backend_.step_time);
    }
    exec::MicroBatchResult finish() override { return result_; }

    // Logits that depend on the parameter alone: one class everywhere.
    std::vector<float> download(graph::TensorId id) override {
        expects(id == plan_.logits, "the fake backend keeps no other tensor");
        const Shape& shape = plan_.tensor(id).shape;
        const float value = backend_.buffers_.at("value " + plan_.parameters.front().name).front();
        const auto best = static_cast<std::int64_t>(std::abs(value) * 1000) % shape.c;
        std::vector<float> logits(static_cast<std::size_t>(shape.elements()), 0.0f);
        const auto area = static_cast<std::ptrdiff_t>(shape.h * shape.w);
        std::fill_n(logits.begin() + best * area, area, 1.0f);
        return logits;
    }
    const graph::MemoryPlan& memory() const override { return memory_; }

private:
    struct Sample {
        double valid, level;
    };
    std::vector<Sample> look_at(const exec::MicroBatch& step) {
        if (!step.decoded.empty()) backend_.came.push_back(0);
        std::vector<Sample> samples;
        for (const exec::DecodedSample& decoded : step.decoded)
            samples.push_back({static_cast<double>(decoded.crop.size()), level_of(decoded)});
        if (!step.decoded.empty()) return samples;
        const auto count = static_cast<std::size_t>(plan_.tensor(plan_.images).shape.n);
        const std::size_t pixels = step.labels.size() / count, values = step.images.size() / count;
        for (std::size_t n = 0; n < count; ++n) {
            double valid = 0, level = 0;
            for (const float v : step.images.subspan(n * values, values))
                level += v / static_cast<double>(values);
            for (const auto label : step.labels.subspan(n * pixels, pixels))
                valid += label != 255 ? 1 : 0;
            samples.push_back({valid, level});
        }
        return samples;
    }
    double level_of(const exec::DecodedSample& sample) {
        if (!sample.pixels.empty()) {
            ++backend_.came.back();
            double sum = 0;
            for (const auto v : sample.pixels) sum += v;
            const double level = sum / (255.0 * static_cast<double>(sample.pixels.size()));
            if (sample.number < 0) return level;
            backend_.kept[sample.number] = level;
        }
        return backend_.kept.at(sample.number);
    }
    void update(const exec::MicroBatch& step, exec::MicroBatchResult& result) {
        double gradient = gradient_;
        communicators_.gradients->all_reduce(&gradient, 1, DType::f64, comm::ReduceOp::sum,
                                             "fake gradient");
        gradient = step.valid_pixels > 0 ? gradient / step.valid_pixels : 0;
        if (runs_ == backend_.not_finite_at) gradient = std::numeric_limits<double>::quiet_NaN();
        result.gradient_norm = std::abs(gradient);
        result.finite = std::isfinite(gradient);
        if (!result.finite) return;
        for (const auto& p : plan_.parameters) {
            float& v = backend_.buffers_.at("value " + p.name).front();
            float& m = backend_.buffers_.at("momentum " + p.name).front();
            m = static_cast<float>(0.9 * m + gradient);
            v = static_cast<float>(v - step.learning_rate * m);
        }
    }

    FakeBackend& backend_;
    graph::Plan plan_;
    exec::Communicators communicators_;
    graph::MemoryPlan memory_;
    std::vector<Sample> taken_;
    exec::MicroBatchResult result_;
    double gradient_ = 0;
    std::int64_t runs_ = 0;
};

inline std::unique_ptr<exec::Executable> FakeBackend::compile(
    const graph::Plan& plan, const exec::Communicators& communicators,
    const exec::CompileOptions& options) {
    const Shape& input = plan.tensor(plan.images).shape;
    if (plan.loss == graph::none && input.h * input.w > largest_area)
        throw DeviceError("no memory for an image");
    if (plan.loss != graph::none) wait_limit_s = options.wait_limit_s;
    return std::make_unique<FakeExecutable>(*this, plan, communicators);
}

}  // namespace deeplab::testing
