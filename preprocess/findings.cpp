#include "findings.h"

#include <algorithm>
#include <array>
#include <exception>

#include "deeplab/base/error.h"
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

std::string padded(std::string text, std::size_t width) {
    if (text.size() < width) text.append(width - text.size(), ' ');
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

std::string table(const std::vector<Finding>& findings) {
    std::vector<std::array<std::string, 3>> rows = {{{"record", "file", "reason"}}};
    for (std::size_t i = 0; i < std::min(findings.size(), kMaxLines); ++i)
        rows.push_back({{findings[i].record, findings[i].file, findings[i].reason}});
    std::size_t widths[2] = {0, 0};
    for (const auto& row : rows)
        for (std::size_t c = 0; c < 2; ++c) widths[c] = std::max(widths[c], row[c].size());
    std::string out;
    for (const auto& row : rows)
        out += cat("  ", padded(row[0], widths[0]), "  ", padded(row[1], widths[1]), "  ", row[2],
                   "\n");
    if (findings.size() > kMaxLines) out += cat("  … and ", findings.size() - kMaxLines, " more\n");
    return out;
}

}  // namespace deeplab::preprocess
