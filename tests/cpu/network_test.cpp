// Whole plans of a narrow DeepLabV3+.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "harness/compare.h"
#include "narrow_network.h"

namespace deeplab::testing {
namespace {

class NetworkTest : public ::testing::TestWithParam<const char*> {};

TEST_P(NetworkTest, LearnsAndIsDeterministic) {
    const model::ModelConfig config = narrow(GetParam(), 8);
    const Batch batch(4, 65);
    Trainer a(config, options(4, 65)),
        b(config, options(4, 65), {.seed = 9, .overlap = false, .poison = true});
    std::vector<double> losses;
    for (int i = 0; i < 20; ++i) {
        const exec::MicroBatchResult r = a.executable->run(batch.step());
        ASSERT_TRUE(r.finite);
        losses.push_back(r.loss_sum / batch.valid);
        if (i < 3) {
            EXPECT_EQ(b.executable->run(batch.step()).loss_sum, r.loss_sum)
                << "dead memory was read, step " << i;
        }
        if (i == 2) {
            EXPECT_EQ(a.state(), b.state());
        }
    }
    EXPECT_LT(losses.back(), 0.7 * losses.front());
    EXPECT_GT(losses.front(), 1.2);  // about log 5
}

INSTANTIATE_TEST_SUITE_P(Backbones, NetworkTest, ::testing::Values("resnet18", "resnet50"));

TEST(Network, OddWidthsMakeMisalignedSlices) {
    const Batch batch(2, 49);
    Trainer a(narrow("resnet18", 5), options(2, 49), {.seed = 9, .poison = true});
    for (int i = 0; i < 2; ++i) EXPECT_TRUE(a.executable->run(batch.step()).finite);
}

// Another number of threads changes the order of sums only.
TEST(Network, ThreadsAgree) {
    const Batch batch(2, 49);
    Trainer one(narrow("resnet18", 8), options(2, 49), {.seed = 9}, 1),
        three(narrow("resnet18", 8), options(2, 49), {.seed = 9}, 3);
    for (int i = 0; i < 2; ++i) {
        const double a = one.executable->run(batch.step()).loss_sum,
                     b = three.executable->run(batch.step()).loss_sum;
        EXPECT_NEAR(a, b, 1e-4 * a);
    }
    EXPECT_TRUE(near(one.state(), three.state(), 1e-4));
}

// With frozen batch norms two micro-batches of two give the gradient of four.
TEST(Network, MicroBatchesAreTheBatch) {
    const Batch batch(4, 49);
    Trainer whole(narrow("resnet18", 8), options(4, 49, true)),
        parts(narrow("resnet18", 8), options(2, 49, true));
    const exec::MicroBatchResult expected = whole.executable->run(batch.step());
    double loss = 0;
    exec::MicroBatchResult last;
    for (std::size_t m = 0; m < 2; ++m) {
        exec::MicroBatch s = batch.step();
        s.images = s.images.subspan(m * s.images.size() / 2, s.images.size() / 2);
        s.labels = s.labels.subspan(m * s.labels.size() / 2, s.labels.size() / 2);
        s.samples = s.samples.subspan(m * 2, 2);
        s.first_micro = m == 0;
        s.last_micro = m == 1;
        last = parts.executable->run(s);
        loss += last.loss_sum;
    }
    EXPECT_NEAR(loss, expected.loss_sum, 1e-5 * expected.loss_sum);
    EXPECT_NEAR(last.gradient_norm, expected.gradient_norm, 1e-4 * expected.gradient_norm);
    EXPECT_TRUE(near(parts.state(exec::Slot::gradient), whole.state(exec::Slot::gradient), 1e-4));
}

// An inference plan of the same backend has its own, larger, arena or shares the training plan's;
// both keep working.
TEST(Network, InferenceSharesTheModel) {
    const model::ModelConfig config = narrow("resnet18", 8, 0.0f);
    const Batch batch(2, 49);
    Trainer with(config, options(2, 49, true)), without(config, options(2, 49, true));
    with.executable->run(batch.step());
    without.executable->run(batch.step());
    for (const std::int64_t size : {33, 257}) {
        const graph::Plan plan = model::inference_plan(config, 2, size, size);
        const auto evaluation = with.backend->compile(plan, with.communicators(), {.poison = true});
        exec::MicroBatch step;
        const Batch other(2, size);
        step.images = other.images;
        evaluation->run(step);
        const std::vector<float> logits = evaluation->download(plan.logits);
        ASSERT_EQ(static_cast<std::int64_t>(logits.size()),
                  plan.tensor(plan.logits).shape.elements());
        for (const float v : logits) ASSERT_TRUE(std::isfinite(v));
    }
    const graph::Plan plan = model::inference_plan(config, 2, 49, 49);
    const auto evaluation = with.backend->compile(plan, with.communicators(), {});
    exec::MicroBatch step;
    step.images = batch.images;
    evaluation->run(step);
    const std::vector<float> inferred = evaluation->download(plan.logits);
    // Frozen batch norms and no dropout: the training plan's forward pass is the inference plan.
    EXPECT_EQ(with.executable->run(batch.step()).loss_sum,
              without.executable->run(batch.step()).loss_sum);
    EXPECT_EQ(with.executable->download(with.plan.logits), inferred);
    EXPECT_EQ(with.state(), without.state());
}

// What a run's first table warns by.
TEST(Network, HostMemoryIsCounted) {
    const Trainer a(narrow("resnet18", 8), options(2, 49));
    const std::int64_t planned = a.executable->memory().arena_bytes + a.plan.parameter_count * 12 +
                                 a.plan.state_count * 4;
    EXPECT_GT(a.backend->host_bytes(), planned) << "kernels have scratch of their own";
    EXPECT_LT(a.backend->host_bytes(), 2 * planned);
}

}  // namespace
}  // namespace deeplab::testing
