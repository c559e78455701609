#include "bench_comm.h"

#include <algorithm>
#include <map>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "deeplab/base/clock.h"
#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/graph/plan.h"
#include "deeplab/model/deeplab.h"
#include "network_step.h"

namespace deeplab::bench {
namespace {
struct Options {
    std::string backbone = "both";
    std::int64_t repeats = 11, warmup = 2;
};

// Elements of a message of a step, and how many of that size there are.
struct Messages {
    std::map<std::int64_t, std::int64_t> gradients, batch_norm;
};

// Neither depends on crop or batch.
Messages messages_of(const std::string& backbone) {
    model::ModelConfig config;
    config.backbone = backbone;
    const graph::Plan plan = model::training_plan(
        config, {.batch = 2, .height = 65, .width = 65},
        {.momentum = 0.9f, .weight_decay = 4e-5f, .groups = {}});
    Messages out;
    for (const graph::Bucket& bucket : plan.buckets) ++out.gradients[bucket.count];
    for (const graph::Node& node : plan.nodes) {
        if (std::holds_alternative<graph::ExchangeStart>(node.op))
            ++out.batch_norm[message_elements(plan, node)];
    }
    return out;
}

// Median over repeats of the slowest rank's time, started and finished as in a step.
template <class T>
double seconds_of(const Options& o, std::int64_t count, comm::Communicator& world) {
    constexpr DType type = std::is_same_v<T, float> ? DType::f32 : DType::f64;
    const auto ranks = static_cast<double>(world.size());
    std::vector<T> data(static_cast<std::size_t>(count));
    std::vector<double> times;
    for (std::int64_t i = 0; i < o.warmup + o.repeats; ++i) {
        std::fill(data.begin(), data.end(), static_cast<T>(1 + world.rank()));
        world.barrier("start of a message");
        const Clock::time_point start = Clock::now();
        world.finish(world.start_all_reduce(data.data(), data.size(), type, comm::ReduceOp::sum,
                                            "message of the benchmark"));
        double seconds = seconds_since(start);
        const T sum = static_cast<T>(ranks * (ranks + 1) / 2);
        if (std::any_of(data.begin(), data.end(), [sum](T v) { return v != sum; }))
            throw DeviceError(
                cat("an all-reduce of ", count,
                    " elements gave a wrong sum — its time means nothing, and training would "
                    "compute wrongly — check the MPI library"));
        world.all_reduce(&seconds, 1, DType::f64, comm::ReduceOp::max, "time of a message");
        if (i >= o.warmup) times.push_back(seconds);
    }
    return median(times);
}

struct Total {
    double seconds = 0, bytes = 0;
    std::int64_t messages = 0;
};

template <class T>
Total measure_kind(const Options& o, const std::string& backbone, const char* kind,
                   const std::map<std::int64_t, std::int64_t>& sizes, comm::Communicator& world,
                   Report& report) {
    const double bus = 2.0 * (world.size() - 1) / world.size();
    Total total;
    for (const auto& [count, times_a_step] : sizes) {
        const double seconds = seconds_of<T>(o, count, world);
        const auto bytes = static_cast<double>(count) * static_cast<double>(sizeof(T));
        const double rate = bytes / seconds / 1e9;
        report.rows.push_back({backbone, kind, times_a_step, static_cast<std::int64_t>(bytes),
                               1e6 * seconds, rate, bus * rate});
        total.seconds += seconds * static_cast<double>(times_a_step);
        total.bytes += bytes * static_cast<double>(times_a_step);
        total.messages += times_a_step;
    }
    return total;
}

Report run(const Options& o, comm::Communicator& world) {
    if (o.repeats < 1 || o.repeats > 100000 || o.warmup < 0)
        throw UsageError(
            "--repeats is 1 to 100000, --warmup not negative — there would be nothing to measure "
            "— correct the command line");
    if (world.size() < 2)
        throw UsageError(
            "comm measures messages between ranks and there is one — nothing travels — start it "
            "with mpirun -np 2 or more");
    Report report;
    report.title = cat("all-reduces of a training step, one at a time: ", world.description());
    report.columns = {"backbone",           "message",     "per_step", "bytes", "median_us",
                      "algorithm_gb_per_s", "bus_gb_per_s"};
    const std::vector<std::string> backbones = o.backbone == "both"
                                                   ? std::vector<std::string>{"resnet50",
                                                                              "resnet101"}
                                                   : std::vector<std::string>{o.backbone};
    for (const std::string& backbone : backbones) {
        const Messages sizes = messages_of(backbone);
        const std::pair<const char*, Total> totals[] = {
            {"gradients", measure_kind<float>(o, backbone, "gradient bucket, fp32", sizes.gradients,
                                              world, report)},
            {"batch_norm", measure_kind<double>(o, backbone, "batch-norm sums, fp64",
                                                sizes.batch_norm, world, report)}};
        for (const auto& [kind, total] : totals) {
            const std::string name = cat("comm_", backbone, "_ranks", world.size(), "_", kind);
            report.summary[name + "_ms_per_step"] = 1e3 * total.seconds;
            report.summary[name + "_bytes_per_step"] = total.bytes;
            report.summary[name + "_messages_per_step"] = total.messages;
            report.notes.push_back(cat(backbone, ", ", kind, ": ", total.messages, " messages, ",
                                       human_bytes(static_cast<std::uint64_t>(total.bytes)), ", ",
                                       fixed(1e3 * total.seconds, 2),
                                       " ms a step if nothing overlapped"));
        }
    }
    report.settings["repeats"] = o.repeats;
    report.settings["warmup"] = o.warmup;
    report.settings["ranks"] = world.size();
    report.notes.push_back(
        "algorithm bandwidth: bytes / time; bus bandwidth: that times 2 (ranks - 1) / ranks, which "
        "a link carries; the time is the slowest rank's");
    return report;
}

}  // namespace

Bench comm(CommandLine& program) {
    const auto o = std::make_shared<Options>();
    CommandLine& line = program.command(
        "comm", "Gradient buckets and batch-norm sums of a step between two ranks or more");
    std::vector<std::string> choices = model::backbone_names();
    choices.emplace_back("both");
    line.option("--backbone", o->backbone, "whose messages; both: ResNet-50 and -101",
                {false, choices, ""});
    line.option("--repeats", o->repeats, "of every size; the median is shown");
    line.option("--warmup", o->warmup, "not counted, first");
    return {&line, [o](comm::Communicator& world) { return run(*o, world); }};
}

}  // namespace deeplab::bench
