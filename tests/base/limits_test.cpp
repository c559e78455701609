#include "deeplab/base/limits.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstdint>
#include <fstream>

namespace deeplab {
namespace {

// Leaves `spare` bytes of address space while an object lives.
class Narrow {
public:
    explicit Narrow(std::int64_t spare) {
        std::int64_t pages = 0;
        std::ifstream("/proc/self/statm") >> pages;
        getrlimit(RLIMIT_AS, &before_);
        const rlimit now{.rlim_cur = static_cast<rlim_t>(pages * 4096 + spare),
                         .rlim_max = before_.rlim_max};
        EXPECT_EQ(setrlimit(RLIMIT_AS, &now), 0);
    }
    ~Narrow() { setrlimit(RLIMIT_AS, &before_); }
    Narrow(const Narrow&) = delete;
    Narrow& operator=(const Narrow&) = delete;

private:
    rlimit before_{};
};

TEST(Limits, OfTheAddressSpaceIsNamedAndMet) {
    constexpr std::int64_t mib = 1 << 20;
    EXPECT_TRUE(can_map(64 * mib, true));
    const Narrow space(32 * mib);
    EXPECT_NE(memory_limit().find("ulimit -v"), std::string::npos) << memory_limit();
    EXPECT_TRUE(can_map(16 * mib, true)) << "and again, since it was given back";
    EXPECT_TRUE(can_map(16 * mib, false));
    EXPECT_FALSE(can_map(64 * mib, false));
}

}  // namespace
}  // namespace deeplab
