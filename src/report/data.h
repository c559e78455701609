#pragma once
// What a report is made of, read from a run's folder.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deeplab/data/shard.h"
#include "deeplab/evaluate/confusion.h"
#include "deeplab/io/value.h"
#include "svg.h"

namespace deeplab::report {

// RUN/report/evaluation.json: what the last evaluation's line of metrics.jsonl does not hold.
struct EvaluationDetails {
    std::string state_hash;  // of the network that was evaluated: ties it to its line
    std::vector<std::string> classes;
    std::vector<std::int64_t> confusion;  // [truth][predicted], pixels
    std::int64_t pictures = 0;            // report/picture_<i>.jpg: input | truth | prediction
};
std::string evaluation_json(std::int64_t step, const std::string& state_hash,
                            const data::ClassTable& classes, const evaluate::Confusion& confusion,
                            std::int64_t pictures);
std::filesystem::path picture_path(const std::filesystem::path& run, std::int64_t number);

using Facts = std::vector<std::pair<std::string, std::string>>;  // name, value

struct RunData {
    std::string name;
    std::vector<io::Object> steps, evaluations;  // lines of metrics.jsonl in the file's order
    std::int64_t iterations = 0;                 // 0: not known
    std::string config;                          // TOML
    Facts settings, environment;                 // "train.lr", "0.1"
    std::optional<EvaluationDetails> details;    // of the last evaluation
    std::vector<std::string> pictures;           // JPEG bytes

    std::int64_t last_step() const;
    std::string state_hash() const;  // of the last line that has one; "" without
};
RunData read_run(const std::filesystem::path& run);

// NaN when absent or null.
double number(const io::Object& line, const char* key);
Series series(const std::vector<io::Object>& lines, const char* key, double factor,
              const std::string& name);

}  // namespace deeplab::report
