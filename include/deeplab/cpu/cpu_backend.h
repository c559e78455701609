#pragma once
// Runs plans on the host: oneDNN convolutions, OpenMP loops over math/ for the rest. fp32;
// batch-norm sums in fp64. Plans with bf16 activations are emulated: floats that are rounded where
// a GPU would store them ("Numbers" in graph/plan.h). Deterministic: the same threads and ranks
// give the same bits.

#include <memory>

#include "deeplab/exec/backend.h"

namespace deeplab::cpu {

// threads 0: the processors of this process's affinity mask. Flushes denormals to zero on every
// thread it uses.
std::unique_ptr<exec::Backend> make_cpu_backend(int threads);

}  // namespace deeplab::cpu
