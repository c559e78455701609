#pragma once
// A run's report: index.html, which needs nothing else, and its charts as SVG files. Made from the
// run's files alone, at any time, also while the run goes on.

#include <filesystem>
#include <span>

namespace deeplab::report {

// Writes the report of RUN into `out` (the trainer's: RUN/report). Reads metrics.jsonl, and where
// they exist config.toml, environment.json, report/evaluation.json and its pictures. UsageError
// when there is no such run, DataError when it has no metrics yet or a file is damaged (metrics:
// with the line's number; a last line without its end is being written and left out).
void write_report(const std::filesystem::path& run, const std::filesystem::path& out);

// Several runs on one page: curves over each other, final metrics, differences of configuration.
void write_comparison(std::span<const std::filesystem::path> runs,
                      const std::filesystem::path& out);

}  // namespace deeplab::report
