#include "nonfinite.h"

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/io/value.h"

namespace deeplab::train {

namespace fs = std::filesystem;

namespace {

constexpr std::int64_t most_in_a_row = 3;
constexpr std::size_t most = 20;

fs::path file_of(const fs::path& run) { return run / "nonfinite.jsonl"; }

}  // namespace

void record_nonfinite(const fs::path& run, const NonFinite& found) {
    const fs::path file = file_of(run);
    io::Object line;
    line["step"] = found.step + 1;
    line["loss"] = found.loss;
    line["lr"] = found.learning_rate;
    line["skipped"] = found.skipped;
    io::Array ids;
    for (const auto& id : split(found.ids, ' ')) ids.emplace_back(id);
    line["ids"] = ids;
    const std::string before = fs::exists(file) ? read_text(file) : "", text = io::to_json(line);
    if (before.find(text + "\n") == std::string::npos) write_atomically(file, before + text + "\n");
}

std::set<std::int64_t> skipped_steps(const fs::path& run) {
    std::set<std::int64_t> steps;
    const fs::path file = file_of(run);
    if (!fs::exists(file)) return steps;
    for (const auto& line : split(read_text(file), '\n')) {
        if (trim(line).empty()) continue;
        const io::Value value = io::parse_json(line, file.string());
        const auto* object = value.get_if<io::Object>();
        const auto* step = object == nullptr ? nullptr : object->find("step");
        const auto* skipped = object == nullptr ? nullptr : object->find("skipped");
        if (step == nullptr || !step->is<std::int64_t>() || skipped == nullptr ||
            !skipped->is<bool>()) {
            throw DataError(cat(file.string(),
                                " is damaged — the run would take steps again that it has passed — "
                                "restore the file, or remove it to take them"));
        }
        if (*skipped->get_if<bool>()) steps.insert(*step->get_if<std::int64_t>() - 1);
    }
    return steps;
}

void forget_nonfinite(const fs::path& run) {
    std::error_code ignored;
    fs::remove(file_of(run), ignored);
}

bool diverged(const std::set<std::int64_t>& skipped, std::int64_t step) {
    std::int64_t row = 0;
    while (skipped.contains(step - row)) ++row;
    return row >= most_in_a_row || skipped.size() > most;
}

}  // namespace deeplab::train
