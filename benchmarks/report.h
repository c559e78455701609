#pragma once
// What every sub-command of deeplab-bench hands back, and how it is shown: a table on stdout, and
// on request JSON and CSV, each with the machine it was measured on.

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "deeplab/base/command_line.h"
#include "deeplab/comm/communicator.h"
#include "deeplab/io/value.h"

namespace deeplab::bench {

struct Report {
    std::string title;                 // what was measured, in one line
    io::Object settings;               // what was asked for; no paths
    std::vector<std::string> columns;  // units in the name: "ms_per_image"
    std::vector<io::Array> rows;       // as long as `columns`; texts, integers, doubles
    io::Object summary;                // flat names to numbers, as in results/*/summary.json
    std::vector<std::string> notes;    // one line each: how to read the table
};

// A sub-command: its options are bound when it is made, so that --help lists them.
struct Bench {
    CommandLine* command = nullptr;  // owned by the program's
    std::function<Report(comm::Communicator& world)> run;
};

// Processor, processors of this process, memory, load, ranks, versions. No host name, no path.
io::Object environment(const comm::Communicator& world);

// The median of values; 0 of none.
double median(std::vector<double> values);

std::string table_of(const Report& report);
std::string csv_of(const Report& report);
std::string json_of(const Report& report, const io::Object& environment);

}  // namespace deeplab::bench
