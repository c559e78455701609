#include "device.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <stdexcept>

namespace deeplab::shim {
namespace {

constexpr const char* variable = "DEEPLAB_TEST_DEVICE";
bool failed = false;

}  // namespace

std::int64_t setting(const char* name_of_variable, const std::string& name,
                     std::int64_t otherwise) {
    const char* text = std::getenv(name_of_variable);
    std::istringstream words(text == nullptr ? "" : text);
    for (std::string word; words >> word;) {
        const std::size_t equals = word.find('=');
        if (equals == std::string::npos)
            throw std::invalid_argument(std::string(name_of_variable) + ": " + word);
        if (word.substr(0, equals) == name) return std::stoll(word.substr(equals + 1));
    }
    return otherwise;
}

int visible_devices() {
    static const auto count = static_cast<int>(setting(variable, "count", 1));
    return count;
}

std::string bus_id() {
    const char* rank = std::getenv("OMPI_COMM_WORLD_LOCAL_RANK");
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "0000:%02X:00.0",
                  0x1a + (rank == nullptr ? 0 : std::atoi(rank)));
    return text.data();
}

bool device_failed() { return failed; }

bool fails_at_launch() {
    static const std::int64_t last = setting(variable, "fails", 0);
    static std::int64_t launches = 0;
    failed = failed || ++launches == last;
    return failed;
}

}  // namespace deeplab::shim
