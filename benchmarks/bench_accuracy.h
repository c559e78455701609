#pragma once
// deeplab-bench accuracy: one training step of a device and precision against fp32 on the CPU,
// tensor by tensor.

#include "report.h"

namespace deeplab::bench {

Bench accuracy(CommandLine& program);

}  // namespace deeplab::bench
