#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <set>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/data/loader.h"

namespace deeplab::data {
namespace {

TEST(Sampler, EveryEpochIsAPermutationOfItsOwn) {
    for (const std::uint64_t n : {1u, 2u, 3u, 17u, 1000u}) {
        std::set<std::vector<std::uint32_t>> orders;
        for (std::uint64_t epoch = 0; epoch < 4; ++epoch) {
            std::vector<std::uint32_t> order = epoch_order(epoch, n, 11);
            orders.insert(order);
            std::sort(order.begin(), order.end());
            for (std::uint32_t i = 0; i < n; ++i) ASSERT_EQ(order[i], i);
        }
        if (n > 3) {
            EXPECT_EQ(orders.size(), 4u) << n;
            EXPECT_NE(epoch_order(0, n, 11), epoch_order(0, n, 12)) << n;
        }
    }
}

TEST(Sampler, PositionsRunThroughTheEpochs) {
    const std::vector<std::uint32_t> second = epoch_order(1, 10, 3);
    for (std::uint64_t i = 0; i < 10; ++i) {
        const math::SampleKey key = sample_at(10 + i, 10, 3);
        EXPECT_EQ(key.epoch, 1u);
        EXPECT_EQ(key.sample, second[i]);
    }
}

// All 24 orders of four samples are equally likely: chi-squared with 23 degrees of freedom, 99.99 %
// below 56.
TEST(Sampler, OrdersAreUniform) {
    constexpr int epochs = 24000;
    std::array<int, 256> count{};
    for (std::uint64_t epoch = 0; epoch < epochs; ++epoch) {
        const std::vector<std::uint32_t> o = epoch_order(epoch, 4, 1);
        ++count[o[0] * 64 + o[1] * 16 + o[2] * 4 + o[3]];
    }
    double chi = 0;
    int orders = 0;
    for (const int c : count) {
        if (c == 0) continue;
        ++orders;
        chi += (c - epochs / 24.0) * (c - epochs / 24.0) / (epochs / 24.0);
    }
    EXPECT_EQ(orders, 24);
    EXPECT_LT(chi, 56);
}

TEST(Sampler, RefusesWhatItCannotCount) {
    EXPECT_THROW(sample_at(0, 0, 1), LogicError);
    EXPECT_THROW(sample_at(std::uint64_t{1} << 33, 1, 1), LogicError);
}

}  // namespace
}  // namespace deeplab::data
