#pragma once
// What every backend's executable is made of, whatever its device: the plan, its places, what it
// asks of a batch.

#include "deeplab/exec/backend.h"
#include "deeplab/exec/batch_checks.h"
#include "deeplab/exec/placement.h"

namespace deeplab::exec {

class PlanExecutable : public Executable {
public:
    const graph::MemoryPlan& memory() const final { return placement_.memory; }

protected:
    // LogicError unless the plan is valid and the communicators are two distinct ones.
    PlanExecutable(const graph::Plan& plan, const Communicators& communicators,
                   const CompileOptions& options, const Storage& storage);

    // LogicError unless the tensor is there after a run: outside the arena, or kept.
    void check_download(graph::TensorId tensor) const;

    const graph::Plan plan_;
    const Communicators communicators_;
    const CompileOptions options_;
    const PlanPlacement placement_;
    const BatchChecks batch_;
};

}  // namespace deeplab::exec
