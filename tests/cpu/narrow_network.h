#pragma once
// A narrow DeepLabV3+ with generated images, ready to train.

#include <cmath>
#include <memory>
#include <vector>

#include "deeplab/comm/communicator.h"
#include "deeplab/cpu/cpu_backend.h"
#include "deeplab/graph/builder.h"
#include "deeplab/math/philox.h"
#include "deeplab/model/deeplab.h"

namespace deeplab::testing {

inline model::ModelConfig narrow(const char* backbone, int divisor, float dropout = 0.1f) {
    model::ModelConfig c;
    c.backbone = backbone;
    c.num_classes = 5;
    c.dropout = {dropout, dropout, dropout};
    c.width_divisor = divisor;
    return c;
}

struct Batch {
    std::vector<float> images;
    std::vector<std::uint8_t> labels;
    std::vector<math::SampleKey> samples;
    double valid = 0;

    // Images that say what the labels are: the class is a square's brightness.
    Batch(std::int64_t n, std::int64_t size) {
        for (std::int64_t i = 0; i < n; ++i) {
            samples.push_back({0, static_cast<std::uint32_t>(i)});
            for (std::int64_t c = 0; c < 3; ++c) {
                for (std::int64_t p = 0; p < size * size; ++p) {
                    const std::int64_t truth = (p / size / 16 + p % size / 16 + i) % 5;
                    const auto noise = math::uniform(
                        math::philox(3,
                                     {{static_cast<std::uint32_t>(p), static_cast<std::uint32_t>(c),
                                       static_cast<std::uint32_t>(i), 0}})
                            .v[0]);
                    images.push_back(static_cast<float>(truth - 2) + 0.5f * noise);
                    if (c == 0)
                        labels.push_back(p % 11 == 0 ? 255 : static_cast<std::uint8_t>(truth));
                }
            }
        }
        for (const std::uint8_t label : labels) valid += label != 255 ? 1 : 0;
    }
    exec::MicroBatch step(double learning_rate = 0.02) const {
        exec::MicroBatch s;
        s.images = images;
        s.labels = labels;
        s.samples = samples;
        s.learning_rate = learning_rate;
        s.valid_pixels = valid;
        return s;
    }
};

struct Trainer {
    graph::Plan plan;
    std::unique_ptr<exec::Backend> backend;
    std::unique_ptr<comm::Communicator> gradients = comm::make_self(),
                                        batch_norm = comm::make_self();
    std::unique_ptr<exec::Executable> executable;

    Trainer(const model::ModelConfig& config, const model::TrainingOptions& options,
            const exec::CompileOptions& compile = {.seed = 9}, int threads = 2,
            DType activations = DType::f32)
        : Trainer(config, options, compile, cpu::make_cpu_backend(threads), activations) {}
    Trainer(const model::ModelConfig& config, const model::TrainingOptions& options,
            const exec::CompileOptions& compile, std::unique_ptr<exec::Backend> device,
            DType activations = DType::f32)
        : plan(model::training_plan(
              config, options,
              {.momentum = 0.9f, .weight_decay = 1e-4f, .clip_norm = 0, .groups = {}})),
          backend(std::move(device)) {
        graph::set_activation_type(plan, activations);
        backend->allocate(plan);
        for (const graph::Parameter& p : plan.parameters) {
            backend->upload(p, exec::Slot::value, model::initial_value(p, plan, 1));
        }
        for (const graph::State& s : plan.states) {
            backend->upload(s, std::vector<float>(static_cast<std::size_t>(s.shape.c), s.initial));
        }
        executable = backend->compile(plan, communicators(), compile);
    }
    exec::Communicators communicators() const { return {gradients.get(), batch_norm.get()}; }

    // Everything a step changes.
    std::vector<float> state(exec::Slot slot = exec::Slot::value) const {
        std::vector<float> all;
        for (const graph::Parameter& p : plan.parameters) {
            const std::vector<float> v = backend->download(p, slot);
            all.insert(all.end(), v.begin(), v.end());
        }
        for (const graph::State& s : plan.states) {
            const std::vector<float> v = backend->download(s);
            all.insert(all.end(), v.begin(), v.end());
        }
        return all;
    }
};

inline model::TrainingOptions options(std::int64_t batch, std::int64_t size, bool freeze = false) {
    model::TrainingOptions o;
    o.batch = batch;
    o.height = o.width = size;
    o.freeze_bn = freeze;
    o.ignore_label = 255;
    o.bucket_bytes = 1 << 16;
    o.keep_logits = true;
    return o;
}

}  // namespace deeplab::testing
