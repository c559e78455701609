// deeplab-report: the report of a run, or of several side by side.

#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "deeplab/base/command_line.h"
#include "deeplab/base/error.h"
#include "deeplab/comm/communicator.h"
#include "deeplab/report/report.h"

namespace {

using namespace deeplab;
namespace fs = std::filesystem;

int run(int argc, char** argv, comm::MpiSession& session) {
    std::vector<std::string> names;
    std::string out;
    CommandLine line(
        "deeplab-report",
        "Writes index.html and SVG figures of a run, also while it goes on; of several "
        "runs a page that compares them.",
        "deeplab-report RUN\n"
        "deeplab-report RUN_A RUN_B RUN_C --out comparison");
    line.positional("RUN", names, "folders that deeplab-train --out wrote", true);
    line.option("--out", out, "where to write; by default RUN/report, for several runs required",
                {false, {}, "DIR"});
    if (!line.parse(argc, argv)) return 0;
    session.world();
    const std::vector<fs::path> runs(names.begin(), names.end());
    if (runs.size() > 1 && out.empty()) {
        throw UsageError(
            "a comparison of several runs needs --out — it belongs to none of them — give the "
            "folder to write, e.g. --out comparison");
    }
    const fs::path folder = out.empty() ? runs[0] / "report" : fs::path(out);
    if (runs.size() == 1)
        report::write_report(runs[0], folder);
    else
        report::write_comparison(runs, folder);
    std::cout << (folder / "index.html").string() << std::endl;
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    comm::MpiSession session(&argc, &argv);
    return comm::run_guarded(session, [&] { return run(argc, argv, session); });
}
