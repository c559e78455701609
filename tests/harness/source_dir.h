#pragma once
// Where the source tree lies: $DEEPLAB_SOURCE, for a program that was taken elsewhere, else where
// it was built.

#include <filesystem>

namespace deeplab::testing {

std::filesystem::path source_dir();

}  // namespace deeplab::testing
