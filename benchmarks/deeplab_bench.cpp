// deeplab-bench: measurements, one sub-command each (bench_<name>.cpp).

#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "bench_accuracy.h"
#include "bench_checkpoint.h"
#include "bench_comm.h"
#include "bench_depthwise.h"
#include "bench_infer.h"
#include "bench_kernels.h"
#include "bench_loader.h"
#include "bench_startup.h"
#include "bench_step.h"
#include "deeplab/base/command_line.h"
#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "report.h"

using namespace deeplab;

namespace {

// Before minutes of measuring, not after.
void require_place(const std::string& file) {
    if (!file.empty()) require_writable_directory(std::filesystem::absolute(file).parent_path());
}

int run(int argc, char** argv, comm::MpiSession& session) {
    CommandLine line("deeplab-bench", "Measures parts of the program, one sub-command each.",
                     "deeplab-bench loader --data shards --split train_aug --json loader.json\n"
                     "deeplab-bench loader --help");
    std::vector<bench::Bench> benches;
    benches.push_back(bench::loader(line));
    benches.push_back(bench::accuracy(line));
    benches.push_back(bench::step(line));
    benches.push_back(bench::infer(line));
    benches.push_back(bench::kernels(line));
    benches.push_back(bench::depthwise(line));
    benches.push_back(bench::startup(line));
    benches.push_back(bench::comm(line));
    benches.push_back(bench::checkpoint(line));
    std::string json, csv;
    for (const bench::Bench& bench : benches) {
        bench.command->option("--json", json, "write settings, machine, table and summary there",
                              {false, {}, "FILE"});
        bench.command->option("--csv", csv, "write the table there", {false, {}, "FILE"});
    }
    if (!line.parse(argc, argv)) return 0;
    comm::Communicator& world = session.world();
    for (const bench::Bench& bench : benches) {
        if (!bench.command->chosen()) continue;
        if (world.rank() == 0) {
            require_place(json);
            require_place(csv);
        }
        const io::Object environment = bench::environment(world);  // the load: without ours
        const bench::Report report = bench.run(world);
        if (world.rank() != 0) return 0;
        for (const auto& [name, value] : environment.members()) {
            const std::string* text = value.get_if<std::string>();
            std::cout << name << ": " << (text != nullptr ? *text : io::to_json(value)) << '\n';
        }
        std::cout << '\n' << bench::table_of(report) << std::flush;
        if (!json.empty()) write_atomically(json, bench::json_of(report, environment));
        if (!csv.empty()) write_atomically(csv, bench::csv_of(report));
        return 0;
    }
    throw UsageError(
        "nothing to measure — deeplab-bench needs a sub-command — see deeplab-bench --help");
}

}  // namespace

int main(int argc, char** argv) {
    comm::MpiSession session(&argc, &argv);
    return comm::run_guarded(session, [&] { return run(argc, argv, session); });
}
