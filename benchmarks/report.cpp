#include "report.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/base/version.h"

namespace deeplab::bench {
namespace {

// "" where the system does not tell.
std::string processor_name() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("model name")) return trim(line.substr(line.find(':') + 1));
    }
    return "";
}

std::int64_t processors_of_this_process() {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
    return sysconf(_SC_NPROCESSORS_ONLN);
}

// Four significant digits are more than any of these measurements has.
std::string shown(const io::Value& value) {
    if (const std::string* text = value.get_if<std::string>()) return *text;
    const double* number = value.get_if<double>();
    if (number == nullptr) return io::to_json(value);
    if (!std::isfinite(*number)) return "n/a";
    const double size = std::abs(*number);
    if (size > 0 && size < 1e-3) return cat(*number);
    return fixed(*number, size < 1 ? 4 : size < 10 ? 3 : size < 100 ? 2 : size < 1000 ? 1 : 0);
}

std::string quoted(const std::string& text) {
    if (text.find_first_of(",\"\n") == std::string::npos) return text;
    std::string out = "\"";
    for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
    return out + "\"";
}

std::string csv_line(const std::vector<std::string>& cells) {
    std::string line;
    for (std::size_t i = 0; i < cells.size(); ++i) line += (i > 0 ? "," : "") + quoted(cells[i]);
    return line + "\n";
}

// Texts to the left, numbers to the right.
std::string table_line(const std::vector<std::string>& cells, const std::vector<bool>& text,
                       const std::vector<std::size_t>& widths) {
    std::string line;
    for (std::size_t i = 0; i < cells.size(); ++i) {
        line += "  ";
        line += text[i] ? left_aligned(cells[i], widths[i]) : right_aligned(cells[i], widths[i]);
    }
    return line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
}

}  // namespace

io::Object environment(const comm::Communicator& world) {
    io::Object out;
    out["processor"] = processor_name();
    out["processors"] = processors_of_this_process();
    out["memory"] = human_bytes(static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                                static_cast<std::uint64_t>(sysconf(_SC_PAGE_SIZE)));
    double load = 0;
    if (getloadavg(&load, 1) == 1) out["load_average_1_min"] = load;
    out["ranks"] = world.size();
    out["communicator"] = world.description();
    out["version"] = version();
    for (const std::string& line : split(build_summary(), '\n')) {  // "build type: Release"
        const std::size_t colon = line.find(": ");
        if (colon == std::string::npos) continue;
        std::string name = line.substr(0, colon);
        std::replace(name.begin(), name.end(), ' ', '_');
        out[name] = line.substr(colon + 2);
    }
    return out;
}

double median(std::vector<double> values) {
    if (values.empty()) return 0;
    std::sort(values.begin(), values.end());
    const std::size_t n = values.size();
    return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

std::string table_of(const Report& report) {
    std::vector<std::size_t> widths;
    std::vector<bool> text;
    for (std::size_t c = 0; c < report.columns.size(); ++c) {
        widths.push_back(report.columns[c].size());
        text.push_back(!report.rows.empty() && report.rows.front()[c].is<std::string>());
    }
    std::vector<std::vector<std::string>> lines = {report.columns};
    for (const io::Array& row : report.rows) {
        ensures(row.size() == widths.size(), "a row has a cell for each column");
        lines.emplace_back();
        for (std::size_t c = 0; c < row.size(); ++c) {
            lines.back().push_back(shown(row[c]));
            widths[c] = std::max(widths[c], lines.back().back().size());
        }
    }
    std::string out = report.title + "\n\n";
    for (const auto& line : lines) out += table_line(line, text, widths);
    if (!report.notes.empty()) out += "\n";
    for (const std::string& note : report.notes) out += note + "\n";
    return out;
}

std::string csv_of(const Report& report) {
    std::string out = csv_line(report.columns);
    for (const io::Array& row : report.rows) {
        std::vector<std::string> cells;
        for (const io::Value& cell : row) {
            const std::string* text = cell.get_if<std::string>();
            cells.push_back(text != nullptr ? *text : io::to_json(cell));
        }
        out += csv_line(cells);
    }
    return out;
}

std::string json_of(const Report& report, const io::Object& environment) {
    io::Array rows;
    for (const io::Array& row : report.rows) {
        io::Object cells;
        for (std::size_t c = 0; c < row.size(); ++c) cells[report.columns[c]] = row[c];
        rows.emplace_back(std::move(cells));
    }
    io::Object out;
    out["title"] = report.title;
    out["environment"] = environment;
    out["settings"] = report.settings;
    out["summary"] = report.summary;
    out["rows"] = std::move(rows);
    return io::to_json(out, 2) + "\n";
}

}  // namespace deeplab::bench
