#pragma once
// deeplab-bench startup: what passes before a program has taken its first training step.

#include "report.h"

namespace deeplab::bench {

Bench startup(CommandLine& program);

}  // namespace deeplab::bench
