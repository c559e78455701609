#include "deeplab/exec/plan_executable.h"

#include "deeplab/base/error.h"
#include "deeplab/graph/builder.h"

namespace deeplab::exec {
namespace {

const graph::Plan& checked(const graph::Plan& plan, const Communicators& communicators) {
    expects(communicators.gradients != nullptr && communicators.batch_norm != nullptr &&
                communicators.gradients != communicators.batch_norm,
            "two distinct communicators");
    graph::validate(plan);
    return plan;
}

}  // namespace

PlanExecutable::PlanExecutable(const graph::Plan& plan, const Communicators& communicators,
                               const CompileOptions& options, const Storage& storage)
    : plan_(checked(plan, communicators)),
      communicators_(communicators),
      options_(options),
      placement_(place_tensors(plan_, storage)),
      batch_(plan_) {}

void PlanExecutable::check_download(graph::TensorId tensor) const {
    expects(tensor >= 0 && static_cast<std::size_t>(tensor) < plan_.tensors.size(),
            "the tensor belongs to the plan");
    expects(
        plan_.tensor(tensor).space != graph::Space::arena || plan_.tensor(plan_.root(tensor)).keep,
        "download() of a kept tensor");
}

}  // namespace deeplab::exec
