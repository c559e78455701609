// Gradients that travel between ranks as bf16.

#include <gtest/gtest.h>

#include "cpu/narrow_network.h"
#include "deeplab/math/bf16.h"
#include "harness/device.h"
#include "twin.h"

namespace deeplab {
namespace {

using testing::Batch;
using testing::Trainer;
using testing::Twin;

// The gradients after a step of two micro-batches.
std::vector<float> gradients(std::unique_ptr<exec::Backend> backend, DType type, bool overlap) {
    exec::CompileOptions compile;
    compile.seed = 9;
    Trainer t(testing::narrow("resnet18", 16), testing::options(2, 33), compile,
              std::move(backend));
    t.gradients = std::make_unique<Twin>();
    compile.gradient_type = type;
    compile.overlap = overlap;
    t.executable = t.backend->compile(t.plan, t.communicators(), compile);
    const Batch batch(2, 33);
    for (const bool last : {false, true}) {
        exec::MicroBatch step = batch.step(0);
        step.valid_pixels = 4 * batch.valid;
        step.first_micro = !last;
        step.last_micro = last;
        t.executable->run(step);
    }
    std::vector<float> all;
    for (const graph::Parameter& p : t.plan.parameters) {
        const std::vector<float> g = t.backend->download(p, exec::Slot::gradient);
        all.insert(all.end(), g.begin(), g.end());
    }
    return all;
}

void expect_rounded_once(const std::vector<float>& f32, const std::vector<float>& bf16) {
    ASSERT_EQ(f32.size(), bf16.size());
    std::size_t moved = 0;
    for (std::size_t i = 0; i < f32.size(); ++i) {
        ASSERT_EQ(bf16[i], math::round_to_bf16(f32[i])) << i;  // doubling is exact
        if (bf16[i] != f32[i]) ++moved;
    }
    EXPECT_GT(moved, f32.size() / 2);
}

TEST(GradientType, IsRoundedToBf16OnTheGpu) {
    const auto exact = gradients(testing::device(0), DType::f32, true);
    expect_rounded_once(exact, gradients(testing::device(0), DType::bf16, true));
    expect_rounded_once(exact, gradients(testing::device(0), DType::bf16, false));
}

TEST(GradientType, IsRoundedToBf16OnTheCpu) {
    const auto exact = gradients(cpu::make_cpu_backend(1), DType::f32, true);
    expect_rounded_once(exact, gradients(cpu::make_cpu_backend(1), DType::bf16, true));
    expect_rounded_once(exact, gradients(cpu::make_cpu_backend(1), DType::bf16, false));
}

}  // namespace
}  // namespace deeplab
