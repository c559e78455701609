// The CUDA backend on the host: its kernels through the shim, plain loops in cuDNN's place. What it
// does with a plan (places, order, flags, graphs, copies) is held to the CPU backend.

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "cpu/narrow_network.h"
#include "deeplab/base/error.h"
#include "harness/device.h"

namespace deeplab {
namespace {

using testing::Batch;
using testing::device;
using testing::narrow;
using testing::options;
using testing::Trainer;

Trainer cuda_trainer(const model::ModelConfig& config, const model::TrainingOptions& training,
                     DType activations = DType::f32, bool graph = true) {
    exec::CompileOptions compile;
    compile.seed = 9;
    compile.cuda_graph = graph;
    return Trainer(config, training, compile, device(0), activations);
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
    EXPECT_EQ(a.size(), b.size());
    double difference = 0, norm = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
        difference += d * d;
        norm += static_cast<double>(b[i]) * static_cast<double>(b[i]);
    }
    return std::sqrt(difference / std::max(norm, 1e-30));
}

TEST(CudaExecutor, TakesTheCpusSteps) {
    const auto config = narrow("resnet18", 16);
    const Batch batch(4, 33);
    Trainer expected(config, options(4, 33), {.seed = 9}),
        tested = cuda_trainer(config, options(4, 33));
    // Eager, captured, replayed. A rate at which rounding does not grow into another trajectory.
    for (int i = 0; i < 4; ++i) {
        const auto a = tested.executable->run(batch.step(1e-3)),
                   b = expected.executable->run(batch.step(1e-3));
        EXPECT_NEAR(a.loss_sum / b.loss_sum, 1, i == 0 ? 1e-5 : 1e-4) << "step " << i;
        EXPECT_NEAR(a.gradient_norm / b.gradient_norm, 1, i == 0 ? 1e-4 : 1e-3) << "step " << i;
        EXPECT_TRUE(a.finite);
        if (i > 0) continue;
        EXPECT_LT(
            distance(tested.state(exec::Slot::gradient), expected.state(exec::Slot::gradient)),
            1e-4);
        EXPECT_LT(distance(tested.executable->download(tested.plan.logits),
                           expected.executable->download(expected.plan.logits)),
                  1e-5);
    }
    EXPECT_LT(distance(tested.state(), expected.state()), 1e-4);
}

TEST(CudaExecutor, TakesTheEmulatedBf16Steps) {
    const auto config = narrow("resnet18", 16);
    const Batch batch(4, 33);
    Trainer exact(config, options(4, 33), {.seed = 9}),
        emulated(config, options(4, 33), {.seed = 9}, 2, DType::bf16),
        tested = cuda_trainer(config, options(4, 33), DType::bf16);
    const auto a = tested.executable->run(batch.step()), b = emulated.executable->run(batch.step());
    exact.executable->run(batch.step());
    EXPECT_NEAR(a.loss_sum / b.loss_sum, 1, 2e-2);
    // Random weights: one rounding that falls the other way moves the logits as far as all of them
    // do. So: as far from fp32 as the emulation.
    const auto logits = [](const Trainer& t) { return t.executable->download(t.plan.logits); };
    const double of_emulated = distance(logits(emulated), logits(exact)),
                 of_tested = distance(logits(tested), logits(exact));
    EXPECT_LT(of_tested, 2 * of_emulated);
    EXPECT_GT(of_tested, 0.5 * of_emulated) << "rounds less than bf16";
    // The copy that convolutions read follows the update.
    const double first = a.loss_sum;
    double last = 0;
    for (int i = 0; i < 8; ++i) last = tested.executable->run(batch.step()).loss_sum;
    EXPECT_LT(last, 0.8 * first);
}

// A classifier's bias whose lower halves, read as bf16, are enormous: what convolutions of bf16
// activations read is the bf16 copy, from the first step on.
TEST(CudaExecutor, Bf16StepsReadTheBf16Bias) {
    auto config = narrow("resnet18", 16);
    config.num_classes = 21;
    const Batch batch(4, 33);
    Trainer emulated(config, options(4, 33), {.seed = 9}, 2, DType::bf16),
        tested = cuda_trainer(config, options(4, 33), DType::bf16);
    std::size_t biases = 0;
    for (const graph::Parameter& p : tested.plan.parameters) {
        if (p.kind != graph::ParameterKind::bias) continue;
        std::vector<float> values;
        for (std::uint32_t i = 0; i < static_cast<std::uint32_t>(p.shape.elements()); ++i)
            values.push_back(std::bit_cast<float>(0x3d805f00u + (i << 17) + i));  // 0.06 and more
        tested.backend->upload(p, exec::Slot::value, values);
        emulated.backend->upload(p, exec::Slot::value, values);
        ++biases;
    }
    ASSERT_GT(biases, 0u);
    for (int i = 0; i < 4; ++i) {
        const double a = tested.executable->run(batch.step(5e-4)).loss_sum,
                     b = emulated.executable->run(batch.step(5e-4)).loss_sum;
        EXPECT_NEAR(a / b, 1, 2e-2) << "step " << i;
    }
}

// What is compared with one another below has the same engines: nothing is timed for a test.
TEST(CudaExecutor, TestsTimeNoEngines) {
    Trainer t = cuda_trainer(narrow("resnet18", 16), options(1, 33));
    t.executable = t.backend->compile(t.plan, t.communicators(), {.seed = 9, .tune = true});
    EXPECT_EQ(t.backend->engines().timed, 0);
    EXPECT_EQ(t.backend->engines().known, 0) << "from a file";
}

// The launches of a replayed graph are those of eager steps, bit for bit.
TEST(CudaExecutor, GraphsAndEagerStepsAgree) {
    const auto config = narrow("resnet18", 16);
    Trainer captured = cuda_trainer(config, options(2, 33)),
            eager = cuda_trainer(config, options(2, 33), DType::f32, false);
    for (int i = 0; i < 4; ++i) {
        const Batch batch(2, 33);
        exec::MicroBatch step = batch.step(0.02 /
                                           (1 + i));  // what changes is read from device memory
        const std::vector<math::SampleKey> samples = {{static_cast<std::uint32_t>(i), 4},
                                                      {static_cast<std::uint32_t>(i), 7}};
        step.samples = samples;
        EXPECT_EQ(captured.executable->run(step).loss_sum, eager.executable->run(step).loss_sum);
    }
    EXPECT_EQ(captured.state(), eager.state());
    EXPECT_EQ(captured.state(exec::Slot::momentum), eager.state(exec::Slot::momentum));
}

TEST(CudaExecutor, AccumulatesMicroBatches) {
    const auto config = narrow("resnet18", 16, 0.0f);
    const Batch one(2, 33);
    Trainer expected(config, options(2, 33), {.seed = 9}),
        tested = cuda_trainer(config, options(2, 33));
    for (int i = 0; i < 6; ++i) {
        exec::MicroBatch step = one.step();
        step.first_micro = i % 3 == 0;
        step.last_micro = i % 3 == 2;
        step.valid_pixels = 3 * one.valid;
        const auto a = tested.executable->run(step), b = expected.executable->run(step);
        EXPECT_NEAR(a.loss_sum / b.loss_sum, 1, 1e-3) << i;
        if (i == 2) {
            EXPECT_NEAR(a.gradient_norm / b.gradient_norm, 1, 1e-3);
        }
    }
    EXPECT_LT(distance(tested.state(), expected.state()), 1e-2);
}

// A larger plan moves the memory that plans share.
TEST(CudaExecutor, PlansOfOneBackendTakeTurns) {
    const auto config = narrow("resnet18", 16);
    Trainer expected(config, options(2, 33), {.seed = 9}),
        tested = cuda_trainer(config, options(2, 33));
    const Batch batch(2, 33);
    for (Trainer* t : {&expected, &tested})
        for (int i = 0; i < 2; ++i) t->executable->run(batch.step());
    const graph::Plan inference = model::inference_plan(config, 1, 97, 81);
    std::vector<std::vector<float>> logits;
    for (Trainer* t : {&expected, &tested}) {
        const auto executable = t->backend->compile(inference, t->communicators(), {});
        std::vector<float> images(3 * 97 * 81);
        for (std::size_t i = 0; i < images.size(); ++i)
            images[i] = std::sin(0.01f * static_cast<float>(i));
        exec::MicroBatch step;
        step.images = images;
        executable->run(step);
        logits.push_back(executable->download(inference.logits));
        for (int i = 0; i < 2; ++i) t->executable->run(batch.step());
    }
    EXPECT_LT(distance(logits[1], logits[0]), 1e-2);
    EXPECT_LT(distance(tested.state(), expected.state()), 1e-2);
}

TEST(CudaExecutor, AnUpdateThatIsNotFiniteChangesNothing) {
    const auto config = narrow("resnet18", 16);
    Trainer tested = cuda_trainer(config, options(2, 33));
    const Batch batch(2, 33);
    tested.executable->run(batch.step());
    const auto before = tested.backend->download(tested.plan.parameters[0], exec::Slot::value);
    Batch bad = batch;
    bad.images[5] = std::nanf("");
    EXPECT_FALSE(tested.executable->run(bad.step()).finite);
    EXPECT_EQ(tested.backend->download(tested.plan.parameters[0], exec::Slot::value), before);
}

TEST(CudaExecutor, FrozenStatisticsStay) {
    const auto config = narrow("resnet18", 16);
    Trainer expected(config, options(2, 33, true), {.seed = 9}),
        tested = cuda_trainer(config, options(2, 33, true));
    const Batch batch(2, 33);
    const auto a = tested.executable->run(batch.step()), b = expected.executable->run(batch.step());
    EXPECT_NEAR(a.loss_sum / b.loss_sum, 1, 1e-4);
    EXPECT_LT(distance(tested.state(), expected.state()), 1e-4);
    for (const graph::State& s : tested.plan.states)
        for (const float v : tested.backend->download(s)) ASSERT_EQ(v, s.initial);
}

TEST(CudaExecutor, UploadsComeBackAndWrongLabelsAreRefused) {
    const auto config = narrow("resnet50", 16);
    Trainer tested = cuda_trainer(config, options(2, 33));
    for (const graph::Parameter& p : tested.plan.parameters)
        ASSERT_EQ(tested.backend->download(p, exec::Slot::value),
                  model::initial_value(p, tested.plan, 1));
    Batch batch(2, 33);
    batch.labels[7] = 99;
    EXPECT_THROW(tested.executable->run(batch.step()), DataError);
}

TEST(CudaExecutor, TellsTheTimeOfEveryNode) {
    Trainer tested(narrow("resnet18", 16), options(2, 33), {.time_nodes = true}, device(0));
    const Batch batch(2, 33);
    tested.executable->run(batch.step());
    EXPECT_EQ(tested.executable->node_seconds().size(), tested.plan.nodes.size());
}

}  // namespace
}  // namespace deeplab
