#include "machine_peaks.h"

#include <algorithm>
#include <chrono>

#include "deeplab/base/clock.h"
#include "deeplab/graph/builder.h"

namespace deeplab::bench {
namespace {

// Many short runs, so that on a busy machine one of them is hardly disturbed.
constexpr std::chrono::milliseconds patience{1500};

// The shortest time of the plan's last node; one run is not counted.
double best_of_last_node(exec::Backend& backend, const graph::Plan& plan,
                         comm::Communicator& world) {
    const auto first = world.duplicate(), second = world.duplicate();
    backend.allocate(plan);
    for (const graph::Parameter& p : plan.parameters)
        backend.upload(p, exec::Slot::value,
                       std::vector<float>(static_cast<std::size_t>(p.shape.elements()), 0.01f));
    const auto executable = backend.compile(plan, {first.get(), second.get()},
                                            {.tune = true, .time_nodes = true});
    const std::vector<float> images(
        static_cast<std::size_t>(plan.tensor(plan.images).shape.elements()), 1.0f);
    double best = 0;
    const auto start = Clock::now();
    for (int i = 0; i < 6 || Clock::now() - start < patience; ++i) {
        executable->run({.images = images, .labels = {}, .samples = {}});
        const double seconds = executable->node_seconds().back();
        best = i < 2 ? seconds : std::min(best, seconds);
    }
    return best;
}

graph::Plan as_asked(graph::Plan plan, const NetworkOptions& o) {
    if (o.precision == "bf16") graph::set_activation_type(plan, DType::bf16);
    return plan;
}

}  // namespace

Peaks measure_peaks(const NetworkOptions& o, comm::Communicator& world) {
    Peaks peaks;
    {
        const auto backend = make_backend(o, world);
        const std::int64_t batch = backend->on_host() ? 2 : 256;  // ms on either
        graph::Builder b(graph::Mode::inference);
        b.keep(b.conv2d(b.images({batch, 512, 32, 32}), "peak", 512, 1, {}));
        const graph::Plan plan = as_asked(b.inference_plan(), o);
        peaks.flops = graph::convolution_flops(plan) / best_of_last_node(*backend, plan, world);
    }
    // 128 MiB each; many small images, so that the device's order of them is quickly made. The
    // first sum makes the second operand.
    graph::Builder b(graph::Mode::inference);
    const graph::TensorId a = b.images({8192, 64, 8, 8});
    graph::Plan plan = b.inference_plan();
    for (const graph::TensorId other : {a, a + 1}) {
        graph::Tensor sum = plan.tensor(a);
        sum.name = "sum";
        sum.space = graph::Space::arena;
        sum.keep = true;
        plan.tensors.push_back(sum);
        const auto y = static_cast<graph::TensorId>(plan.tensors.size() - 1);
        plan.nodes.push_back({graph::Sum{}, {a, other}, {y}});
    }
    const double bytes = 3.0 * static_cast<double>(plan.tensor(a).shape.elements()) *
                         static_cast<double>(size_of(DType::f32));
    peaks.bytes = bytes / best_of_last_node(*make_backend(o, world), plan, world);
    return peaks;
}

}  // namespace deeplab::bench
