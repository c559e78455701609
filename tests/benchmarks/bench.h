#pragma once
// deeplab-bench as a user runs it, with its JSON.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "deeplab/base/clock.h"
#include "deeplab/base/files.h"
#include "deeplab/io/value.h"
#include "harness/process.h"
#include "harness/temp_dir.h"

namespace deeplab::testing {

struct BenchRun {
    ProcessResult result;
    double passed_ms = 0;
    io::Object summary;

    // Of the summary; a failure of the test, and 0, where it is not there.
    double number(const std::string& name) const {
        const io::Value* value = summary.find(name);
        const bool there = value != nullptr && value->is<double>();
        EXPECT_TRUE(there) << name;
        return there ? *value->get_if<double>() : 0.0;
    }
};

inline BenchRun run_bench(const std::vector<std::string>& words) {
    const TempDir dir;
    const std::string json = (dir / "bench.json").string();
    std::vector<std::string> command = {program("deeplab-bench")};
    command.insert(command.end(), words.begin(), words.end());
    command.insert(command.end(), {"--json", json});
    BenchRun run;
    run.passed_ms = 1e3 * seconds_of([&] {
                        run.result = run_process(command,
                                                 {.environment = {"OMP_WAIT_POLICY=passive"},
                                                  .directory = "",
                                                  .timeout_s = 120});
                    });
    EXPECT_EQ(run.result.exit_code, 0) << run.result.both();
    if (run.result.exit_code != 0) return run;
    const io::Value root = io::parse_json(read_text(json), json);
    run.summary = *root.get_if<io::Object>()->find("summary")->get_if<io::Object>();
    return run;
}

}  // namespace deeplab::testing
