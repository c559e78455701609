#pragma once
// deeplab-bench checkpoint: what saving a run's state costs, and going on from it.

#include "report.h"

namespace deeplab::bench {

Bench checkpoint(CommandLine& program);

}  // namespace deeplab::bench
