#include "bench_kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/graph/builder.h"
#include "deeplab/graph/operands.h"
#include "machine_peaks.h"
#include "network_step.h"

namespace deeplab::bench {
namespace {

struct Options : NetworkOptions {
    std::int64_t steps = 5, top = 0;
};

// Below it a node's time is mostly that of the timer and of waking the threads or the device.
constexpr double floor_s = 20e-6;

// What two equal ops have in common, and how it is shown.
struct Case {
    std::string op, x, w, y, attributes;
    auto operator<=>(const Case&) const = default;
};

// A case's nodes.
struct Kernel {
    std::int64_t count = 0;
    double flops = 0, bytes = 0;  // of one
    std::vector<double> seconds;  // of each

    double total() const {
        double sum = 0;
        for (const double s : seconds) sum += s;
        return sum;
    }
};

std::string attributes_of(const graph::Node& node) {
    const auto convolution = [](const auto& o) {
        const graph::ConvGeometry& g = o.geometry;
        return trim(cat("stride ", g.stride, g.dilation > 1 ? cat(" dilation ", g.dilation) : "",
                        g.groups > 1 ? cat(" groups ", g.groups) : "", " ", math::name(o.input)));
    };
    const auto norm = [](const auto& o) {
        return trim(cat(math::name(o.activation), o.residual ? " residual" : ""));
    };
    const auto gradients = [&](const auto& o) {
        return trim(cat(norm(o), o.gradients > 1 ? cat(" gradients ", o.gradients) : ""));
    };
    return std::visit(
        graph::Overloaded{[&](const graph::Conv2d& o) { return convolution(o); },
                          [&](const graph::Conv2dGradData& o) { return convolution(o); },
                          [&](const graph::Conv2dGradWeights& o) { return convolution(o); },
                          [&](const graph::BatchNormAct& o) { return norm(o); },
                          [&](const graph::BatchNormGradSums& o) { return gradients(o); },
                          [&](const graph::BatchNormActGrad& o) { return gradients(o); },
                          [&](const graph::Sum&) { return cat("of ", node.in.size()); },
                          [](const auto&) { return std::string(); }},
        node.op);
}

// The tensors of a convolution are its x, w and y in all three passes; else the first input and
// output, with the number of tensors that an op of several has.
Case case_of(const graph::Plan& plan, const graph::Node& node) {
    const auto shape = [&](graph::TensorId id) { return to_string(plan.tensor(id).shape); };
    const auto first = [&](graph::TensorIds ids) { return shape(ids.front()); };
    Case c{graph::name(node.op), "", "", "", attributes_of(node)};
    const auto convolution = [&](const graph::ConvolutionOperands& t) {
        c.x = shape(t.x), c.w = shape(t.w), c.y = shape(t.y);
    };
    std::visit(graph::Overloaded{
                   [&](const graph::Conv2d& o) { convolution(operands(o, node)); },
                   [&](const graph::Conv2dGradData& o) { convolution(operands(o, node)); },
                   [&](const graph::Conv2dGradWeights& o) { convolution(operands(o, node)); },
                   [&](const graph::AllReduce& o) {
                       c.x = c.y = cat(plan.buckets[static_cast<std::size_t>(o.bucket)].count);
                   },
                   [&](const graph::Update&) { c.x = c.y = cat(plan.parameter_count); },
                   [&](const auto&) { c.x = first(node.in), c.y = first(node.out); },
               },
               node.op);
    return c;
}

// Every tensor of the node once, as its element type says. The update reads value, gradient and
// momentum and writes value and momentum, all f32. One rank exchanges nothing.
double bytes_of(const graph::Plan& plan, const graph::Node& node) {
    if (std::holds_alternative<graph::Update>(node.op))
        return 5.0 * static_cast<double>(plan.parameter_count) * sizeof(float);
    if (std::holds_alternative<graph::ExchangeStart>(node.op) ||
        std::holds_alternative<graph::ExchangeFinish>(node.op) ||
        std::holds_alternative<graph::AllReduce>(node.op))
        return 0;
    double bytes = 0;
    for (const auto* ids : {&node.in, &node.out}) {
        for (const graph::TensorId id : *ids) {
            const graph::Tensor& t = plan.tensor(id);
            bytes += static_cast<double>(t.shape.elements()) *
                     static_cast<double>(size_of(t.dtype));
        }
    }
    return bytes;
}

using Kernels = std::vector<std::pair<Case, Kernel>>;

// The most time first.
Kernels kernels_of(const graph::Plan& plan, const std::vector<double>& times) {
    std::map<Case, Kernel> cases;
    for (std::size_t n = 0; n < times.size(); ++n) {
        const graph::Node& node = plan.nodes[n];
        Kernel& kernel = cases[case_of(plan, node)];
        ++kernel.count;
        kernel.flops = graph::convolution_flops(plan, node);
        kernel.bytes = bytes_of(plan, node);
        kernel.seconds.push_back(times[n]);
    }
    Kernels sorted(cases.begin(), cases.end());
    std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
        return a.second.total() > b.second.total();
    });
    return sorted;
}

// Times by what bounds them, of the kernels at or above the floor.
struct Bound {
    double seconds = 0, least = 0;  // taken; at the peak
};

struct Sums {
    double seconds = 0;  // of all nodes
    Bound compute, memory;
    std::int64_t nodes = 0, below = 0;  // all; below the floor
    double below_s = 0;
};

// Adds a row for the kernel, if `shown`, and its times to the sums.
void add_kernel(const Case& c, const Kernel& k, const Peaks& peaks, bool shown, Sums& sums,
                Report& report) {
    const double none = std::numeric_limits<double>::quiet_NaN();
    const double seconds = median(k.seconds), total = k.total();
    const double compute = k.flops / peaks.flops, memory = k.bytes / peaks.bytes;
    const double least = std::max(compute, memory);
    const bool timed = seconds >= floor_s && least > 0;
    if (timed) {
        Bound& bound = compute > memory ? sums.compute : sums.memory;
        bound.seconds += total;
        bound.least += least * static_cast<double>(k.count);
    } else {
        sums.below += k.count;
        sums.below_s += total;
    }
    if (!shown) return;
    report.rows.push_back({c.op, c.x, c.w, c.y, c.attributes, k.count, 1e6 * seconds, 1e3 * total,
                           100 * total / sums.seconds,
                           timed && k.flops > 0 ? k.flops / seconds / 1e9 : none,
                           timed ? k.bytes / seconds / 1e9 : none,
                           std::string(!timed             ? "none"
                                       : compute > memory ? "compute"
                                                          : "memory"),
                           timed ? 100 * least / seconds : none});
}

void summarise(const Options& o, const Peaks& peaks, const Sums& sums, Report& report) {
    const std::string prefix = cat("kernels_", o.backbone, "_", o.crop, "_batch", o.batch, "_",
                                   o.precision, "_");
    const auto percent = [](const Bound& b) {
        return b.seconds > 0 ? 100 * b.least / b.seconds : 0;
    };
    report.summary["peak_gflop_per_s"] = peaks.flops / 1e9;
    report.summary["peak_gb_per_s"] = peaks.bytes / 1e9;
    report.summary[prefix + "nodes_ms"] = 1e3 * sums.seconds;
    for (const auto& [name, bound] :
         {std::pair{"compute", sums.compute}, std::pair{"memory", sums.memory}}) {
        report.summary[prefix + name + "_bound_percent_of_time"] = 100 * bound.seconds /
                                                                   sums.seconds;
        report.summary[prefix + name + "_bound_percent_of_peak"] = percent(bound);
        report.notes.push_back(
            cat("bound by ", name, ": ", fixed(100 * bound.seconds / sums.seconds, 1),
                " % of the time, at ", fixed(percent(bound), 1), " % of the peak"));
    }
    report.summary[prefix + "nodes"] = sums.nodes;
    report.summary[prefix + "nodes_not_rated"] = sums.below;
    report.summary[prefix + "not_rated_percent_of_time"] = 100 * sums.below_s / sums.seconds;
    report.notes.push_back(cat("not rated: ", sums.below, " of ", sums.nodes, " nodes, ",
                               fixed(100 * sums.below_s / sums.seconds, 1),
                               " % of the time: shorter than ", fixed(1e6 * floor_s, 0),
                               " us, or an exchange, of which one rank has none"));
    report.notes.push_back(
        cat("peaks, measured on the same device and threads: ", fixed(peaks.flops / 1e9, 1),
            " GFLOP/s (a 1x1 convolution of 512 to 512 channels, a matrix product, ", o.precision,
            "), ", fixed(peaks.bytes / 1e9, 1), " GB/s (y = a + b over arrays of 128 MiB)"));
    report.notes.push_back(
        "percent_of_peak: the longer of FLOP / peak and bytes / peak, over the median time; bytes "
        "count every tensor once, so that what finds its input in the cache, or writes where it "
        "read, can be above 100; FLOP are those of a direct convolution, so that Winograd's 3x3 "
        "can "
        "be, too");
}

Report run(const Options& o, comm::Communicator& world) {
    check_network(o);
    if (o.steps < 1 || o.steps > 1000 || o.top < 0)
        throw UsageError(
            "--steps is 1 to 1000, --top not negative — there is nothing to measure or show — "
            "correct the command line");
    if (world.size() > 1)
        throw UsageError(
            "kernels measures one rank's device and there are several ranks — they would disturb "
            "each other — start it without mpirun; comm measures the exchanges");
    const Peaks peaks = measure_peaks(o, world);
    Subject subject(o, world, true);
    const std::vector<double> times = node_times(o.steps, subject);
    Report report;
    report.title = cat("ops of a training step of ", o.backbone, ", crop ", o.crop, ", batch ",
                       o.batch, ", ", o.precision, ": ", subject.backend->description());
    report.columns = {"op",
                      "x",
                      "w",
                      "y",
                      "attributes",
                      "count",
                      "median_us",
                      "total_ms",
                      "percent_of_time",
                      "gflop_per_s",
                      "gb_per_s",
                      "bound",
                      "percent_of_peak"};
    Sums sums;
    for (const double t : times) sums.seconds += t;
    sums.nodes = static_cast<std::int64_t>(times.size());
    std::int64_t place = 0;
    for (const auto& [c, kernel] : kernels_of(subject.plan, times))
        add_kernel(c, kernel, peaks, o.top == 0 || place++ < o.top, sums, report);
    report.settings["device"] = subject.backend->description();
    report.settings["backbone"] = o.backbone;
    report.settings["crop"] = o.crop;
    report.settings["batch"] = o.batch;
    report.settings["precision"] = o.precision;
    report.settings["steps"] = o.steps;
    report.settings["top"] = o.top;
    summarise(o, peaks, sums, report);
    return report;
}

}  // namespace

Bench kernels(CommandLine& program) {
    const auto o = std::make_shared<Options>();
    CommandLine& line = program.command(
        "kernels", "Every op of a training step: time, rate, percent of the machine's peak");
    add_network_options(line, *o);
    line.option("--steps", o->steps, "counted, after one that is not; medians are shown");
    line.option("--top", o->top, "rows: those that take the most time; 0: all");
    return {&line, [o](comm::Communicator& world) { return run(*o, world); }};
}

}  // namespace deeplab::bench
