#include "deeplab/comm/device_communicator.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>

#include "deeplab/base/error.h"
#include "deeplab/comm/activity.h"
#include "harness/messages.h"
#include "harness/mpi.h"

namespace deeplab::comm {
namespace {

using testing::world;

// A device whose memory is ordinary memory; notes what it is asked for.
class FakeStaging final : public Staging {
public:
    explicit FakeStaging(std::vector<std::string>& calls) : calls_(calls) {}
    void* reserve(std::size_t bytes) override {
        calls_.push_back("reserve");
        memory_.assign(bytes, 0xee);
        return memory_.data();
    }
    void to_host(void* host, const void* device, std::size_t bytes, DeviceStream stream) override {
        calls_.push_back("to_host");
        EXPECT_EQ(host, memory_.data());
        EXPECT_EQ(stream, &calls_) << "the stream of the call";
        std::memcpy(host, device, bytes);
    }
    void to_device(void* device, const void* host, std::size_t bytes,
                   DeviceStream stream) override {
        calls_.push_back("to_device");
        EXPECT_EQ(stream, &calls_);
        std::memcpy(device, host, bytes);
    }

private:
    std::vector<std::string>& calls_;
    std::vector<unsigned char> memory_;
};

class StagedTest : public ::testing::Test {
protected:
    std::vector<std::string> calls_;
    std::unique_ptr<Communicator> host_ = world().duplicate();
    std::unique_ptr<DeviceCommunicator> comm_ = make_staged(*host_,
                                                            std::make_unique<FakeStaging>(calls_));
};

TEST_F(StagedTest, SumsInPlace) {
    const int ranks = world().size(), rank = world().rank();
    std::vector<float> gradients = {1.5f, static_cast<float>(rank), -2.0f};
    std::vector<double> sums = {0.25, static_cast<double>(rank)};
    comm_->group_start();
    comm_->all_reduce(gradients.data(), gradients.size(), DType::f32, &calls_, "gradients");
    comm_->all_reduce(sums.data(), sums.size(), DType::f64, &calls_, "batch-norm sums");
    comm_->group_end();
    const float ranks_f = static_cast<float>(ranks), triangle = ranks_f * (ranks_f - 1.0f) / 2.0f;
    EXPECT_EQ(gradients, (std::vector<float>{1.5f * ranks_f, triangle, -2.0f * ranks_f}));
    EXPECT_EQ(sums, (std::vector<double>{0.25 * ranks, static_cast<double>(triangle)}));
    EXPECT_EQ(calls_, (std::vector<std::string>{"reserve", "to_host", "to_device", "reserve",
                                                "to_host", "to_device"}));
    EXPECT_EQ(comm_->rank(), rank);
    EXPECT_EQ(comm_->size(), ranks);
    EXPECT_EQ(comm_->last_collective(), "batch-norm sums");
    EXPECT_FALSE(comm_->capturable());
    comm_->check();
}

std::uint16_t bf16(float value) {  // of a number that bf16 has
    return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
}

TEST_F(StagedTest, Bf16IsSummedInF32AndRoundedOnce) {
    const int ranks = world().size(), rank = world().rank();
    // 256 + 1 is a tie in bf16, rounded to 256; three ranks' 256 + 1 + 1 is a number of bf16, which
    // rounding after each addition would miss.
    std::array data = {
        bf16(rank == 0 ? 256.0f : 1.0f),   bf16(-0.5f),           bf16(0.0f),
        bf16(rank == 0 ? INFINITY : 1.0f), std::uint16_t{0x7fc0}, bf16(rank == 0 ? 256.0f : 1.5f)};
    comm_->all_reduce(data.data(), data.size(), DType::bf16, &calls_, "gradients");
    EXPECT_EQ(data[0], bf16(ranks == 3 ? 258.0f : 256.0f));
    EXPECT_EQ(data[1], bf16(-0.5f * static_cast<float>(ranks)));
    EXPECT_EQ(data[2], bf16(0.0f));
    EXPECT_EQ(data[3], bf16(INFINITY));
    EXPECT_EQ(data[4] & 0x7fc0, 0x7fc0) << "NaN";
    // 257.5 is nearer to 258, 259 is a tie.
    EXPECT_EQ(data[5], bf16(ranks == 1 ? 256.0f : ranks == 2 ? 258.0f : 260.0f));
}

TEST_F(StagedTest, OtherTypesAreRefused) {
    int value = 0;
    EXPECT_THROW(comm_->all_reduce(&value, 1, DType::i32, &calls_, "counts"), LogicError);
    comm_->all_reduce(nullptr, 0, DType::f32, &calls_, "nothing");
}

// Fails, or goes on for ever.
class FakeCommunicator final : public DeviceCommunicator {
public:
    explicit FakeCommunicator(std::string last, bool fails = false)
        : last_(std::move(last)), fails_(fails) {}
    int rank() const override { return 0; }
    int size() const override { return 1; }
    std::string description() const override { return "fake"; }
    void all_reduce(void*, std::size_t, DType, DeviceStream, const char*) override {}
    void group_start() override {}
    void group_end() override {}
    bool capturable() const override { return true; }
    void check() override {
        ++checks;
        if (fails_) throw DeviceError(last_ + " failed");
    }
    void abort(std::span<DeviceCommunicator* const> others) noexcept override {
        aborted = true;
        abort_all(others);
    }
    std::string last_collective() const override { return last_; }

    bool aborted = false;
    int checks = 0;

private:
    std::string last_;
    bool fails_;
};

TEST(WaitUntil, ReturnsWhenDone) {
    FakeCommunicator gradients("gradients");
    const std::array<DeviceCommunicator*, 1> all = {&gradients};
    int polls = 0;
    wait_until([&] { return ++polls > 1 && gradients.checks == 2; }, all, 60);
    wait_until([] { return true; }, all, 60);
    EXPECT_EQ(gradients.checks, 2) << "nothing to wait for";
    EXPECT_FALSE(gradients.aborted);
}

// Asking a library costs more than looking at an event.
TEST(WaitUntil, AsksCommunicatorsOnceInAWhile) {
    FakeCommunicator gradients("gradients");
    const std::array<DeviceCommunicator*, 1> all = {&gradients};
    const auto begin = std::chrono::steady_clock::now();
    const std::chrono::milliseconds whole{200}, between{5};
    int polls = 0;
    wait_until(
        [&] {
            ++polls;
            return std::chrono::steady_clock::now() - begin > whole;
        },
        all, 60);
    EXPECT_LE(gradients.checks, whole / between + 1);
    EXPECT_LT(gradients.checks, polls);
}

// A watchdog takes a rank that is inside a collective for one that waits, not for one that is late.
TEST(WaitUntil, IsInsideACollective) {
    FakeCommunicator gradients("gradients");
    const std::array<DeviceCommunicator*, 1> all = {&gradients};
    std::string inside;
    const auto look = [&] {
        inside = activity().collective;
        return true;
    };
    wait_until(look, all, 60);
    EXPECT_EQ(inside, "sums over ranks on the device");
    EXPECT_EQ(activity().collective, "");
}

// An abort may not return while a graph lives, and whoever waits does not know of graphs.
TEST(WaitUntil, AFailedCommunicatorIsToldAndNoneIsAborted) {
    FakeCommunicator gradients("gradients: bucket 2", true), sums("batch-norm sums");
    const std::array<DeviceCommunicator*, 2> all = {&sums, &gradients};
    const std::string text = testing::message_of<DeviceError>(
        [&] { wait_until([] { return false; }, all, 60); });
    EXPECT_EQ(text, "gradients: bucket 2 failed");
    EXPECT_FALSE(gradients.aborted || sums.aborted);
    abort_all(all);
    EXPECT_TRUE(gradients.aborted && sums.aborted);
}

TEST(WaitUntil, ATimeOutNamesTheCollectives) {
    FakeCommunicator gradients("gradients: bucket 2"), sums("batch-norm sums");
    const std::array<DeviceCommunicator*, 2> all = {&sums, &gradients};
    const auto begin = std::chrono::steady_clock::now();
    const std::string text = testing::message_of<DeviceError>(
        [&] { wait_until([] { return false; }, all, 0.05); });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    EXPECT_LT(seconds.count(), 30);
    EXPECT_NE(text.find("batch-norm sums, gradients: bucket 2"), std::string::npos) << text;
    EXPECT_FALSE(gradients.aborted || sums.aborted);
}

// With a device this needs one for each rank; without one, and without NCCL, every rank is told so
// and none waits for another. The id has been exchanged by then.
TEST(Nccl, WithoutDevicesEveryRankIsTold) {
    const std::string text = testing::message_of<DeviceError>(
        [] { make_nccl(world(), {.name = "gradients"}); });
    if (text.empty()) GTEST_SKIP() << "skipped: every rank has a device";
    EXPECT_NE(text.find("NCCL"), std::string::npos) << text;
    const auto all = world().all_gather(text, "a test");
    for (const std::string& other : all) EXPECT_EQ(other, text);
}

}  // namespace
}  // namespace deeplab::comm
