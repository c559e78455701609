#include "deeplab/train/run_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <map>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"

namespace deeplab::train {

namespace fs = std::filesystem;

namespace {

// Step of "step-0000100.h5"; -1 for any other name.
std::int64_t step_of(const fs::path& file) {
    const std::string name = file.filename().string();
    if (!name.starts_with("step-") || !name.ends_with(".h5")) return -1;
    const std::string digits = name.substr(5, name.size() - 8);
    if (digits.empty() || digits.size() > 15 ||
        digits.find_first_not_of("0123456789") != std::string::npos)
        return -1;
    return std::stoll(digits);
}

fs::path checkpoint_folder(const fs::path& run) { return run / "checkpoints"; }

// What a link of the folder names; empty when there is none, or when it dangles.
fs::path linked(const fs::path& run, const char* name) {
    std::error_code error;
    const fs::path target = fs::read_symlink(checkpoint_folder(run) / name, error);
    if (error) return {};
    const fs::path file = checkpoint_folder(run) / target.filename();
    return fs::is_regular_file(file, error) ? file : fs::path();
}

}  // namespace

MetricsLog::MetricsLog(const fs::path& file, std::int64_t last_step) : file_(file) {
    std::map<std::pair<std::int64_t, bool>, std::string>
        lines;  // (step, evaluation): in the file's own order
    if (last_step > 0 && fs::exists(file)) {
        for (const auto& line : split(read_text(file), '\n')) {
            if (trim(line).empty()) continue;
            io::Value value;
            try {
                value = io::parse_json(line, file.string());
            } catch (const UsageError&) {
                continue;  // the writer was killed within the line
            }
            const auto* object = value.get_if<io::Object>();
            const auto* step = object == nullptr ? nullptr : object->find("step");
            const auto* number = step == nullptr ? nullptr : step->get_if<std::int64_t>();
            if (number == nullptr || *number > last_step) continue;
            lines[{*number, object->find("split") != nullptr}] = line;
            note(*object);
        }
    }
    std::string text;
    for (const auto& entry : lines) text += entry.second + "\n";
    write_atomically(file, text);
    whole_ = static_cast<std::int64_t>(text.size());
    out_ = open(file.c_str(), O_WRONLY | O_CLOEXEC);
    if (out_ < 0) {
        throw UsageError(cat("cannot write ", file.string(), ": ", std::strerror(errno),
                             " — the run's metrics would be lost — check the folder"));
    }
}

MetricsLog::~MetricsLog() {
    if (out_ >= 0) close(out_);
}

// Of an evaluation's line: its mIoU.
void MetricsLog::note(const io::Object& line) {
    if (line.find("split") == nullptr) return;
    const auto* miou = line.find("miou");
    const auto* number = miou == nullptr ? nullptr : miou->get_if<double>();
    evaluated_[*line.find("step")->get_if<std::int64_t>()] = number == nullptr ||
                                                                     std::isnan(*number)
                                                                 ? -1
                                                                 : *number;
}

std::optional<double> MetricsLog::miou(std::int64_t step) const {
    const auto found = evaluated_.find(step);
    if (found == evaluated_.end()) return std::nullopt;
    return found->second;
}

void MetricsLog::append(const io::Object& line) {
    const auto* step = line.find("step");
    expects(step != nullptr && step->is<std::int64_t>(), "a metrics line has a step");
    note(line);
    pending_ += io::to_json(line) + "\n";
    flush();
}

void MetricsLog::flush() {
    std::string_view rest = pending_;
    std::int64_t at = whole_;
    while (!rest.empty()) {
        const ssize_t count = pwrite(out_, rest.data(), rest.size(), at);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) {
            const int number = count < 0 ? errno : EIO;
            // A part of a line would be taken for damage.
            static_cast<void>(!ftruncate(out_, whole_));
            throw DeviceError(cat("cannot write ", file_.string(), ": ", std::strerror(number),
                                  " — the run's metrics are incomplete — make room"));
        }
        rest.remove_prefix(static_cast<std::size_t>(count));
        at += count;
    }
    whole_ = at;
    pending_.clear();
}

fs::path checkpoint_path(const fs::path& run, std::int64_t step) {
    std::string digits = std::to_string(step);
    if (digits.size() < 7) digits.insert(0, 7 - digits.size(), '0');
    return checkpoint_folder(run) / cat("step-", digits, ".h5");
}

std::map<std::int64_t, fs::path> checkpoints_of(const fs::path& run) {
    std::map<std::int64_t, fs::path> files;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(checkpoint_folder(run), ignored)) {
        const std::int64_t step = step_of(entry.path());
        if (step >= 0 && entry.is_regular_file(ignored)) files[step] = entry.path();
    }
    return files;
}

std::optional<fs::path> latest_checkpoint(const fs::path& run) {
    if (const fs::path named = linked(run, "latest.h5"); !named.empty()) return named;
    const auto files = checkpoints_of(run);
    if (files.empty()) return std::nullopt;
    return files.rbegin()->second;
}

void link_checkpoint(const fs::path& target, const std::string& name) {
    const fs::path link = target.parent_path() / name,
                   temporary = target.parent_path() / cat(".", name, ".new");
    std::error_code error;
    fs::remove(temporary, error);
    fs::create_symlink(target.filename(), temporary, error);
    if (!error) fs::rename(temporary, link, error);
    if (error) {
        const bool no_links = error == std::errc::operation_not_permitted ||
                              error == std::errc::operation_not_supported ||
                              error == std::errc::function_not_supported;
        throw UsageError(cat("cannot make the link ", link.string(), ": ", error.message(),
                             " — a resumed run would not find its checkpoint — ",
                             no_links ? "use a file system with symbolic links"
                                      : "check the folder, its permissions and its room"));
    }
}

void prune_checkpoints(const fs::path& run, std::int64_t keep, const std::set<fs::path>& damaged) {
    const fs::path best = linked(run, "best.h5"), latest = linked(run, "latest.h5");
    auto files = checkpoints_of(run);
    std::erase_if(files, [&](const auto& entry) { return damaged.contains(entry.second); });
    std::int64_t surplus = static_cast<std::int64_t>(files.size()) - keep;
    for (const auto& [step, file] : files) {
        if (surplus-- <= 0) break;
        std::error_code ignored;
        if (file != best && file != latest) fs::remove(file, ignored);
    }
}

void remove_leftovers(const fs::path& run) {
    for (const fs::path& folder : {run, checkpoint_folder(run)}) {
        std::error_code ignored;
        std::vector<fs::path> files;
        for (const auto& entry : fs::directory_iterator(folder, ignored)) {
            const std::string name = entry.path().filename().string();
            const auto mark = name.find(".tmp-");  // AtomicFile's, then pid and a number
            const bool temporary = (mark != std::string::npos &&
                                    name.find_first_not_of("0123456789-", mark + 5) ==
                                        std::string::npos) ||
                                   name == ".latest.h5.new" || name == ".best.h5.new";
            if (temporary && !entry.is_directory(ignored)) files.push_back(entry.path());
        }
        for (const auto& file : files) fs::remove(file, ignored);
    }
}

}  // namespace deeplab::train
