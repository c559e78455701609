#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/cuda/cuda_backend.h"
#include "harness/messages.h"

namespace deeplab::cuda {
namespace {

TEST(ChooseDevice, ByLocalRank) {
    for (int rank = 0; rank < 4; ++rank) {
        EXPECT_EQ(choose_device(rank, 4, 4), rank);
        EXPECT_EQ(choose_device(rank, 4, 8), rank) << "more devices than ranks";
    }
}

// The launcher has shown each rank its own, or the ranks share it on purpose.
TEST(ChooseDevice, TheOnlyOneThatIsVisible) {
    for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(choose_device(rank, 4, 1), 0);
}

std::string refusal(int rank, int size, int devices) {
    return testing::message_of<DeviceError>([&] { choose_device(rank, size, devices); });
}

TEST(ChooseDevice, ARankWithoutAGpuOfItsOwnIsNamed) {
    EXPECT_EQ(refusal(1, 3, 2), "");
    const std::string text = refusal(2, 3, 2);
    for (const std::string& part :
         {log::host(), std::string("rank 0 on"), std::string("number 3 of 3 ranks"),
          std::string("sees 2 devices"), std::string("CUDA_VISIBLE_DEVICES")}) {
        EXPECT_NE(text.find(part), std::string::npos) << part << " in " << text;
    }
    EXPECT_NE(refusal(0, 1, 0).find("number 1 of 1 rank of this node, which sees no devices"),
              std::string::npos)
        << refusal(0, 1, 0);
    EXPECT_THROW(choose_device(3, 3, 8), LogicError);
}

using ::testing::AllOf;
using ::testing::HasSubstr;

// CUDA's status 35 has two causes, of which a driver that answers tells one.
TEST(ReasonOf, ADriverThatIsMissingOrTooOld) {
    NoDevice found{.kind = NoDevice::Kind::driver, .runtime = 13000};
    EXPECT_THAT(reason_of(found), AllOf(HasSubstr("there is none, or it is not loaded, or too old "
                                                  "for CUDA 13.0 — "),
                                        HasSubstr("install the NVIDIA driver")));
    found.driver = 12020;
    EXPECT_EQ(
        reason_of(found),
        "CUDA backend: the NVIDIA driver is for CUDA 12.2 and too old for this program's 13.0 "
        "— no network can run on a GPU — use --device cpu, or install a newer driver");
}

TEST(ReasonOf, DevicesThatAreHidden) {
    NoDevice found{.kind = NoDevice::Kind::none_visible};
    EXPECT_EQ(reason_of(found),
              "CUDA backend: no visible device — no network can run on a GPU — use --device cpu");
    for (const char* hides : {"-1", ""}) {
        found.visible = hides;
        EXPECT_THAT(reason_of(found), HasSubstr(std::string("CUDA_VISIBLE_DEVICES is \"") + hides +
                                                "\", which hides all — "));
    }
    found.visible = "7";
    EXPECT_THAT(reason_of(found), AllOf(HasSubstr("CUDA_VISIBLE_DEVICES is \"7\" — "),
                                        HasSubstr("or unset CUDA_VISIBLE_DEVICES")));
}

TEST(ReasonOf, AnotherErrorIsQuoted) {
    EXPECT_THAT(reason_of({.error = "system not yet initialized"}),
                HasSubstr("CUDA backend: system not yet initialized — "));
}

// Without a driver the program starts and says what is missing.
TEST(Availability, SaysWhyThereIsNoDevice) {
    const Availability found = availability();
    if (found.devices > 0) GTEST_SKIP() << "skipped: there is a GPU";
    EXPECT_THAT(found.reason,
                ::testing::MatchesRegex("CUDA backend: [^—]+ — [^—]+ — use --device cpu.*"));
    EXPECT_THROW(make_cuda_backend({}), DeviceError);
}

}  // namespace
}  // namespace deeplab::cuda
