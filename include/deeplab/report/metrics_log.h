#pragma once
// A run's metrics as they are written. Used by rank 0 alone.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "deeplab/io/value.h"

namespace deeplab::report {

// RUN/metrics.jsonl: one JSON object a line, keyed by "step"; evaluation lines have "split".
class MetricsLog {
public:
    // Keeps the whole lines of steps up to `last_step` (0: none), one per step and kind; the file
    // is rewritten atomically.
    MetricsLog(const std::filesystem::path& file, std::int64_t last_step);
    ~MetricsLog();
    MetricsLog(const MetricsLog&) = delete;
    MetricsLog& operator=(const MetricsLog&) = delete;

    void append(const io::Object& line);
    // Writes the lines that are not in the file yet. An Error when that is impossible: the file
    // then ends with a whole line, and the next call tries again.
    void flush();
    // Of the evaluation of this step, if there was one; -1 when none of the classes was there.
    std::optional<double> miou(std::int64_t step) const;

private:
    void note(const io::Object& line);

    std::filesystem::path file_;
    int out_ = -1;
    std::int64_t whole_ = 0;                    // bytes of whole lines in the file
    std::string pending_;                       // lines that are not
    std::map<std::int64_t, double> evaluated_;  // mIoU by step
};

}  // namespace deeplab::report
