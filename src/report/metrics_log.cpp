#include "deeplab/report/metrics_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <string_view>
#include <utility>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"

namespace deeplab::report {

namespace fs = std::filesystem;

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

}  // namespace deeplab::report
