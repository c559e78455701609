#pragma once
// A backend without a network: its logits are the input itself, sampled at the grid's points. What
// remains to see is the geometry of prediction: padding, scales, mirror, crop.

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/exec/backend.h"

namespace deeplab::testing {

class SamplingBackend : public exec::Backend {
public:
    std::int64_t largest_area = 1 << 30;  // of the padded input; above it compile() fails as if
                                          // memory were short
    int compiled = 0, alive = 0;

    std::string description() const override { return "sampling"; }
    void allocate(const graph::Plan&) override {}
    void upload(const graph::Parameter&, exec::Slot, std::span<const float>) override {}
    std::vector<float> download(const graph::Parameter&, exec::Slot) override { return {}; }
    void upload(const graph::State&, std::span<const float>) override {}
    std::vector<float> download(const graph::State&) override { return {}; }

    std::unique_ptr<exec::Executable> compile(const graph::Plan& plan,
                                              const exec::Communicators& communicators,
                                              const exec::CompileOptions&) override {
        EXPECT_TRUE(communicators.gradients != nullptr && communicators.batch_norm != nullptr);
        EXPECT_NE(communicators.gradients, communicators.batch_norm);
        const Shape input = plan.tensor(plan.images).shape;
        if (input.h * input.w > largest_area) throw DeviceError("out of memory");
        ++compiled;
        return std::make_unique<Run>(*this, plan);
    }

private:
    class Run : public exec::Executable {
    public:
        Run(SamplingBackend& owner, const graph::Plan& plan) : owner_(owner), plan_(plan) {
            ++owner_.alive;
        }
        ~Run() override { --owner_.alive; }

        void start(const exec::MicroBatch& step) override {
            const Shape in = plan_.tensor(plan_.images).shape,
                        out = plan_.tensor(plan_.logits).shape;
            EXPECT_EQ(static_cast<std::int64_t>(step.images.size()), in.elements());
            EXPECT_EQ(in.h, 4 * (out.h - 1) + 1);  // the grid's corners are the input's
            EXPECT_EQ(in.w, 4 * (out.w - 1) + 1);
            logits_.clear();
            for (std::int64_t c = 0; c < out.c; ++c) {
                for (std::int64_t y = 0; y < out.h; ++y) {
                    for (std::int64_t x = 0; x < out.w; ++x) {
                        logits_.push_back(step.images[static_cast<std::size_t>(
                            (c % 3 * in.h + 4 * y) * in.w + 4 * x)]);
                    }
                }
            }
        }
        exec::MicroBatchResult finish() override { return {}; }
        std::vector<float> download(graph::TensorId tensor) override {
            EXPECT_EQ(tensor, plan_.logits);
            return logits_;
        }
        const graph::MemoryPlan& memory() const override { return memory_; }

    private:
        SamplingBackend& owner_;
        const graph::Plan& plan_;  // the caller's
        std::vector<float> logits_;
        graph::MemoryPlan memory_;
    };
};

}  // namespace deeplab::testing
