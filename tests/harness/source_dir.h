#pragma once
// Where the source tree lies: $DEEPLAB_SOURCE, for a program that was taken elsewhere, else where
// it was built.

#include <cstdlib>
#include <filesystem>

namespace deeplab::testing {

inline std::filesystem::path source_dir() {
    const char* given = std::getenv("DEEPLAB_SOURCE");
    return given != nullptr ? given : DEEPLAB_SOURCE_DIR;
}

}  // namespace deeplab::testing
