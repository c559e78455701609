// Ranks that do not see the same: one decision, or one error, on all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/cuda/cuda_backend.h"
#include "harness/mpi.h"

namespace deeplab::cuda {
namespace {

using ::testing::HasSubstr;
using testing::world;

const Availability with{1, ""};
const Availability without{0,
                           "CUDA backend: no visible device — no network can run on a GPU — use "
                           "--device cpu"};

// What each rank was told, the same on all; "GPU", "processors" or an error.
std::string verdict(const Availability& own, bool required = false) {
    std::string text;
    try {
        text = all_have_devices(world(), own, required) ? "GPU" : "processors";
    } catch (const DeviceError& error) {
        text = error.what();
    }
    for (const std::string& other : world().all_gather(text, "a test")) EXPECT_EQ(other, text);
    return text;
}

TEST(AllHaveDevices, WhereAllOrNoneDo) {
    EXPECT_EQ(verdict(with), "GPU");
    EXPECT_EQ(verdict(with, true), "GPU");
    EXPECT_EQ(verdict(without), "processors");
    EXPECT_EQ(verdict(without, true),
              "--device cuda cannot be used: CUDA backend: no visible device — no network can run "
              "on a GPU — use --device cpu");
}

// It would train on its processors while the others wait for it in NCCL's set-up.
TEST(AllHaveDevices, ARankWithoutOneIsAnErrorOfAll) {
    const int ranks = world().size();
    if (ranks == 1) GTEST_SKIP() << "skipped: one rank differs from nobody";
    for (const bool required : {false, true}) {
        const std::string text = verdict(world().rank() == ranks - 1 ? without : with, required);
        EXPECT_THAT(text, HasSubstr("1 of " + std::to_string(ranks) + " ranks see no GPU (" +
                                    log::host() + ": CUDA backend: no visible device)"));
        EXPECT_THAT(text, HasSubstr("the others do (" + log::host() + ") — "));
    }
    EXPECT_THAT(verdict(world().rank() == 0 ? without : with), HasSubstr("1 of "));
}

TEST(SumsByNccl, WithoutItOneRankWarns) {
    const auto asked = [](const std::string& comm) {
        ::testing::internal::CaptureStderr();
        const bool nccl = sums_by_nccl(world(), comm);
        return std::pair(nccl, ::testing::internal::GetCapturedStderr());
    };
    EXPECT_EQ(asked("mpi"), std::pair(false, std::string()));
    EXPECT_EQ(asked("nccl"), std::pair(true, std::string()));
    const auto [nccl, text] = asked("auto");
    EXPECT_EQ(nccl, comm::nccl_built() && world().size() > 1);
    if (comm::nccl_built() || world().size() == 1 || world().rank() != 0) {
        EXPECT_EQ(text, "");
    } else {
        EXPECT_THAT(text, HasSubstr("sums over ranks go through host memory (nccl: not built"));
    }
}

}  // namespace
}  // namespace deeplab::cuda
