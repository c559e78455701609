#include "deeplab/exec/placement.h"

#include "deeplab/base/error.h"
#include "deeplab/graph/operands.h"

namespace deeplab::exec {
namespace {

constexpr std::int64_t nowhere = -1;

class Placer {
public:
    Placer(const graph::Plan& plan, const Storage& storage) : plan_(plan), storage_(storage) {
        result_.memory = graph::plan_memory(
            plan, [&](const graph::Tensor& t) { return storage.bytes(t); }, storage.alignment);
        for (const graph::Tensor& t : plan.tensors)
            result_.tensors.push_back({storage.type(t), nowhere, t.shape.c});
    }

    PlanPlacement place() {
        place_exchanges();
        place_parameters_and_states();
        for (graph::TensorId id = 0; static_cast<std::size_t>(id) < plan_.tensors.size(); ++id) {
            switch (plan_.tensor(id).space) {
                case graph::Space::arena: place_in_arena(id); break;
                case graph::Space::input: append(id, result_.inputs); break;
                case graph::Space::result: append(id, result_.results); break;
                default: check_placed(id);
            }
        }
        return std::move(result_);
    }

private:
    TensorPlace& at(graph::TensorId id) { return result_.tensors[static_cast<std::size_t>(id)]; }

    void append(graph::TensorId id, std::int64_t& end) {
        at(id).offset = end;
        end = storage_.align(end + storage_.bytes(plan_.tensor(id)));
    }

    void place_exchanges() {
        std::int64_t& end = result_.exchanges;
        for (const graph::Node& node : plan_.nodes) {
            const auto* start = std::get_if<graph::ExchangeStart>(&node.op);
            if (start == nullptr) continue;
            for (const graph::TensorId id : operands(*start, node).message) {
                expects(at(id).offset == nowhere, "an exchange tensor belongs to one message");
                at(id).offset = end;
                end += storage_.bytes(plan_.tensor(id));
            }
            end = storage_.align(end);
        }
        for (graph::TensorId id = 0; static_cast<std::size_t>(id) < plan_.tensors.size(); ++id) {
            if (plan_.tensor(id).space == graph::Space::exchange && at(id).offset == nowhere)
                append(id, end);
        }
    }

    void place_parameters_and_states() {
        const auto place = [&](graph::TensorId id, std::int64_t elements) {
            if (id != graph::none)
                at(id).offset = elements * static_cast<std::int64_t>(sizeof(float));
        };
        for (const graph::Parameter& p : plan_.parameters) {
            place(p.value, p.offset);
            place(p.gradient, p.offset);
        }
        for (const graph::State& s : plan_.states) place(s.value, s.offset);
    }

    // A slice lies in its root, whose channels are its pitch. What no node touches has no place.
    void place_in_arena(graph::TensorId id) {
        const graph::TensorId root = plan_.root(id);
        const std::int64_t begin = result_.memory.placements[static_cast<std::size_t>(root)].offset;
        if (begin < 0) return;
        std::int64_t channel = 0;
        for (graph::TensorId t = id; t != root; t = plan_.tensor(t).parent)
            channel += plan_.tensor(t).channel_offset;
        TensorPlace& place = at(id);
        place.pitch = plan_.tensor(root).shape.c;
        place.offset = begin + channel * static_cast<std::int64_t>(size_of(place.type));
    }

    void check_placed(graph::TensorId id) {
        const graph::Tensor& tensor = plan_.tensor(id);
        const std::int64_t end = at(id).offset + storage_.bytes(tensor),
                           floats = tensor.space == graph::Space::state ? plan_.state_count
                                                                        : plan_.parameter_count;
        expects(at(id).offset >= 0 && (tensor.space == graph::Space::exchange ||
                                       end <= floats * static_cast<std::int64_t>(sizeof(float))),
                "every parameter, gradient and state tensor belongs to one of the plan's");
    }

    const graph::Plan& plan_;
    const Storage& storage_;
    PlanPlacement result_;
};

}  // namespace

PlanPlacement place_tensors(const graph::Plan& plan, const Storage& storage) {
    return Placer(plan, storage).place();
}

}  // namespace deeplab::exec
