#pragma once
// Runs a program and waits for it: for tests of command lines, exit codes and messages.

#include <string>
#include <vector>

namespace deeplab::testing {

struct ProcessResult {
    int exit_code = -1;  // 128 + signal when killed by one, as a shell says; 124: killed after the
                         // time limit
    std::string out, err;  // stdout and stderr
    std::string both() const { return out + err; }
};

struct ProcessOptions {
    std::vector<std::string> environment;  // "NAME=value", added to this process's
    std::string directory;                 // to start in; empty: this one's
    double timeout_s = 120;
};

// arguments[0] is the program (searched on PATH). Inherits no stdin. Ends the program's whole
// process group on timeout.
ProcessResult run_process(const std::vector<std::string>& arguments, const ProcessOptions& options);
ProcessResult run_process(const std::vector<std::string>& arguments);

// {"mpirun", flags…, "-np", ranks} + arguments; just the arguments for one rank, or where MPI is
// not built in.
std::vector<std::string> with_ranks(int ranks, const std::vector<std::string>& arguments);
bool have_mpirun();

// A program of the build, e.g. program("deeplab-train"): its full path in bin/.
std::string program(const std::string& name);
// One that only tests run: its full path in tests/.
std::string helper(const std::string& name);

}  // namespace deeplab::testing
