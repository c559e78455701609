// The batch of the next step, sent while the present one is under way: the same bits as without.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>

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

Trainer trainer() { return {narrow("resnet18", 16), options(2, 33), {.seed = 9}, device(0)}; }

Batch batch_of(int step) {
    Batch batch(2, 33);
    for (float& v : batch.images) v *= 1 + 0.1f * static_cast<float>(step);
    std::rotate(batch.labels.begin(), batch.labels.begin() + 3 * step, batch.labels.end());
    return batch;
}

// Memory that a call must have read when it returns.
class Shortlived {
public:
    explicit Shortlived(int step) : batch_(batch_of(step)) {}
    ~Shortlived() {
        std::fill(batch_.images.begin(), batch_.images.end(), std::nanf(""));
        std::fill(batch_.labels.begin(), batch_.labels.end(), std::uint8_t{4});
    }
    exec::MicroBatch step() const { return batch_.step(); }

private:
    Batch batch_;
};

// Eager, captured, replayed; with batches that were not prefetched, that were and are not used, and
// that were replaced; with two micro-batches a step.
TEST(CudaPrefetch, SlowGivesTheSameBits) {
    Trainer tested = trainer(), expected = trainer();
    enum class Next { none, prefetched, forgotten, replaced };
    const std::vector<Next> all = {Next::prefetched, Next::prefetched, Next::none,
                                   Next::replaced,   Next::forgotten,  Next::prefetched,
                                   Next::prefetched, Next::prefetched, Next::forgotten,
                                   Next::replaced,   Next::none,       Next::prefetched};
    bool prefetched = false;
    int i = 0;
    for (const Next next : all) {
        {
            const Shortlived memory(i);
            exec::MicroBatch step = memory.step();
            step.prefetched = prefetched;
            step.first_micro = i % 2 == 0;
            step.last_micro = i % 2 == 1;
            tested.executable->start(step);
        }
        if (next == Next::replaced) {
            const Shortlived wrong(i + 7);
            tested.executable->prefetch(wrong.step());
        }
        if (next != Next::none) {
            const Shortlived memory(i + 1);
            tested.executable->prefetch(memory.step());
        }
        const Batch same = batch_of(i);
        exec::MicroBatch step = same.step();
        step.first_micro = i % 2 == 0;
        step.last_micro = i % 2 == 1;
        EXPECT_EQ(tested.executable->finish().loss_sum, expected.executable->run(step).loss_sum)
            << "step " << i;
        prefetched = next == Next::prefetched || next == Next::replaced;
        ++i;
    }
    EXPECT_EQ(tested.state(), expected.state());
}

// Between two steps another plan runs, larger than the first: what plans share moves.
TEST(CudaPrefetch, SlowSurvivesOtherPlans) {
    Trainer tested = trainer(), expected = trainer();
    const graph::Plan inference = model::inference_plan(narrow("resnet18", 16), 1, 97, 81);
    const std::vector<float> images(3 * 97 * 81, 0.5f);
    for (int i = 0; i < 4; ++i) {
        const Batch batch = batch_of(i);
        exec::MicroBatch step = batch.step();
        step.prefetched = i > 0;
        tested.executable->start(step);
        tested.executable->prefetch(batch_of(i + 1).step());
        EXPECT_EQ(tested.executable->finish().loss_sum,
                  expected.executable->run(batch.step()).loss_sum);
        const auto other = tested.backend->compile(inference, tested.communicators(), {});
        exec::MicroBatch look;
        look.images = images;
        other->run(look);
    }
    EXPECT_EQ(tested.state(), expected.state());
}

TEST(CudaPrefetch, SlowRefusesWhatIsOutOfOrder) {
    Trainer tested = trainer(), expected = trainer();
    const Batch batch = batch_of(0);
    exec::MicroBatch step = batch.step();
    EXPECT_THROW(tested.executable->finish(), LogicError);
    step.prefetched = true;
    EXPECT_THROW(tested.executable->start(step), LogicError);
    step.prefetched = false;
    tested.executable->start(step);
    EXPECT_THROW(tested.executable->start(step), LogicError);
    Batch bad = batch;
    bad.labels[7] = 99;
    EXPECT_THROW(tested.executable->prefetch(bad.step()), DataError);
    EXPECT_EQ(tested.executable->finish().loss_sum,
              expected.executable->run(batch.step()).loss_sum);
    step.prefetched = true;  // the one that was refused
    EXPECT_THROW(tested.executable->start(step), LogicError);
    EXPECT_EQ(tested.state(), expected.state());
}

// A run that ends between a start and its finish.
TEST(CudaPrefetch, SlowMayBeTheEnd) {
    Trainer tested = trainer();
    for (int i = 0; i < 3; ++i) {
        const Batch batch = batch_of(i);
        tested.executable->start(batch.step());
        if (i < 2) tested.executable->finish();
    }
    tested.executable->prefetch(batch_of(3).step());
    tested.executable.reset();
}

}  // namespace
}  // namespace deeplab
