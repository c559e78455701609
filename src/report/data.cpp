#include "data.h"

#include <limits>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"

namespace deeplab::report {

namespace fs = std::filesystem;

namespace {

[[noreturn]] void damaged(const std::string& where, const std::string& why) {
    throw DataError(cat(where, " is damaged: ", why,
                        " — the report would show something else than the run — restore the file, "
                        "or remove the line and run deeplab-report again"));
}

// The line's object; it has a step.
io::Object metrics_line(const std::string& text, const std::string& where) {
    io::Value value;
    try {
        value = io::parse_json(text, where);
    } catch (const UsageError& error) {
        damaged(where, cat("not JSON (", error.what(), ")"));
    }
    auto* line = value.get_if<io::Object>();
    if (line == nullptr) damaged(where, "not an object");
    const io::Value* step = line->find("step");
    if (step == nullptr || !step->is<std::int64_t>()) damaged(where, "no step");
    return std::move(*line);
}

void read_metrics(const fs::path& file, RunData& run) {
    std::error_code ignored;
    std::string text = fs::is_regular_file(file, ignored) ? read_text(file) : "";
    text.resize(text.find_last_of('\n') + 1);  // the rest is being written
    std::int64_t at = 0;
    for (const std::string& line : split(text, '\n')) {
        ++at;
        if (trim(line).empty()) continue;
        io::Object object = metrics_line(line, cat(file.string(), ", line ", at));
        (object.find("split") != nullptr ? run.evaluations : run.steps)
            .push_back(std::move(object));
    }
    if (run.steps.empty() && run.evaluations.empty()) {
        throw DataError(cat("the run has no metrics yet (", file.string(),
                            ") — there is nothing to show — wait for its first line "
                            "(train.log_every steps)"));
    }
}

void flatten(const io::Value& value, const std::string& prefix, Facts& out) {
    if (const auto* table = value.get_if<io::Object>()) {
        for (const auto& [key, member] : table->members())
            flatten(member, prefix.empty() ? key : cat(prefix, ".", key), out);
        return;
    }
    const auto* array = value.get_if<io::Array>();
    if (array != nullptr && !array->empty() && array->front().is<io::Object>()) {
        for (std::size_t i = 0; i < array->size(); ++i)
            flatten((*array)[i], cat(prefix, "[", i, "]"), out);
        return;
    }
    const auto* text = value.get_if<std::string>();
    out.emplace_back(prefix, text != nullptr ? *text : io::to_json(value));
}

EvaluationDetails parse_details(const fs::path& file) {
    const std::string where = file.string();
    io::Value value;
    try {
        value = io::parse_json(read_text(file), where);
    } catch (const UsageError& error) {
        damaged(where, error.what());
    }
    const auto* object = value.get_if<io::Object>();
    const auto member = [&](const char* key) {
        return object == nullptr ? nullptr : object->find(key);
    };
    const auto *hash = member("state_hash"), *classes = member("classes"),
               *matrix = member("confusion"), *pictures = member("pictures");
    if (hash == nullptr || !hash->is<std::string>() || classes == nullptr ||
        !classes->is<io::Array>() || matrix == nullptr || !matrix->is<io::Array>() ||
        pictures == nullptr || !pictures->is<std::int64_t>())
        damaged(where, "a member is missing");
    EvaluationDetails out;
    out.state_hash = *hash->get_if<std::string>();
    out.pictures = *pictures->get_if<std::int64_t>();
    for (const io::Value& v : *classes->get_if<io::Array>()) {
        if (!v.is<std::string>()) damaged(where, "a class has no name");
        out.classes.push_back(*v.get_if<std::string>());
    }
    for (const io::Value& v : *matrix->get_if<io::Array>()) {
        if (!v.is<std::int64_t>() || *v.get_if<std::int64_t>() < 0)
            damaged(where, "a count is not one");
        out.confusion.push_back(*v.get_if<std::int64_t>());
    }
    if (out.classes.empty() || out.classes.size() > 256 ||
        out.confusion.size() != out.classes.size() * out.classes.size())
        damaged(where, "the confusion matrix is not square");
    return out;
}

// Those of the last evaluation; a resumed run may have left them behind.
void read_details(const fs::path& folder, RunData& run) {
    const fs::path file = folder / "report/evaluation.json";
    std::error_code ignored;
    if (run.evaluations.empty() || !fs::is_regular_file(file, ignored)) return;
    EvaluationDetails details = parse_details(file);
    const io::Value* hash = run.evaluations.back().find("state_hash");
    if (hash == nullptr || !hash->is<std::string>() ||
        *hash->get_if<std::string>() != details.state_hash)
        return;
    for (std::int64_t i = 0; i < details.pictures; ++i) {
        const fs::path picture = picture_path(folder, i);
        if (!fs::is_regular_file(picture, ignored)) break;
        const auto bytes = read_bytes(picture);
        run.pictures.emplace_back(bytes.begin(), bytes.end());
    }
    run.details = std::move(details);
}

}  // namespace

std::string evaluation_json(std::int64_t step, const std::string& state_hash,
                            const data::ClassTable& classes, const evaluate::Confusion& confusion,
                            std::int64_t pictures) {
    io::Object out;
    out["step"] = step;
    out["state_hash"] = state_hash;
    io::Array names, counts;
    for (const auto& c : classes.classes) names.emplace_back(c.name);
    for (const std::int64_t count : confusion.counts()) counts.emplace_back(count);
    out["classes"] = std::move(names);
    out["confusion"] = std::move(counts);  // [truth][predicted], pixels
    out["pictures"] = pictures;
    return io::to_json(out) + "\n";
}

fs::path picture_path(const fs::path& run, std::int64_t number) {
    return run / "report" / cat("picture_", number, ".jpg");
}

std::int64_t RunData::last_step() const {
    double last = 0;
    for (const auto* lines : {&steps, &evaluations}) {
        if (!lines->empty()) last = std::max(last, number(lines->back(), "step"));
    }
    return static_cast<std::int64_t>(last);
}

std::string RunData::state_hash() const {
    for (const auto* lines : {&steps, &evaluations}) {
        if (lines->empty() || number(lines->back(), "step") < static_cast<double>(last_step()))
            continue;
        const io::Value* hash = lines->back().find("state_hash");
        if (hash != nullptr && hash->is<std::string>()) return *hash->get_if<std::string>();
    }
    return "";
}

RunData read_run(const fs::path& folder) {
    std::error_code ignored;
    if (!fs::is_directory(folder, ignored)) {
        throw UsageError(cat("there is no run ", folder.string(),
                             " — there is nothing to report — give a folder that deeplab-train "
                             "--out wrote"));
    }
    RunData run;
    fs::path whole = fs::absolute(folder).lexically_normal();
    if (!whole.has_filename()) whole = whole.parent_path();  // "RUN/"
    run.name = whole.filename().string();
    read_metrics(folder / "metrics.jsonl", run);
    if (const fs::path file = folder / "config.toml"; fs::is_regular_file(file, ignored)) {
        run.config = read_text(file);
        const io::Value config = io::parse_toml(run.config, file.string());
        flatten(config, "", run.settings);
        for (const auto& [key, value] : run.settings) {
            if (key == "train.iterations" &&
                value.find_first_not_of("0123456789") == std::string::npos)
                run.iterations = std::stoll(value.substr(0, 15));
        }
    }
    if (const fs::path file = folder / "environment.json"; fs::is_regular_file(file, ignored))
        flatten(io::parse_json(read_text(file), file.string()), "", run.environment);
    read_details(folder, run);
    return run;
}

double number(const io::Object& line, const char* key) {
    const io::Value* value = line.find(key);
    if (value == nullptr) return std::numeric_limits<double>::quiet_NaN();
    if (const auto* v = value->get_if<double>()) return *v;
    if (const auto* v = value->get_if<std::int64_t>()) return static_cast<double>(*v);
    return std::numeric_limits<double>::quiet_NaN();
}

Series series(const std::vector<io::Object>& lines, const char* key, double factor,
              const std::string& name) {
    Series out{name, {}};
    for (const io::Object& line : lines)
        out.points.emplace_back(number(line, "step"), factor * number(line, key));
    return out;
}

}  // namespace deeplab::report
