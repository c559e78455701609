#include "deeplab/base/status_line.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <functional>
#include <string>

namespace deeplab {
namespace {

// What `body` writes to stderr while that is a terminal.
std::string on_a_terminal(const std::function<void()>& body) {
    const int ours = posix_openpt(O_RDWR | O_NOCTTY);
    EXPECT_TRUE(ours >= 0 && grantpt(ours) == 0 && unlockpt(ours) == 0);
    const int terminal = open(ptsname(ours), O_RDWR | O_NOCTTY), before = dup(STDERR_FILENO);
    EXPECT_GE(dup2(terminal, STDERR_FILENO), 0);
    body();
    EXPECT_GE(dup2(before, STDERR_FILENO), 0);
    close(before);
    std::string text(4096, '\0');
    // What was written stays readable until the terminal's last user is gone.
    EXPECT_EQ(write(terminal, "|", 1), 1);
    while (text.find('|') == std::string::npos) {
        const std::string sofar = text.substr(0, text.find('\0'));
        const ssize_t count = read(ours, text.data() + sofar.size(), text.size() - sofar.size());
        if (count <= 0) break;
    }
    close(terminal);
    close(ours);
    return text.substr(0, text.find('|'));
}

TEST(StatusLine, IsWrittenOverKeptAndCleared) {
    EXPECT_EQ(on_a_terminal([] {
                  StatusLine line;
                  EXPECT_TRUE(line.visible());
                  line.keep();  // nothing stands there
                  line.clear();
                  line.write("one");
                  line.write("two");
                  line.keep();
                  line.keep();
                  line.write("three");
                  line.clear();
              }),
              "\rone\033[K\rtwo\033[K\r\n\rthree\033[K\r\033[K");  // the terminal adds \r to \n
}

TEST(StatusLine, IsSilentElsewhereAndWhereItIsNotWanted) {
    EXPECT_EQ(on_a_terminal([] {
                  StatusLine line(false);
                  line.write("one");
                  line.keep();
              }),
              "");
    ::testing::internal::CaptureStderr();
    StatusLine line;
    EXPECT_FALSE(line.visible());
    line.write("one");
    line.keep();
    line.clear();
    EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

TEST(StatusLine, ABarIsFullAtItsEnd) {
    EXPECT_EQ(progress_bar(0, 4), "[    ]");
    EXPECT_EQ(progress_bar(0.5, 4), "[==  ]");
    EXPECT_EQ(progress_bar(0.99, 4), "[=== ]");
    EXPECT_EQ(progress_bar(1, 4), "[====]");
}

}  // namespace
}  // namespace deeplab
