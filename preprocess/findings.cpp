#include "findings.h"

#include <algorithm>
#include <array>
#include <exception>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"

namespace deeplab::preprocess {
namespace {

constexpr std::size_t kMaxLines = 50;
// Separators of the gathered text; control characters of the input are replaced, so they cannot
// occur in a field.
constexpr char kField = '\x1f', kLine = '\x1e';

std::string clean(std::string text) {
    for (char& c : text)
        if (static_cast<unsigned char>(c) < 0x20) c = '?';
    return text;
}

}  // namespace

std::string reason_of(const std::exception& error, const std::string& file) {
    std::string reason = error.what();
    reason = reason.substr(0, reason.find(" — "));
    const std::string where = " (" + file + ")";
    const std::size_t at = reason.find(where);
    if (!file.empty() && at != std::string::npos) reason.erase(at, where.size());
    return reason;
}

std::vector<Finding> gather(comm::Communicator& comm, const std::vector<Finding>& own) {
    std::string text;
    for (const Finding& f : own)
        text += cat(f.order, kField, clean(f.record), kField, clean(f.file), kField,
                    clean(f.reason), kLine);
    std::vector<Finding> all;
    for (const std::string& part : comm.all_gather(text, "findings"))
        for (const std::string& line : split(part, kLine)) {
            const std::vector<std::string> fields = split(line, kField);
            if (fields.size() == 4)
                all.push_back({std::stoll(fields[0]), fields[1], fields[2], fields[3]});
        }
    std::stable_sort(all.begin(), all.end(),
                     [](const Finding& a, const Finding& b) { return a.order < b.order; });
    return all;
}

std::string table(const std::vector<Finding>& findings, const std::filesystem::path& file) {
    std::vector<std::array<std::string, 3>> rows = {{{"record", "file", "reason"}}};
    for (const Finding& f : findings) rows.push_back({{f.record, f.file, f.reason}});
    std::size_t widths[2] = {0, 0};
    for (const auto& row : rows)
        for (std::size_t c = 0; c < 2; ++c) widths[c] = std::max(widths[c], row[c].size());
    const auto lines = [&](std::size_t count) {
        std::string out;
        for (std::size_t i = 0; i < count; ++i)
            out += cat("  ", left_aligned(rows[i][0], widths[0]), "  ",
                       left_aligned(rows[i][1], widths[1]), "  ", rows[i][2], "\n");
        return out;
    };
    if (findings.size() <= kMaxLines) return lines(rows.size());
    std::string where;
    if (!file.empty()) {
        write_atomically(file, lines(rows.size()));
        where = cat("; all of them: ", file.string());
    }
    return cat(lines(kMaxLines + 1), "  … and ", findings.size() - kMaxLines, " more", where, "\n");
}

}  // namespace deeplab::preprocess
