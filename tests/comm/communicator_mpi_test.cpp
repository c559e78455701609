#include "deeplab/comm/communicator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "harness/mpi.h"

namespace deeplab::comm {
namespace {

using testing::world;

// Values for which the order of additions matters in the last bits.
std::vector<float> uneven(std::size_t count, int rank) {
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) {
        values[i] = std::sin(static_cast<float>(i * 7 + 1) * (static_cast<float>(rank) + 0.37f)) /
                    3.0f;
    }
    return values;
}

std::vector<double> sum_of_uneven(std::size_t count, int ranks) {
    std::vector<double> sum(count, 0.0);
    for (int rank = 0; rank < ranks; ++rank) {
        const std::vector<float> part = uneven(count, rank);
        for (std::size_t i = 0; i < count; ++i) sum[i] += part[i];
    }
    return sum;
}

template <class T>
void check_all_operations(DType type) {
    ASSERT_EQ(size_of(type), sizeof(T));
    const int ranks = world().size(), rank = world().rank();
    for (const ReduceOp op : {ReduceOp::sum, ReduceOp::min, ReduceOp::max}) {
        std::vector<T> data = {static_cast<T>(rank + 1), static_cast<T>(7),
                               static_cast<T>(ranks - rank)};
        world().all_reduce(data.data(), data.size(), type, op, "a test");
        const int first = op == ReduceOp::sum   ? ranks * (ranks + 1) / 2
                          : op == ReduceOp::min ? 1
                                                : ranks;
        const int second = op == ReduceOp::sum ? 7 * ranks : 7;
        EXPECT_EQ(data, (std::vector<T>{static_cast<T>(first), static_cast<T>(second),
                                        static_cast<T>(first)}));
    }
}

TEST(Communicator, AllReduceOfEveryType) {
    check_all_operations<float>(DType::f32);
    check_all_operations<double>(DType::f64);
    check_all_operations<std::uint8_t>(DType::u8);
    check_all_operations<std::int32_t>(DType::i32);
    check_all_operations<std::int64_t>(DType::i64);
    check_all_operations<std::uint64_t>(DType::u64);
}

TEST(Communicator, AllReduceOfNothing) {
    world().all_reduce(nullptr, 0, DType::f32, ReduceOp::sum, "nothing");
    world().finish(world().start_all_reduce(nullptr, 0, DType::f32, ReduceOp::sum, "nothing"));
}

TEST(Communicator, StartedSumsAreRightAndTheSameBitsEachTime) {
    const auto comm = world().duplicate();
    const std::vector<double> expected = sum_of_uneven(100003, comm->size());
    std::vector<float> first;
    for (int repeat = 0; repeat < 5; ++repeat) {
        std::vector<float> data = uneven(100003, comm->rank());
        const Request request = comm->start_all_reduce(data.data(), data.size(), DType::f32,
                                                       ReduceOp::sum, "gradients");
        for (int i = 0; i < 10 * repeat; ++i) comm->progress();
        comm->finish(request);
        for (std::size_t i = 0; i < data.size(); ++i) ASSERT_NEAR(data[i], expected[i], 1e-6) << i;
        if (repeat == 0) {
            first = data;
        } else {
            EXPECT_EQ(std::memcmp(first.data(), data.data(), data.size() * sizeof(float)), 0)
                << "repeat " << repeat;
        }
    }
}

// The training step: bucket all-reduces under way on one communicator, batch-norm exchanges on
// another between them, finished in another order than started.
TEST(Communicator, TwoAreInUseAtOnce) {
    const auto gradients = world().duplicate();
    const auto batch_norm = world().duplicate();
    const int ranks = world().size();
    for (int step = 0; step < 20; ++step) {
        std::vector<std::vector<float>> buckets;
        std::vector<Request> started;
        for (int bucket = 0; bucket < 4; ++bucket)
            buckets.push_back(
                uneven(20000u + 777u * static_cast<unsigned>(bucket), world().rank() + bucket));
        std::vector<double> statistics = {1.0, static_cast<double>(step),
                                          static_cast<double>(world().rank())};
        for (auto& bucket : buckets) {
            started.push_back(gradients->start_all_reduce(bucket.data(), bucket.size(), DType::f32,
                                                          ReduceOp::sum, "bucket"));
            const Request exchange = batch_norm->start_all_reduce(
                statistics.data(), statistics.size(), DType::f64, ReduceOp::max, "statistics");
            gradients->progress();
            batch_norm->progress();
            batch_norm->finish(exchange);
            EXPECT_EQ(statistics,
                      (std::vector<double>{1.0, static_cast<double>(step), ranks - 1.0}));
        }
        for (const std::size_t bucket : {2u, 0u, 3u, 1u}) gradients->finish(started[bucket]);
        for (int bucket = 0; bucket < 4; ++bucket) {
            double expected = 0;
            for (int rank = 0; rank < ranks; ++rank) expected += uneven(20000, rank + bucket)[1234];
            EXPECT_NEAR(buckets[static_cast<std::size_t>(bucket)][1234], expected, 1e-6);
        }
    }
}

TEST(Communicator, MoreThanOnePiece) {
    const std::size_t count = (std::size_t{1} << 26) + 5;  // src/comm/mpi.cpp: max_piece
    std::vector<std::uint8_t> data(count, static_cast<std::uint8_t>(world().rank()));
    data.back() = 200;
    world().finish(
        world().start_all_reduce(data.data(), count, DType::u8, ReduceOp::max, "two pieces"));
    const auto top = static_cast<std::uint8_t>(world().size() - 1);
    EXPECT_EQ(data.front(), top);
    EXPECT_EQ(data[count - 2], top);
    EXPECT_EQ(data.back(), 200);

    data.assign(count, static_cast<std::uint8_t>(world().rank() + 3));
    world().broadcast(data.data(), data.size(), world().size() - 1, "two pieces");
    EXPECT_EQ(data.front(), top + 3);
    EXPECT_EQ(data.back(), top + 3);
}

TEST(Communicator, BroadcastFromEveryRank) {
    for (int root = 0; root < world().size(); ++root) {
        std::array<int, 3> data = {world().rank(), 5, -world().rank()};
        world().broadcast(data.data(), sizeof(data), root, "a test");
        EXPECT_EQ(data, (std::array<int, 3>{root, 5, -root}));
    }
    world().barrier("a test");
}

TEST(Communicator, AllGatherOfTextsOfDifferentLengths) {
    // Rank 0 has nothing to say.
    const std::string own(static_cast<std::size_t>(world().rank()) * 1000,
                          static_cast<char>('a' + world().rank()));
    const std::vector<std::string> texts = world().all_gather(own, "a test");
    ASSERT_EQ(texts.size(), static_cast<std::size_t>(world().size()));
    for (std::size_t rank = 0; rank < texts.size(); ++rank) {
        EXPECT_EQ(texts[rank], std::string(rank * 1000, static_cast<char>('a' + rank)));
    }
}

TEST(Communicator, SplitByColourAndKey) {
    const int rank = world().rank(), ranks = world().size();
    // Even and odd ranks, each in reverse order.
    const auto part = world().split(rank % 2, -rank);
    const int members = rank % 2 == 0 ? (ranks + 1) / 2 : ranks / 2;
    EXPECT_EQ(part->size(), members);
    EXPECT_EQ(part->rank(), members - 1 - rank / 2);
    std::int64_t sum = rank;
    part->all_reduce(&sum, 1, DType::i64, ReduceOp::sum, "a part");
    std::int64_t expected = 0;
    for (int other = rank % 2; other < ranks; other += 2) expected += other;
    EXPECT_EQ(sum, expected);
}

TEST(Communicator, SplitByNodeHoldsAllRanksOfOneMachine) {
    const auto host = world().split_by_host();
    EXPECT_EQ(host->size(), world().size()) << "the tests run on one machine";
    EXPECT_EQ(host->rank(), world().rank());
}

TEST(Communicator, MistakesAreNamed) {
    const auto comm = world().duplicate();
    if (world().size() > 1) {
        float value = 0;
        EXPECT_THROW(comm->all_reduce(&value, 1, DType::bf16, ReduceOp::sum, "bf16"), LogicError);
        const Request request = comm->start_all_reduce(&value, 1, DType::f32, ReduceOp::sum,
                                                       "twice");
        comm->finish(request);
        EXPECT_THROW(comm->finish(request), LogicError);
        // An error of MPI itself: every rank names a root that does not exist, nobody waits.
        try {
            comm->broadcast(&value, sizeof(value), comm->size(), "the broadcast of a test");
            FAIL() << "there is no such root";
        } catch (const DeviceError& error) {
            EXPECT_NE(std::string(error.what()).find("the broadcast of a test"), std::string::npos)
                << error.what();
        }
    }
}

TEST(Self, IsRank0Of1) {
    const auto self = make_self();
    EXPECT_EQ(self->rank(), 0);
    EXPECT_EQ(self->size(), 1);
    double value = 3;
    self->finish(self->start_all_reduce(&value, 1, DType::f64, ReduceOp::sum, "alone"));
    self->all_reduce(&value, 1, DType::f64, ReduceOp::sum, "alone");
    self->broadcast(&value, sizeof(value), 0, "alone");
    EXPECT_EQ(value, 3);
    EXPECT_EQ(self->all_gather("x", "alone"), std::vector<std::string>{"x"});
    EXPECT_EQ(self->split(3, 1)->size(), 1);
    EXPECT_EQ(self->split_by_host()->size(), 1);
}

}  // namespace
}  // namespace deeplab::comm
