#include "bench_startup.h"

#include <unistd.h>

#include <ctime>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>
#include <utility>

#include "deeplab/base/clock.h"
#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "network_step.h"

namespace deeplab::bench {
namespace {

using Stages = std::vector<std::pair<std::string, double>>;

double seconds_since_boot() {
    timespec now{};
    ensures(clock_gettime(CLOCK_BOOTTIME, &now) == 0, "Linux tells the time since boot");
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// When the libraries had been loaded, just before main().
const double loaded = seconds_since_boot();

// When the process began, rounded down to a clock tick (10 ms): the 22nd field of /proc/self/stat;
// the second, the program's name in parentheses, may have spaces.
double process_start() {
    std::ifstream file("/proc/self/stat");
    const std::string all(std::istreambuf_iterator<char>(file), {});
    std::istringstream after(all.substr(all.rfind(')') + 1));
    std::string field;
    for (int i = 3; i <= 22; ++i) after >> field;
    if (!after)
        throw DeviceError(
            "/proc/self/stat does not tell when this process began — start-up cannot be measured "
            "without — run it where /proc is mounted");
    return std::stod(field) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

Report run(const NetworkOptions& o, comm::Communicator& world) {
    const double entered = seconds_since_boot();
    check_network(o);
    Stages stages = {{"load_program", loaded - process_start()},
                     {"mpi_init_and_command_line", entered - loaded}};
    Subject subject(o, world, false);
    stages.insert(stages.end(), subject.stages.begin(), subject.stages.end());
    stages.emplace_back("first_step", seconds_of([&] { subject.step(); }));
    std::vector<double> seconds;
    for (const auto& [name, s] : stages) seconds.push_back(s);
    double total = 0;
    for (const double s : seconds) total += s;
    seconds.push_back(total);
    seconds.push_back(seconds_of([&] { subject.step(); }));
    seconds.push_back(seconds_of([&] { subject.step(); }));
    world.all_reduce(seconds.data(), seconds.size(), DType::f64, comm::ReduceOp::max,
                     "times of the start");

    Report report;
    report.title = cat("start of a run of ", o.backbone, ", crop ", o.crop, ", batch ", o.batch,
                       " a rank, ", world.size(), world.size() == 1 ? " rank, " : " ranks, ",
                       o.precision, ": ", subject.backend->description());
    report.columns = {"stage", "ms"};
    stages.insert(stages.end(), {{"to_first_step_done", 0}, {"second_step", 0}, {"third_step", 0}});
    const std::string prefix = cat("startup_", o.backbone, "_", o.crop, "_batch", o.batch, "_ranks",
                                   world.size(), "_", o.precision, "_");
    for (std::size_t i = 0; i < stages.size(); ++i) {
        report.rows.push_back({stages[i].first, 1e3 * seconds[i]});
        report.summary[prefix + stages[i].first + "_ms"] = 1e3 * seconds[i];
    }
    report.settings["device"] = subject.backend->description();
    report.settings["backbone"] = o.backbone;
    report.settings["crop"] = o.crop;
    report.settings["batch_per_rank"] = o.batch;
    report.notes = {
        "load_program: from the process's start, which is told to 10 ms, until the libraries are "
        "loaded; mpi_init_and_command_line: from there until the benchmark began",
        "of several ranks the slowest's time is shown, stage by stage; on generated input: no "
        "shards are opened and no weights read"};
    return report;
}

}  // namespace

Bench startup(CommandLine& program) {
    const auto o = std::make_shared<NetworkOptions>();
    CommandLine& line = program.command(
        "startup", "From a program's start to the end of its first training step");
    add_network_options(line, *o);
    return {&line, [o](comm::Communicator& world) { return run(*o, world); }};
}

}  // namespace deeplab::bench
