// Leaving an evaluation early, on 1, 2 and 3 ranks.
#include "deeplab/evaluate/evaluator.h"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "deeplab/base/error.h"
#include "harness/mpi.h"
#include "harness/tiny_dataset.h"
#include "sampling_backend.h"

namespace deeplab::evaluate {
namespace {

const model::ModelConfig network{.backbone = "resnet18", .num_classes = 3};
constexpr int images = 30;

class EvaluateRanks : public ::testing::Test {
protected:
    void SetUp() override {
        if (world().rank() == 0) {
            testing::write_tiny_dataset(
                dir_.path(), {.split = "val", .images = images, .classes = 3, .shards = 1});
        }
        world().barrier("data of the test");
        shards_ = std::make_unique<data::ShardSet>(dir_.path(), "val");
        options_.on_image = [this](std::int64_t index, const auto&...) {
            ++seen_;
            if (index == broken_) throw DeviceError("this rank alone has no memory");
            std::this_thread::sleep_for(delay_);
        };
    }
    void TearDown() override { world().barrier("end of the test"); }

    static comm::Communicator& world() { return testing::world(); }
    static bool last() { return world().rank() == world().size() - 1; }

    testing::SharedDir dir_;
    std::unique_ptr<data::ShardSet> shards_;
    testing::SamplingBackend backend_;
    Predictor predictor_{backend_, network, {}};
    EvaluationOptions options_;
    int seen_ = 0;
    std::int64_t broken_ = -1;
    std::chrono::milliseconds delay_{0};
};

// Again and again, so that a letter that stayed behind would end the next one.
TEST_F(EvaluateRanks, AStopOnOneRankEndsItOnAllWithinAnImage) {
    const auto self = comm::make_self();
    const Confusion whole = evaluate_split(predictor_, *shards_, {}, *self);
    for (int round = 0; round < 5; ++round) {
        seen_ = 0;
        delay_ = std::chrono::milliseconds(20);
        const auto cut = evaluate_until(predictor_, *shards_, options_, world(),
                                        [&] { return last() && seen_ >= 2; });
        EXPECT_FALSE(cut.has_value());
        EXPECT_GE(seen_, 1);
        if (last())
            EXPECT_EQ(seen_, 2);
        else
            EXPECT_LT(seen_, images / world().size());
        seen_ = 0;
        delay_ = std::chrono::milliseconds(0);
        const auto all = evaluate_until(predictor_, *shards_, options_, world(),
                                        [] { return false; });
        ASSERT_TRUE(all.has_value());
        EXPECT_EQ(all->counts(), whole.counts());
    }
}

TEST_F(EvaluateRanks, StopsOfAllRanksLeaveNoLetterBehind) {
    for (int round = 0; round < 5; ++round) {
        EXPECT_FALSE(evaluate_until(predictor_, *shards_, options_, world(), [] {
                         return true;
                     }).has_value());
    }
    EXPECT_EQ(seen_, 0);
    EXPECT_TRUE(
        evaluate_until(predictor_, *shards_, options_, world(), [] { return false; }).has_value());
}

// Rank 0 has done its images long before the others, and hears of the stop while it waits.
TEST_F(EvaluateRanks, ARankThatWaitsForTheOthersHearsAStopToo) {
    if (world().size() == 1) GTEST_SKIP() << "skipped: needs 2 ranks";
    delay_ = std::chrono::milliseconds(world().rank() == 0 ? 0 : 100);
    const int own = (images - world().rank() + world().size() - 1) / world().size();
    const auto cut = evaluate_until(predictor_, *shards_, options_, world(),
                                    [&] { return world().rank() == 0 && seen_ == own; });
    EXPECT_FALSE(cut.has_value());
    if (world().rank() == 0)
        EXPECT_EQ(seen_, own);
    else
        EXPECT_LT(seen_, own);
}

TEST_F(EvaluateRanks, AnErrorOfOneRankIsThrownOnAllAndNamesTheImage) {
    broken_ = 1;  // rank 1's first, or rank 0's second
    std::string message;
    try {
        evaluate_split(predictor_, *shards_, options_, world());
    } catch (const DeviceError& error) {
        message = error.what();
    }
    EXPECT_NE(message.find("split val, record 1 ("), std::string::npos) << message;
    EXPECT_NE(message.find("this rank alone has no memory"), std::string::npos) << message;
}

}  // namespace
}  // namespace deeplab::evaluate
