#pragma once
// deeplab-bench infer: an image's labels, as deeplab-eval and deeplab-predict compute them.

#include "report.h"

namespace deeplab::bench {

Bench infer(CommandLine& program);

}  // namespace deeplab::bench
