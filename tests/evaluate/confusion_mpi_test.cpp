#include <gtest/gtest.h>

#include "deeplab/evaluate/confusion.h"
#include "harness/mpi.h"

namespace deeplab::evaluate {
namespace {

// Ratios of summed counts, not means of ratios: rank r adds r + 1 pixels, rank 0's alone is wrong.
TEST(Confusion, SumsOverRanksBeforeRatios) {
    comm::Communicator& world = testing::world();
    const std::vector<std::uint8_t> truth(static_cast<std::size_t>(world.rank()) + 1, 1);
    const std::vector<std::uint8_t> predicted(truth.size(), world.rank() == 0 ? 0 : 1);
    Confusion confusion(2);
    confusion.add(truth, predicted);
    confusion.reduce(world);
    const std::int64_t pixels = world.size() * (world.size() + 1) / 2;
    EXPECT_EQ(confusion.counts(), (std::vector<std::int64_t>{0, 0, 1, pixels - 1}));
    EXPECT_DOUBLE_EQ(confusion.metrics().pixel_accuracy,
                     static_cast<double>(pixels - 1) / static_cast<double>(pixels));
}

}  // namespace
}  // namespace deeplab::evaluate
