#pragma once
// deeplab-bench kernels: every op of a training step against what the device reaches at best.

#include "report.h"

namespace deeplab::bench {

Bench kernels(CommandLine& program);

}  // namespace deeplab::bench
