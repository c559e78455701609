// deeplab-train's configuration with a network that takes a stand-in milliseconds: no key of a
// configuration makes one so narrow.
#include <cstdlib>

#include "deeplab/config/config.h"

namespace deeplab::config {

// Compiled as load_config in deeplab_train.cpp.
Config load_narrow_config(const std::filesystem::path& file,
                          const std::vector<std::string>& overrides);

Config load_narrow_config(const std::filesystem::path& file,
                          const std::vector<std::string>& overrides) {
    Config config = load_config(file, overrides);
    // Separable networks have few channels to begin with.
    const char* divisor = std::getenv("DEEPLAB_TEST_WIDTH_DIVISOR");
    config.model.width_divisor = divisor != nullptr ? std::atoi(divisor) : 16;
    return config;
}

}  // namespace deeplab::config
