#pragma once
// What this build is: filled in by CMake.

#include <string>

namespace deeplab {

std::string version();        // "0.1.0"
std::string git_hash();       // "" when built outside a repository
std::string build_summary();  // compiler, build type, backends and communicators that are in

}  // namespace deeplab
