// What the executor does with memory, as the stand-in for CUDA sees it.

#include <cuda_runtime.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "cpu/narrow_network.h"
#include "cuda/executor/host_engines.h"
#include "cuda/executor/samples.h"
#include "deeplab/base/error.h"
#include "deeplab/cuda/cuda_backend.h"
#include "harness/device.h"

namespace deeplab::testing {
namespace {

using shim::counts;
using shim::Place;
using ::testing::HasSubstr;

const model::ModelConfig config = narrow("resnet18", 16);

Trainer trainer(bool nccl = false, bool frozen_statistics = false) {
    cuda::CudaOptions cuda;
    cuda.nccl = nccl;
    return {config, options(2, 33, frozen_statistics), {.seed = 9}, cuda::make_cuda_backend(cuda)};
}

// A network that labels one image, and what it says of it.
struct Evaluation {
    graph::Plan plan;
    std::unique_ptr<exec::Executable> executable;

    Evaluation(const Trainer& t, std::int64_t height, std::int64_t width)
        : plan(model::inference_plan(config, 1, height, width)),
          executable(t.backend->compile(plan, t.communicators(), {})) {}
    std::vector<float> logits() const {
        std::vector<float> images(
            static_cast<std::size_t>(plan.tensor(plan.images).shape.elements()));
        for (std::size_t i = 0; i < images.size(); ++i)
            images[i] = std::sin(0.01f * static_cast<float>(i));
        exec::MicroBatch step;
        step.images = images;
        executable->run(step);
        return executable->download(plan.logits);
    }
};

// An image that is larger than the step's memory is one rank's alone: what the captured step holds
// stays where it is, and the step is the same graph afterwards. Also of a step that sums gradients
// alone.
class CapturedStepWithSums : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(FrozenStatistics, CapturedStepWithSums, ::testing::Bool());
TEST_P(CapturedStepWithSums, SlowIsNotMadeAgainAfterALargerEvaluation) {
    Trainer tested = trainer(true, GetParam()), expected = trainer(true, GetParam());
    const Batch batch(2, 33);
    const auto step = [&](const Trainer& t) {
        const std::int64_t launches = counts().launches, captures = counts().captures;
        const double loss = t.executable->run(batch.step()).loss_sum;
        return std::tuple(loss, counts().launches - launches, counts().captures - captures);
    };
    for (int i = 0; i < 3; ++i) EXPECT_EQ(step(tested), step(expected)) << i;
    for (int i = 0; i < 2; ++i) {
        const Evaluation larger(tested, 161 + 32 * i, 129);
        ASSERT_GT(larger.executable->memory().arena_bytes, tested.executable->memory().arena_bytes);
        larger.logits();
        const auto [loss, launches, captures] = step(tested);
        const auto [expected_loss, of_replay, none] = step(expected);
        EXPECT_EQ(loss, expected_loss);
        EXPECT_EQ(launches, of_replay) << "a step that was launched eagerly";
        EXPECT_EQ(captures, 0);
        EXPECT_EQ(none, 0);
    }
    EXPECT_EQ(tested.state(), expected.state());
}

// Libraries load their code in a run that is not captured: the first of each kind of micro-batch.
TEST(CapturedStep, IsTheSecondOfItsKind) {
    const Trainer t = trainer(true);
    const Batch batch(2, 33);
    std::vector<std::int64_t> captures;
    for (int i = 0; i < 6; ++i) {
        exec::MicroBatch step = batch.step();
        step.first_micro = i % 2 == 0;
        step.last_micro = i % 2 == 1;
        const std::int64_t before = counts().captures;
        t.executable->run(step);
        captures.push_back(counts().captures - before);
    }
    EXPECT_THAT(captures, ::testing::ElementsAre(0, 0, 1, 1, 0, 0));
}

// Evaluation takes no memory for its runs where the step's suffices, and that of the largest image
// where it does not.
TEST(RunMemory, IsSharedAsFarAsItSuffices) {
    const Trainer t = trainer();
    // What the first plan of a size takes beyond what each of them has for itself.
    const auto shared_by = [&](std::int64_t side) {
        const auto room = [] { return static_cast<std::int64_t>(shim::free_room(Place::device)); };
        const std::int64_t before = room();
        const Evaluation first(t, side, side);
        const std::int64_t between = room();
        const Evaluation second(t, side, side);
        return std::pair(before - between - (between - room()),
                         first.executable->memory().arena_bytes);
    };
    EXPECT_EQ(shared_by(33).first, 0);
    const auto [large, large_arena] = shared_by(193);
    EXPECT_GE(large, large_arena);
    const auto [larger, larger_arena] = shared_by(225);
    EXPECT_GT(larger_arena, large_arena);
    EXPECT_LT(larger, larger_arena) << "the smaller one is given back";
    EXPECT_EQ(shared_by(193).first, 0);
}

// A plan whose memory was given up for a larger one that then was not there takes new memory.
TEST(RunMemory, IsTakenAgainAfterALargerPlanHasFailed) {
    const Trainer t = trainer();
    const Evaluation evaluation(t, 193, 193);
    const std::vector<float> expected = evaluation.logits();
    evaluation.logits();  // captured
    {
        const shim::LimitedRoom limit(Place::device, 0);
        EXPECT_THROW(Evaluation(t, 321, 321), DeviceError);
    }
    EXPECT_EQ(evaluation.logits(), expected);
}

// Where a larger workspace moves the scratch memory alone, a captured plan is made again, too.
TEST(RunMemory, IsTakenAgainAfterTheScratchMemoryAloneHasMoved) {
    const Trainer t = trainer();
    host_library().workspace = 1 << 20;
    const Evaluation evaluation(t, 33, 33);
    const std::vector<float> expected = evaluation.logits();
    evaluation.logits();  // captured
    host_library().workspace = 2 << 20;
    const Evaluation other(t, 33, 17);
    host_library() = {};
    ASSERT_LE(evaluation.executable->memory().arena_bytes, t.executable->memory().arena_bytes);
    EXPECT_EQ(evaluation.logits(), expected);
}

// A batch that is larger than the ones before comes while a step is under way.
TEST(Inboxes, GrowWithoutFreeingDuringAStep) {
    const shim::OtherSchedule late(shim::Schedule::late);
    model::TrainingOptions sizes = options(2, crop.height);
    sizes.width = crop.width;
    const Trainer t{config, sizes, {.seed = 9}, cuda::make_cuda_backend({})};
    const auto step_of = [](const Samples& samples,
                            const std::vector<exec::DecodedSample>& decoded) {
        exec::MicroBatch step = samples.step();
        step.decoded = decoded;
        return step;
    };
    std::size_t before = 0;
    for (std::uint32_t i = 0; i < 4; ++i) {
        const Samples now(2, 4 * i), next(2, 4 * i + 4);
        const auto decoded = now.decoded_samples(), next_decoded = next.decoded_samples();
        exec::MicroBatch step = step_of(now, decoded);
        step.prefetched = i > 0;
        t.executable->start(step);
        const std::int64_t frees = counts().frees_while_busy,
                           allocations = counts().device_allocations;
        t.executable->prefetch(step_of(next, next_decoded));
        EXPECT_EQ(counts().device_allocations, allocations + 1);
        EXPECT_EQ(counts().frees_while_busy, frees) << "step " << i;
        before = shim::free_room(Place::device);
        t.executable->finish();
    }
    EXPECT_GT(shim::free_room(Place::device), before) << "what was too small is freed after a step";
}

// Hundreds of tensors go to and fro by the same memory, which is pinned.
TEST(Snapshots, AllocateNothingForATensor) {
    const Trainer t = trainer();
    const std::int64_t device = counts().device_allocations, pinned = counts().pinned_allocations,
                       pageable = counts().pageable_copies;
    for (const graph::Parameter& p : t.plan.parameters) {
        t.backend->upload(p, exec::Slot::momentum, t.backend->download(p, exec::Slot::value));
        EXPECT_EQ(t.backend->download(p, exec::Slot::momentum),
                  t.backend->download(p, exec::Slot::value));
    }
    for (const graph::State& s : t.plan.states) t.backend->upload(s, t.backend->download(s));
    EXPECT_EQ(counts().device_allocations, device);
    EXPECT_EQ(counts().pinned_allocations, pinned);
    EXPECT_EQ(counts().pageable_copies, pageable);
}

// What comes after the samples, an evaluation with a workspace above all, has its memory, too.
TEST(KeptSamplesMemory, LeavesRoomForEvaluation) {
    constexpr std::size_t gib = std::size_t{1} << 30;
    const Trainer t = trainer();
    const std::vector<std::int64_t> pixels(16, 1 << 20);  // 64 MiB
    {
        const shim::LimitedRoom limit(Place::device, 2 * gib + (60 << 20));
        try {
            t.backend->keep_samples(pixels);
            FAIL() << "less than 2 GiB are left";
        } catch (const DeviceError& error) {
            EXPECT_THAT(error.what(), HasSubstr("2.00 GiB more are left to evaluation"));
        }
    }
    const shim::LimitedRoom limit(Place::device, 2 * gib + (68 << 20));
    t.backend->keep_samples(pixels);
    EXPECT_GE(shim::free_room(Place::device), 2 * gib);
}

// The bf16 copy of the parameters follows the updates of a plan that does not write it.
TEST(Bf16Copy, FollowsTheUpdatesOfOtherPlans) {
    const Trainer tested = trainer(), fresh = trainer();
    graph::Plan plan = model::inference_plan(config, 1, 33, 33);
    graph::set_activation_type(plan, DType::bf16);
    const std::vector<float> images(3 * 33 * 33, 0.5f);
    exec::MicroBatch look;
    look.images = images;
    const Batch batch(2, 33);
    const auto early = tested.backend->compile(plan, tested.communicators(), {});
    early->run(look);
    for (const Trainer* t : {&tested, &fresh})
        for (int i = 0; i < 3; ++i) t->executable->run(batch.step());
    early->run(look);
    const auto late = fresh.backend->compile(plan, fresh.communicators(), {});
    late->run(look);
    EXPECT_EQ(early->download(plan.logits), late->download(plan.logits));
}

// Nor is it made again where nothing has been updated.
TEST(Bf16Copy, IsMadeAgainAfterUpdatesAlone) {
    const Trainer t = trainer();
    graph::Plan plan = model::inference_plan(config, 1, 33, 33);
    graph::set_activation_type(plan, DType::bf16);
    const std::vector<float> images(3 * 33 * 33, 0.5f);
    exec::MicroBatch look;
    look.images = images;
    const auto looking = t.backend->compile(plan, t.communicators(), {});
    const auto launches_of_a_look = [&] {
        const std::int64_t before = counts().launches;
        looking->run(look);
        return counts().launches - before;
    };
    for (int i = 0; i < 2; ++i) looking->run(look);  // captured
    const std::int64_t replay = launches_of_a_look();
    const Batch batch(2, 33);
    exec::MicroBatch step = batch.step();
    step.last_micro = false;
    t.executable->run(step);
    EXPECT_EQ(launches_of_a_look(), replay) << "a micro-batch that updates nothing";
    t.executable->run(batch.step());
    EXPECT_EQ(launches_of_a_look(), replay + 1);
}

}  // namespace
}  // namespace deeplab::testing
