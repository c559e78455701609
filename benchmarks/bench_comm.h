#pragma once
// deeplab-bench comm: the messages of a training step, one at a time.

#include "report.h"

namespace deeplab::bench {

Bench comm(CommandLine& program);

}  // namespace deeplab::bench
