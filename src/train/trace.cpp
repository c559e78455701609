#include "trace.h"

#include <utility>

#include "deeplab/base/clock.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/graph/operands.h"
#include "deeplab/io/value.h"

namespace deeplab::train {

namespace {

constexpr int loop_thread = 0, node_thread = 1;

std::string named(const char* what, int rank, int thread, const std::string& name) {
    io::Object args, event;
    args["name"] = name;
    event["name"] = what;
    event["ph"] = "M";
    event["pid"] = rank;
    event["tid"] = thread;
    event["args"] = std::move(args);
    return cat(",\n", io::to_json(event));
}

}  // namespace

Trace::Trace(std::filesystem::path file, comm::Communicator& control)
    : file_(std::move(file)), control_(control) {
    const int rank = control_.rank();
    events_ = named("process_name", rank, loop_thread, cat("rank ", rank)) +
              named("thread_name", rank, loop_thread, "loop") +
              named("thread_name", rank, node_thread, "nodes of the plan");
    control_.barrier("start of the time line");
    zero_ = Clock::now();
}

void Trace::event(int thread, std::string_view name, std::string_view detail, std::int64_t step,
                  double start_s, double seconds) {
    io::Object args, event;
    args["step"] = step + 1;
    if (!detail.empty()) args["tensor"] = std::string(detail);
    event["name"] = std::string(name);
    event["ph"] = "X";
    event["ts"] = 1e6 * start_s;
    event["dur"] = 1e6 * seconds;
    event["pid"] = control_.rank();
    event["tid"] = thread;
    event["args"] = std::move(args);
    events_ += cat(",\n", io::to_json(event));
}

void Trace::loop(std::string_view name, std::int64_t step, Clock::time_point start,
                 Clock::time_point end) {
    event(loop_thread, name, "", step, seconds_between(zero_, start), seconds_between(start, end));
}

void Trace::nodes(const graph::Plan& plan, std::int64_t step, Clock::time_point start,
                  std::span<const double> seconds) {
    double clock = seconds_between(zero_, start);
    for (std::size_t i = 0; i < seconds.size(); ++i) {
        const graph::Node& node = plan.nodes[i];
        const graph::TensorId id = graph::subject(node);
        event(node_thread, graph::name(node.op), id == graph::none ? "" : plan.tensor(id).name,
              step, clock, seconds[i]);
        clock += seconds[i];
    }
}

void Trace::write() {
    std::string all;
    for (const std::string& events : control_.all_gather(events_, "events of the time line"))
        all += events;
    if (control_.rank() == 0)
        write_atomically(file_, cat("{\"displayTimeUnit\": \"ms\", \"traceEvents\": [",
                                    all.substr(1), "\n]}\n"));
}

}  // namespace deeplab::train
