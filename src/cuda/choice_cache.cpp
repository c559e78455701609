#include "choice_cache.h"

#include <charconv>
#include <cstdlib>
#include <string_view>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/cuda/cuda_backend.h"

namespace fs = std::filesystem;

namespace deeplab::cuda {
namespace {

constexpr std::string_view header = "deeplab-hpc convolution choices, format 1";

std::uint32_t checksum(std::string_view text) {
    return crc32({reinterpret_cast<const unsigned char*>(text.data()), text.size()});
}

std::string line_of(const std::string& key, const Choice& choice) {
    const std::string text = cat(key, "\t", choice.engine, "\t", knobs_text(choice), "\t",
                                 fixed(choice.milliseconds, 4));
    return cat(text, "\t", checksum(text));
}

// The whole of `text` as a number.
template <class Number>
bool parse(std::string_view text, Number& number) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    return error == std::errc() && end == text.data() + text.size();
}

bool parse_knobs(const std::string& text, Choice& choice) {
    if (text.empty()) return true;
    for (const std::string& knob : split(text, ',')) {
        const std::vector<std::string> sides = split(knob, '=');
        std::int64_t type = 0, value = 0;
        if (sides.size() != 2 || !parse(sides[0], type) || !parse(sides[1], value)) return false;
        choice.knobs.emplace_back(type, value);
    }
    return true;
}

bool parse_line(const std::string& line, std::string& key, Choice& choice) {
    const std::size_t last = line.rfind('\t');
    std::uint32_t sum = 0;
    if (last == std::string::npos || !parse(std::string_view(line).substr(last + 1), sum) ||
        sum != checksum(std::string_view(line).substr(0, last))) {
        return false;
    }
    const std::vector<std::string> fields = split(line.substr(0, last), '\t');
    if (fields.size() != 4) return false;
    key = fields[0];
    return parse(fields[1], choice.engine) && parse_knobs(fields[2], choice) &&
           parse(fields[3], choice.milliseconds);
}

}  // namespace

std::string knobs_text(const Choice& choice) {
    std::string text;
    for (const auto& [type, value] : choice.knobs)
        text += cat(text.empty() ? "" : ",", type, "=", value);
    return text;
}

ChoiceCache::ChoiceCache(fs::path file) : file_(std::move(file)) { read(); }

bool ChoiceCache::read() {
    std::error_code ignored;
    if (file_.empty() || !fs::exists(file_, ignored)) return true;
    try {
        return merge(read_text(file_), file_.string());
    } catch (const Error& error) {
        log::warn(cat(error.what(), " (convolutions are timed anew)"));
        return false;
    }
}

std::string ChoiceCache::text() const {
    std::string text = cat(header, "\n");
    for (const auto& [key, choice] : entries_) text += line_of(key, choice) + '\n';
    return text;
}

bool ChoiceCache::merge(const std::string& text, const std::string& origin) {
    const std::vector<std::string> lines = split(text, '\n');
    if (lines.front() != header) {
        log::warn(cat(origin,
                      " holds no convolution choices, or those of another version — they are "
                      "timed anew and not kept — name another file by DEEPLAB_TUNING_CACHE, or "
                      "remove it"));
        return false;
    }
    std::size_t damaged = 0;
    for (std::size_t i = 1; i < lines.size(); ++i) {
        if (lines[i].empty()) continue;
        std::string key;
        Choice choice;
        if (parse_line(lines[i], key, choice)) {
            entries_[key] = choice;
        } else {
            ++damaged;
        }
    }
    if (damaged > 0) {
        log::warn(cat(origin, ": ", damaged, damaged == 1 ? " line is" : " lines are",
                      " damaged — their convolutions are timed anew"));
    }
    return true;
}

std::optional<Choice> ChoiceCache::find(const std::string& key) const {
    const auto entry = entries_.find(key);
    if (entry == entries_.end()) return std::nullopt;
    return entry->second;
}

void ChoiceCache::insert(const std::string& key, const Choice& choice) {
    expects(key.find_first_of("\t\n") == std::string::npos, "a key is one line without tabs");
    entries_[key] = choice;
    if (choice.milliseconds > 0) inserted_[key] = choice;
}

void ChoiceCache::erase(const std::string& key) {
    entries_.erase(key);
    inserted_.erase(key);
    saved_.erase(key);
}

void ChoiceCache::save() {
    if (file_.empty() || (inserted_.empty() && saved_.empty())) return;
    try {
        ChoiceCache all({});
        all.file_ = file_;
        if (!all.read()) return;
        const std::size_t found = all.entries_.size();
        all.entries_.insert(saved_.begin(), saved_.end());  // those that are not there
        if (inserted_.empty() && all.entries_.size() == found) return;
        for (const auto& [key, choice] : inserted_) all.entries_[key] = saved_[key] = choice;
        if (file_.has_parent_path()) require_writable_directory(file_.parent_path());
        write_atomically(file_, all.text());
        inserted_.clear();
    } catch (const Error& error) {
        log::warn(cat("the convolution choices are not kept: ", error.what(),
                      " (DEEPLAB_TUNING_CACHE names another file)"));
    }
}

namespace {
fs::path value(const char* name) {
    const char* text = std::getenv(name);
    return {text != nullptr ? text : ""};
}
}  // namespace

fs::path default_choice_cache() {
    if (std::getenv("DEEPLAB_TUNING_CACHE") != nullptr) return value("DEEPLAB_TUNING_CACHE");
    fs::path folder = value("XDG_CACHE_HOME");
    if (folder.empty() && !value("HOME").empty()) folder = value("HOME") / ".cache";
    return folder.empty() ? folder : folder / "deeplab-hpc" / "convolutions.txt";
}

fs::path default_tuning_log() { return value("DEEPLAB_TUNING_LOG"); }

}  // namespace deeplab::cuda
