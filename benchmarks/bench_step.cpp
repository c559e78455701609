#include "bench_step.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "deeplab/base/clock.h"
#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/cuda/cuda_backend.h"
#include "deeplab/graph/builder.h"
#include "deeplab/graph/operands.h"
#include "network_step.h"

namespace deeplab::bench {
namespace {

struct Options : NetworkOptions {
    std::int64_t steps = 5, warmup = 2;
    bool layers = false, whole = false;
};
// What the table splits a step into.
const char* group_of(const graph::Op& op) {
    return std::visit(
        [](const auto& o) {
            using T = std::decay_t<decltype(o)>;
            const auto is = [](auto... of) { return (std::is_same_v<T, decltype(of)> || ...); };
            if (is(graph::Conv2d{})) return "convolution, forward";
            if (is(graph::Conv2dGradData{})) return "convolution, backward data";
            if (is(graph::Conv2dGradWeights{})) return "convolution, backward weights";
            if (is(graph::BatchNormSums{}, graph::BatchNormAct{}, graph::BatchNormGradSums{},
                   graph::BatchNormActGrad{}))
                return "batch norm";
            if (is(graph::ExchangeStart{}, graph::ExchangeFinish{})) return "batch-norm exchange";
            if (is(graph::SegmentationLoss{})) return "head";
            if (is(graph::AllReduce{}, graph::Update{})) return "all-reduce and optimizer";
            return "pooling, upsampling, dropout, sums";
        },
        op);
}

void check(const Options& o) {
    check_network(o);
    if (o.steps < 1 || o.steps > 100000 || o.warmup < 0)
        throw UsageError(
            "--steps is 1 to 100000, --warmup not negative — there is no step to measure — correct "
            "the command line");
}

struct Times {
    std::vector<double> seconds, exposed, gaps;
};

// Whole steps, as training takes them.
Times whole_steps(const Options& o, Subject& subject, comm::Communicator& world) {
    Times times;
    for (std::int64_t i = 0; i < o.warmup + o.steps; ++i) {
        world.barrier("start of a step");
        const Clock::time_point start = Clock::now();
        const exec::MicroBatchResult result = subject.step();
        if (i < o.warmup) continue;
        times.seconds.push_back(seconds_since(start));
        times.exposed.push_back(result.comm_exposed_s);
        times.gaps.push_back(subject.host_gap());
    }
    return times;
}

void add_groups(const graph::Plan& plan, const std::vector<double>& times, Report& report) {
    double total = 0;
    std::map<std::string, std::pair<std::int64_t, double>> groups;
    for (std::size_t n = 0; n < times.size(); ++n) {
        auto& [count, seconds] = groups[group_of(plan.nodes[n].op)];
        ++count;
        seconds += times[n];
        total += times[n];
    }
    report.columns = {"part", "nodes", "ms", "percent"};
    for (const auto& [name, group] : groups)
        report.rows.push_back({name, group.first, 1e3 * group.second, 100 * group.second / total});
    report.rows.push_back(
        {"sum of the parts", static_cast<std::int64_t>(times.size()), 1e3 * total, 100.0});
}

void add_layers(const graph::Plan& plan, const std::vector<double>& times, Report& report) {
    report.columns = {"op", "tensor", "shape", "ms"};
    for (std::size_t n = 0; n < times.size(); ++n) {
        const graph::Node& node = plan.nodes[n];
        const graph::TensorId id = graph::subject(node);
        const bool named = id != graph::none;
        const Shape shape = named ? plan.tensor(id).shape : Shape{};
        report.rows.push_back({graph::name(node.op), named ? plan.tensor(id).name : "",
                               cat(shape.n, "x", shape.c, "x", shape.h, "x", shape.w),
                               1e3 * times[n]});
    }
}

// What the ranks send to each other in a step, and how long the node list lets each message hide: a
// bucket is ready `ready_s` after the step's start, an exchange has `hidden_s` of work between its
// start and its finish. scaling_model.py computes other numbers of ranks from it.
io::Object messages_of(const graph::Plan& plan, const std::vector<double>& times) {
    io::Array buckets, exchanges;
    std::map<std::int32_t, std::pair<std::int64_t, double>> started;  // elements, clock
    double clock = 0;
    for (std::size_t n = 0; n < times.size(); ++n) {
        const graph::Node& node = plan.nodes[n];
        if (const auto* start = std::get_if<graph::ExchangeStart>(&node.op)) {
            started[start->message] = {message_elements(plan, node), clock + times[n]};
        } else if (const auto* finish = std::get_if<graph::ExchangeFinish>(&node.op)) {
            io::Object exchange;
            exchange["elements"] = started[finish->message].first;
            exchange["hidden_s"] = clock - started[finish->message].second;
            exchanges.push_back(std::move(exchange));
        } else if (const auto* reduce = std::get_if<graph::AllReduce>(&node.op)) {
            io::Object bucket;
            bucket["elements"] = plan.buckets[static_cast<std::size_t>(reduce->bucket)].count;
            bucket["ready_s"] = clock;
            buckets.push_back(std::move(bucket));
        }
        clock += times[n];
    }
    io::Object all;
    all["buckets"] = std::move(buckets);
    all["exchanges"] = std::move(exchanges);
    all["nodes_s"] = clock;
    return all;
}

// The same network again, node by node.
void add_parts(const Options& o, Subject& subject, Report& report) {
    subject.compile(true);
    const std::vector<double> times = node_times(std::min<std::int64_t>(o.steps, 5), subject);
    report.settings["messages"] = messages_of(subject.plan, times);
    if (o.layers)
        add_layers(subject.plan, times, report);
    else
        add_groups(subject.plan, times, report);
}

// Of a step on a device of its own: how long that waited for the host between steps, and the memory
// in use there when the steps are over, which nothing gives back before the end.
struct DeviceFigures {
    double host_gap = 0;
    std::int64_t bytes = 0;
};

void add_device(const DeviceFigures& device, const std::string& prefix, Report& report) {
    report.summary[prefix + "host_gap_ms"] = 1e3 * device.host_gap;
    report.summary[prefix + "device_bytes"] = device.bytes;
    report.notes.push_back(
        cat("from a step's end until the next is under way: ", fixed(1e3 * device.host_gap, 3),
            " ms of the host's; device memory in use: ",
            human_bytes(static_cast<std::uint64_t>(device.bytes))));
}

io::Array milliseconds(const std::vector<double>& seconds) {
    io::Array values;
    for (const double s : seconds) values.emplace_back(1e3 * s);
    return values;
}

Report measure(const Options& o, comm::Communicator& world) {
    check(o);
    Report report;
    double seconds = 0, exposed = 0, flops = 0;
    std::int64_t arena = 0;
    exec::EngineCounts engines;
    std::optional<DeviceFigures> device;
    {
        Subject subject(o, world, false);
        const Times times = whole_steps(o, subject, world);
        double all[] = {median(times.seconds), median(times.exposed)};
        world.all_reduce(all, 2, DType::f64, comm::ReduceOp::max, "times of the steps");
        seconds = all[0];
        exposed = all[1];
        flops = graph::convolution_flops(subject.plan);
        arena = subject.executable->memory().arena_bytes;
        if (!subject.backend->on_host()) device = {median(times.gaps), cuda::device_bytes_in_use()};
        report.settings["step_ms"] = milliseconds(times.seconds);  // each, in their order
        report.title = cat("training step of ", o.backbone, ", crop ", o.crop, ", batch ", o.batch,
                           " a rank, ", world.size(), world.size() == 1 ? " rank, " : " ranks, ",
                           o.precision, ": ", subject.backend->description());
        report.settings["device"] = subject.backend->description();
        if (!o.whole) add_parts(o, subject, report);
        engines = subject.backend->engines();
    }
    const double images = static_cast<double>(o.batch * world.size()) / seconds;
    const std::string prefix = cat("step_", o.backbone, "_", o.crop, "_batch", o.batch, "_ranks",
                                   world.size(), "_", o.precision, "_");
    report.settings["backbone"] = o.backbone;
    report.settings["crop"] = o.crop;
    report.settings["batch_per_rank"] = o.batch;
    report.settings["steps"] = o.steps;
    report.settings["engines_timed"] = engines.timed;
    report.settings["engines_known"] = engines.known;
    report.summary[prefix + "ms"] = 1e3 * seconds;
    report.summary[prefix + "images_per_s"] = images;
    report.summary[prefix + "convolution_gflops_per_rank"] = flops / seconds / 1e9;
    report.summary[prefix + "comm_exposed_ms"] = 1e3 * exposed;
    report.summary[prefix + "arena_bytes"] = arena;
    report.notes = {
        cat("step: ", fixed(1e3 * seconds, 2), " ms (median of ", o.steps, "), ", fixed(images, 2),
            " images/s, ", fixed(flops / seconds / 1e9, 1),
            " GFLOP/s of convolutions a rank, exchanges exposed ", fixed(1e3 * exposed, 2),
            " ms, activations ", human_bytes(static_cast<std::uint64_t>(arena))),
        cat("engines: ", engines.timed, " timed, ", engines.known, " known")};
    if (device) add_device(*device, prefix, report);
    if (!o.whole) {
        report.notes.push_back(
            "the parts are measured in steps of their own, one node after the other: what overlaps "
            "in a step counts twice there");
    }
    return report;
}

}  // namespace

Bench step(CommandLine& program) {
    const auto o = std::make_shared<Options>();
    CommandLine& line = program.command("step",
                                        "A training step on generated input, and its parts");
    add_network_options(line, *o);
    line.option("--steps", o->steps, "counted; the median is given");
    line.option("--warmup", o->warmup, "not counted, first");
    line.flag("--whole", o->whole, "whole steps alone, not their parts");
    line.flag("--layers", o->layers, "a line for every node instead of a line for every part");
    return {&line, [o](comm::Communicator& world) { return measure(*o, world); }};
}

}  // namespace deeplab::bench
