#include <set>

#include "deeplab/base/error.h"
#include "deeplab/graph/builder.h"
#include "deeplab/graph/operands.h"

namespace deeplab::graph {

void set_activation_type(Plan& plan, DType type) {
    expects(type == DType::f32 || type == DType::bf16, "activations are f32 or bf16");
    std::set<TensorId> statistics;
    for (const Node& node : plan.nodes) {
        if (const auto* op = std::get_if<BatchNormAct>(&node.op))
            statistics.insert(operands(*op, node).saved);
    }
    for (std::size_t t = 0; t < plan.tensors.size(); ++t) {
        Tensor& tensor = plan.tensors[t];
        const bool activation = tensor.space == Space::arena || tensor.space == Space::input;
        if (activation && (tensor.dtype == DType::f32 || tensor.dtype == DType::bf16) &&
            !statistics.contains(static_cast<TensorId>(t)))
            tensor.dtype = type;
    }
    validate(plan);
}

}  // namespace deeplab::graph
