#include "deeplab/base/log.h"

#include <gtest/gtest.h>

namespace deeplab {
namespace {

std::string logged_by(int rank, int size, void (*what)(const std::string&)) {
    log::set_rank(rank, size);
    ::testing::internal::CaptureStderr();
    what("text with {} braces");
    std::string text = ::testing::internal::GetCapturedStderr();
    log::set_rank(0, 1);
    return text;
}

TEST(Log, InformationComesFromRank0Alone) {
    EXPECT_EQ(logged_by(0, 1, log::info), "text with {} braces\n");
    EXPECT_EQ(logged_by(0, 2, log::info), "text with {} braces\n");
    EXPECT_EQ(logged_by(1, 2, log::info), "");
}

TEST(Log, WarningsAndErrorsSayWhoSpeaks) {
    EXPECT_EQ(logged_by(0, 1, log::warn), "warning: text with {} braces\n");
    EXPECT_EQ(logged_by(1, 2, log::warn),
              "[rank 1 @ " + log::host() + "] warning: text with {} braces\n");
    EXPECT_EQ(logged_by(0, 2, log::error),
              "[rank 0 @ " + log::host() + "] error: text with {} braces\n");
    EXPECT_EQ(log::host().find('.'), std::string::npos);
}

}  // namespace
}  // namespace deeplab
