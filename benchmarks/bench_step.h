#pragma once
// deeplab-bench step: a training step on generated input, without loader and checkpoints.

#include "report.h"

namespace deeplab::bench {

Bench step(CommandLine& program);

}  // namespace deeplab::bench
