#include "harness/temp_dir.h"

#include <stdlib.h>

#include <stdexcept>
#include <system_error>

namespace deeplab::testing {

TempDir::TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "deeplab-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr)
        throw std::runtime_error("cannot make a folder like " + name);
    path_ = name;
}

TempDir::~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

}  // namespace deeplab::testing
