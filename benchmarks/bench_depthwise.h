#pragma once
// deeplab-bench depthwise: depthwise convolutions of the networks, beside oneDNN's on a CPU.

#include "report.h"

namespace deeplab::bench {

Bench depthwise(CommandLine& program);

}  // namespace deeplab::bench
