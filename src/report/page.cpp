// The pages: HTML around the charts.

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "data.h"
#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/report/report.h"
#include "svg.h"

namespace deeplab::report {

namespace fs = std::filesystem;

namespace {

constexpr const char* page_style = R"(
body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1320px;margin:0 auto;padding:24px}
h1{font-size:24px;margin:0}h2{font-size:18px;margin:36px 0 12px}.soft{color:var(--soft)}
.cards{display:flex;flex-wrap:wrap;gap:12px;margin:20px 0}
.card{background:var(--cell);border-radius:8px;padding:10px 16px;min-width:120px}
.card b{display:block;font-size:20px;font-variant-numeric:tabular-nums}.card span{color:var(--soft);font-size:13px}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,560px),1fr));gap:20px}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:14px}th,td{text-align:left;padding:4px 14px 4px 0;vertical-align:top;
border-bottom:1px solid var(--rule);overflow-wrap:anywhere}td.number,th.number{text-align:right;
font-variant-numeric:tabular-nums}
img{width:100%;max-width:760px;border-radius:6px}
pre{background:var(--cell);padding:14px;border-radius:8px;overflow-x:auto;font-size:13px;white-space:pre-wrap}
summary{cursor:pointer}td.pre{white-space:pre-wrap}
)";

std::string page(const std::string& title, const std::string& body) {
    return cat(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        "<meta name=\"color-scheme\" content=\"light dark\">\n<title>",
        escape(title), "</title>\n<style>", chart_style(), page_style,
        "</style>\n</head>\n<body><main>\n", body, "</main></body>\n</html>\n");
}

std::string base64(const std::string& bytes) {
    static constexpr const char*
        digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        std::uint32_t group = 0;
        for (std::size_t k = 0; k < 3; ++k)
            group = group << 8 |
                    (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0U);
        for (std::size_t k = 0; k < 4; ++k)
            out += i + k <= bytes.size() ? digits[group >> (18 - 6 * k) & 63U] : '=';
    }
    return out;
}

std::string percent(double v) { return std::isfinite(v) ? fixed(100 * v, 2) + " %" : "n/a"; }
std::string plain(double v, int digits) { return std::isfinite(v) ? fixed(v, digits) : "n/a"; }

std::string card(const std::string& name, const std::string& value) {
    return cat("<div class=\"card\"><b>", escape(value), "</b><span>", escape(name),
               "</span></div>\n");
}

// Of all the run's lines: one slow line does not move it.
double median_rate(const RunData& run) {
    std::vector<double> rates;
    for (const io::Object& line : run.steps) {
        const double rate = number(line, "images_per_s");
        if (std::isfinite(rate)) rates.push_back(rate);
    }
    if (rates.empty()) return std::nan("");
    const auto middle = rates.begin() + static_cast<std::ptrdiff_t>(rates.size() / 2);
    std::nth_element(rates.begin(), middle, rates.end());
    return *middle;
}

double of_last(const std::vector<io::Object>& lines, const char* key) {
    return lines.empty() ? std::nan("") : number(lines.back(), key);
}

double best_miou(const RunData& run) {
    double best = std::nan("");
    for (const io::Object& line : run.evaluations) best = std::fmax(best, number(line, "miou"));
    return best;
}

std::string progress_text(const RunData& run) {
    return run.iterations > 0 ? cat("step ", run.last_step(), " of ", run.iterations)
                              : cat("step ", run.last_step());
}

// The report's files; the page comes last, so that what it says is there.
class Folder {
public:
    explicit Folder(const fs::path& out) : out_(out) { require_writable_directory(out); }

    // As a file, and for the page.
    std::string chart(const std::string& name, const std::string& svg) const {
        write_atomically(out_ / cat(name, ".svg"), standalone_svg(svg));
        return cat("<div>", svg, "</div>\n");
    }
    void page(const std::string& text) const { write_atomically(out_ / "index.html", text); }

private:
    fs::path out_;
};

struct Curve {
    const char *file, *title, *unit, *key;
    bool evaluation;
    double factor;
};
constexpr Curve curves[] = {
    {"loss", "Training loss", "cross-entropy", "loss", false, 1},
    {"miou", "Mean IoU of the evaluations", "%", "miou", true, 100},
    {"lr", "Learning rate", "learning rate", "lr", false, 1},
    {"images_per_s", "Speed", "images/s", "images_per_s", false, 1},
    {"data_wait", "Waiting for data", "% of the time", "data_wait", false, 100},
};

std::string all_curves(const std::vector<RunData>& runs, const Folder& folder) {
    std::string out = "<h2>Curves</h2>\n<div class=\"charts\">\n";
    for (const Curve& c : curves) {
        LineChart chart{c.title, "step", c.unit, {}};
        bool any = false;
        for (const RunData& run : runs) {
            const auto& lines = c.evaluation ? run.evaluations : run.steps;
            any = any || !lines.empty();
            chart.series.push_back(series(lines, c.key, c.factor, run.name));
        }
        if (any) out += folder.chart(c.file, svg(chart));
    }
    return out + "</div>\n";
}

std::vector<double> class_iou(const RunData& run) {
    std::vector<double> out;
    if (run.evaluations.empty()) return out;
    const io::Value* values = run.evaluations.back().find("class_iou");
    const auto* array = values == nullptr ? nullptr : values->get_if<io::Array>();
    for (const io::Value& v : array == nullptr ? io::Array{} : *array)
        out.push_back(v.is<double>()         ? 100 * *v.get_if<double>()
                      : v.is<std::int64_t>() ? 100 * static_cast<double>(*v.get_if<std::int64_t>())
                                             : std::nan(""));
    return out;
}

// Runs of the same number of classes, as the first that has an evaluation.
std::string class_bars(const std::vector<RunData>& runs, const Folder& folder) {
    BarChart chart{"IoU of every class, last evaluation", "IoU, %", {}, {}};
    std::vector<std::string> names;
    for (const RunData& run : runs) {
        const std::vector<double> values = class_iou(run);
        if (values.empty()) continue;
        if (!chart.groups.empty() && values.size() != chart.groups[0].second.size()) continue;
        chart.groups.emplace_back(run.name, values);
        if (names.empty() && run.details) names = run.details->classes;
    }
    if (chart.groups.empty()) return "";
    for (std::size_t i = 0; i < chart.groups[0].second.size(); ++i)
        chart.categories.push_back(i < names.size() ? names[i] : cat("class ", i));
    return folder.chart("class_iou", svg(chart));
}

// Bars, and of one run the confusion matrix.
std::string class_part(const std::vector<RunData>& runs, const Folder& folder) {
    std::string charts = class_bars(runs, folder);
    if (charts.empty()) return "";
    if (runs.size() == 1 && runs[0].details) {
        charts += folder.chart(
            "confusion", svg(HeatMap{"Confusion matrix, last evaluation", runs[0].details->classes,
                                     runs[0].details->confusion}));
    }
    return cat("<h2>Classes</h2>\n<div class=\"charts\">\n", charts, "</div>\n");
}

std::string pictures_part(const RunData& run) {
    if (run.pictures.empty()) return "";
    std::string out =
        "<h2>Pictures</h2>\n<p class=\"soft\">input | truth | prediction, first images of the "
        "last evaluation</p>\n<div class=\"charts\">\n";
    for (std::size_t i = 0; i < run.pictures.size(); ++i)
        out += cat("<img alt=\"image ", i,
                   ": input, truth, prediction\" src=\"data:image/jpeg;base64,",
                   base64(run.pictures[i]), "\">\n");
    return out + "</div>\n";
}

std::string facts_table(const Facts& facts) {
    std::string out = "<table>\n";
    for (const auto& [name, value] : facts)
        out += cat("<tr><th>", escape(name), "</th><td class=\"pre\">", escape(value),
                   "</td></tr>\n");
    return out + "</table>\n";
}

std::string cards(const RunData& run) {
    std::string out = "<div class=\"cards\">\n";
    if (!run.evaluations.empty()) {
        out += card("mean IoU, last", percent(of_last(run.evaluations, "miou")));
        out += card("mean IoU, best", percent(best_miou(run)));
        out += card("pixel accuracy", percent(of_last(run.evaluations, "pixel_accuracy")));
    }
    out += card("loss", plain(of_last(run.steps, "loss"), 4));
    out += card("images/s, median", plain(median_rate(run), 2));
    if (!run.state_hash().empty()) out += card("state hash", run.state_hash());
    return out + "</div>\n";
}

// Settings of which the runs have not the same value.
std::string differences(const std::vector<RunData>& runs) {
    std::vector<std::string> keys;
    for (const RunData& run : runs) {
        for (const auto& setting : run.settings) {
            if (std::find(keys.begin(), keys.end(), setting.first) == keys.end())
                keys.push_back(setting.first);
        }
    }
    std::string rows;
    for (const std::string& key : keys) {
        std::vector<std::string> values;
        for (const RunData& run : runs) {
            const auto at = std::find_if(run.settings.begin(), run.settings.end(),
                                         [&](const auto& s) { return s.first == key; });
            values.push_back(at == run.settings.end() ? "—" : at->second);
        }
        if (std::all_of(values.begin(), values.end(),
                        [&](const auto& v) { return v == values[0]; }))
            continue;
        rows += cat("<tr><th>", escape(key), "</th>");
        for (const std::string& v : values) rows += cat("<td>", escape(v), "</td>");
        rows += "</tr>\n";
    }
    if (rows.empty()) return "<p>The configurations are the same.</p>\n";
    std::string head = "<tr><th>setting</th>";
    for (const RunData& run : runs) head += cat("<th>", escape(run.name), "</th>");
    return cat("<div class=\"wide\"><table>\n", head, "</tr>\n", rows, "</table></div>\n");
}

std::string final_table(const std::vector<RunData>& runs) {
    std::string out = "<div class=\"wide\"><table>\n<tr><th>run</th>";
    for (const char* name : {"step", "loss", "mIoU", "best mIoU", "pixel accuracy",
                             "mean pixel accuracy", "FW IoU", "images/s, median"})
        out += cat("<th class=\"number\">", name, "</th>");
    out += "<th>state hash</th></tr>\n";
    for (const RunData& run : runs) {
        out += cat("<tr><th>", escape(run.name), "</th>");
        const auto& e = run.evaluations;
        for (const std::string& value :
             {std::to_string(run.last_step()), plain(of_last(run.steps, "loss"), 4),
              percent(of_last(e, "miou")), percent(best_miou(run)),
              percent(of_last(e, "pixel_accuracy")), percent(of_last(e, "mean_pixel_accuracy")),
              percent(of_last(e, "fwiou")), plain(median_rate(run), 2)})
            out += cat("<td class=\"number\">", value, "</td>");
        out += cat("<td>", escape(run.state_hash()), "</td></tr>\n");
    }
    return out + "</table></div>\n";
}

// Folders of the same name ("a/run", "b/run") are told apart by their number.
void distinct_names(std::vector<RunData>& runs) {
    for (std::size_t i = 0; i < runs.size(); ++i) {
        const std::string name = runs[i].name;
        int copies = 1;
        for (std::size_t j = i + 1; j < runs.size(); ++j) {
            if (runs[j].name == name) runs[j].name = cat(name, " (", ++copies, ")");
        }
    }
}

}  // namespace

void write_report(const fs::path& run_folder, const fs::path& out) {
    std::vector<RunData> runs;
    runs.push_back(read_run(run_folder));
    const RunData& run = runs.front();
    const Folder folder(out);
    std::string body = cat("<h1>", escape(run.name), "</h1>\n<p class=\"soft\">",
                           escape(progress_text(run)), "</p>\n", cards(run));
    body += all_curves(runs, folder);
    body += class_part(runs, folder);
    body += pictures_part(run);
    if (!run.environment.empty())
        body += cat("<h2>Environment</h2>\n<div class=\"wide\">", facts_table(run.environment),
                    "</div>\n");
    if (!run.config.empty())
        body += cat("<h2>Configuration</h2>\n<details><summary>config.toml</summary><pre>",
                    escape(run.config), "</pre></details>\n");
    folder.page(page(cat(run.name, " — run report"), body));
}

void write_comparison(std::span<const fs::path> run_folders, const fs::path& out) {
    std::vector<RunData> runs;
    for (const fs::path& run : run_folders) runs.push_back(read_run(run));
    distinct_names(runs);
    const Folder folder(out);
    std::string body = cat("<h1>Comparison of ", runs.size(), " runs</h1>\n",
                           "<h2>Final metrics</h2>\n", final_table(runs));
    body += cat("<h2>Differences of configuration</h2>\n", differences(runs));
    body += all_curves(runs, folder);
    body += class_part(runs, folder);
    folder.page(page("Comparison of runs", body));
}

}  // namespace deeplab::report
