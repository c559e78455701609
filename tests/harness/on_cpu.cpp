#include "deeplab/cpu/cpu_backend.h"
#include "harness/device.h"

namespace deeplab::testing {

std::unique_ptr<exec::Backend> device(int threads) { return cpu::make_cpu_backend(threads); }

}  // namespace deeplab::testing
