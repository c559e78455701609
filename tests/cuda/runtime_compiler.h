#pragma once
// Without a driver cuDNN loads the run-time compiler for every engine that it looks at, and drops
// it again: ten milliseconds each, unless somebody else holds it. Not finding it does no harm.

#include <cuda_runtime.h>
#include <dlfcn.h>

#include "deeplab/base/text.h"

namespace deeplab::testing {

inline void hold_runtime_compiler() {
    dlopen(cat("libnvrtc.so.", CUDART_VERSION / 1000).c_str(), RTLD_LAZY);
}

}  // namespace deeplab::testing
