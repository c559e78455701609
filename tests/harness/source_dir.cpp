#include "harness/source_dir.h"

#include <cstdlib>

namespace deeplab::testing {

std::filesystem::path source_dir() {
    const char* given = std::getenv("DEEPLAB_SOURCE");
    return given != nullptr ? given : DEEPLAB_SOURCE_DIR;
}

}  // namespace deeplab::testing
