#pragma once
// A time line of a run's first steps, all ranks in one: Chrome's trace-event format, for
// chrome://tracing or ui.perfetto.dev. A process is a rank; its threads are the loop (waiting for
// data, the step) and the nodes of the plan, one after the other.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "deeplab/base/clock.h"
#include "deeplab/comm/communicator.h"
#include "deeplab/graph/plan.h"

namespace deeplab::train {

class Trace {
public:
    // Steps of this process that are drawn: [first, first + count). The first ones are slower.
    static constexpr std::int64_t first = 2, count = 3;

    // Collective. Times count from a barrier in here, so that ranks stand side by side to within
    // the time in which they leave it.
    Trace(std::filesystem::path file, comm::Communicator& control);

    void loop(std::string_view name, std::int64_t step, Clock::time_point start,
              Clock::time_point end);
    // What Executable::node_seconds tells of a run that began at `start`.
    void nodes(const graph::Plan& plan, std::int64_t step, Clock::time_point start,
               std::span<const double> seconds);
    // Collective: gathers the ranks' events; rank 0 writes the file, whole or not at all.
    void write();

private:
    void event(int thread, std::string_view name, std::string_view detail, std::int64_t step,
               double start_s, double seconds);

    std::filesystem::path file_;
    comm::Communicator& control_;
    Clock::time_point zero_;
    std::string events_;  // JSON objects, each after a comma
};

}  // namespace deeplab::train
