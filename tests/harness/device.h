#pragma once
// The backend that a test program is about: a program is linked with on_cpu.cpp or on_cuda.cpp, so
// that the same tests run on both.

#include <memory>

#include "deeplab/exec/backend.h"

namespace deeplab::testing {

std::unique_ptr<exec::Backend> device(int threads);  // threads: of the CPU's

}  // namespace deeplab::testing
