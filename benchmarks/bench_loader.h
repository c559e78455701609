#pragma once
// deeplab-bench loader: what a training image costs from the shard to the batch.

#include "report.h"

namespace deeplab::bench {

Bench loader(CommandLine& program);

}  // namespace deeplab::bench
