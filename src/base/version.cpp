#include "deeplab/base/version.h"

#include "build_info.h"  // written by cmake/DeeplabVersion.cmake at build time

namespace deeplab {

std::string version() { return DEEPLAB_VERSION; }

std::string git_hash() { return DEEPLAB_GIT_HASH; }

std::string build_summary() {
    const std::string hash = git_hash();
    return "git: " + (hash.empty() ? std::string("unknown") : hash) +
           "\ncompiler: " DEEPLAB_COMPILER "\nbuild type: " DEEPLAB_BUILD_TYPE
           "\nflags: " DEEPLAB_FLAGS "\nparts: " DEEPLAB_PARTS;
}

}  // namespace deeplab
