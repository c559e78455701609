#include "svg.h"

#include <algorithm>
#include <cmath>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"

namespace deeplab::report {
namespace {

std::string n(double v) { return fixed(v, 1); }  // a coordinate

std::string text_at(double x, double y, const std::string& text, const std::string& attributes) {
    return cat("<text x=\"", n(x), "\" y=\"", n(y), "\" ", attributes, ">", escape(text),
               "</text>\n");
}

std::string line_at(double x1, double y1, double x2, double y2, const char* kind) {
    return cat("<line class=\"", kind, "\" x1=\"", n(x1), "\" y1=\"", n(y1), "\" x2=\"", n(x2),
               "\" y2=\"", n(y2), "\"/>\n");
}

std::string open_svg(double width, double height, const std::string& title) {
    return cat("<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" role=\"img\" width=\"",
               n(width), "\" height=\"", n(height), "\" viewBox=\"0 0 ", n(width), " ", n(height),
               "\" aria-label=\"", escape(title), "\">\n") +
           text_at(12, 20, title, "class=\"title\"");
}

// 1, 2 or 5 times a power of ten: the distance of about `wanted` marks over `range`.
double nice_step(double range, int wanted) {
    const double raw = range / wanted, power = std::pow(10, std::floor(std::log10(raw)));
    for (const double factor : {1.0, 2.0, 5.0}) {
        if (factor * power >= raw * (1 - 1e-9)) return factor * power;
    }
    return 10 * power;
}

struct Axis {
    double low = 0, high = 1, step = 0.5;
    std::string label(double v) const {
        const int digits = std::clamp(static_cast<int>(std::ceil(-std::log10(step) - 1e-9)), 0, 12);
        return fixed(v == 0 ? 0 : v, digits);  // no "-0"
    }
    std::vector<double> ticks() const {
        std::vector<double> marks;
        for (double k = std::ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; ++k)
            marks.push_back(k * step);
        return marks;
    }
};

// From zero, so that heights can be compared, up to a round number.
Axis value_axis(const std::vector<Series>& series) {
    Axis axis{0, 0, 1};
    for (const Series& s : series) {
        for (const auto& [x, y] : s.points) {
            if (!std::isfinite(y)) continue;
            axis.low = std::min(axis.low, y);
            axis.high = std::max(axis.high, y);
        }
    }
    if (!(axis.high > axis.low)) axis.high = axis.low + 1;
    axis.step = nice_step(axis.high - axis.low, 5);
    axis.high = axis.step * std::ceil(axis.high / axis.step - 1e-9);
    axis.low = axis.step * std::floor(axis.low / axis.step + 1e-9);
    return axis;
}

Axis step_axis(const std::vector<Series>& series) {
    Axis axis{0, 1, 1};
    for (const Series& s : series) {
        if (!s.points.empty()) axis.high = std::max(axis.high, s.points.back().first);
    }
    axis.step = std::max(1.0, nice_step(axis.high, 8));
    return axis;
}

// Neighbours of a long curve, drawn as one point (their mean) in a band from lowest to highest.
struct Point {
    double first = 0, x = 0;  // of the first and the last of them
    double low = 0, mean = 0, high = 0;
};

// At most 400; without a finite value: a gap.
std::vector<Point> gathered(const Series& in) {
    constexpr std::size_t most = 400;
    const std::size_t stride = (in.points.size() + most - 1) / most;
    std::vector<Point> out;
    for (std::size_t i = 0; i < in.points.size(); i += stride) {
        const std::size_t end = std::min(i + stride, in.points.size());
        Point p{in.points[i].first, in.points[end - 1].first, INFINITY, 0, -INFINITY};
        int finite = 0;
        for (std::size_t j = i; j < end; ++j) {
            const double y = in.points[j].second;
            if (!std::isfinite(y)) continue;
            p.low = std::min(p.low, y);
            p.high = std::max(p.high, y);
            p.mean += y;
            ++finite;
        }
        p.mean = finite > 0 ? p.mean / finite : NAN;
        out.push_back(p);
    }
    return out;
}

constexpr double left = 68, right = 620, top = 36, bottom = 236;  // the plot of a line chart

std::string grid(const LineChart& chart, const Axis& xs, const Axis& ys) {
    std::string out;
    for (const double v : ys.ticks()) {
        const double y = bottom - (v - ys.low) / (ys.high - ys.low) * (bottom - top);
        out += line_at(left, y, right, y, "grid") +
               text_at(left - 8, y + 4, ys.label(v), "class=\"tick end\"");
    }
    for (const double v : xs.ticks()) {
        const double x = left + (v - xs.low) / (xs.high - xs.low) * (right - left);
        out += line_at(x, bottom, x, bottom + 4, "axis") +
               text_at(x, bottom + 17, xs.label(v), "class=\"tick middle\"");
    }
    out += line_at(left, bottom, right, bottom, "axis");
    out += text_at((left + right) / 2, bottom + 36, chart.x_label, "class=\"label middle\"");
    const double y = (top + bottom) / 2;
    return out + text_at(14, y, chart.y_label,
                         cat("class=\"label middle\" transform=\"rotate(-90 14 ", n(y), ")\""));
}

// Colours repeat after six; the dashes then tell the runs apart.
std::string series_class(std::size_t index) {
    return cat("s", index % 6, index / 6 % 2 == 1 ? " dashed" : "");
}

std::string curve(const Series& all, std::size_t index, const Axis& xs, const Axis& ys,
                  const LineChart& chart) {
    const std::vector<Point> points = gathered(all);
    const bool several = points.size() < all.points.size(), visible = points.size() <= 40;
    const auto x_of = [&](double v) {
        return n(left + (v - xs.low) / (xs.high - xs.low) * (right - left));
    };
    const auto y_of = [&](double v) {
        return n(bottom - (v - ys.low) / (ys.high - ys.low) * (bottom - top));
    };
    std::string path, dots, upper, lower;
    bool open = false;
    for (const Point& p : points) {
        if (!std::isfinite(p.mean)) {
            open = false;
            continue;
        }
        const std::string x = x_of(p.x), y = y_of(p.mean);
        path += cat(open ? "L" : "M", x, " ", y);
        open = true;
        upper += cat(upper.empty() ? "M" : "L", x, " ", y_of(p.high));
        lower.insert(0, cat("L", x, " ", y_of(p.low)));
        const std::string where = p.first < p.x ? cat("s ", xs.label(p.first), " to ") : " ";
        const std::string range = several ? cat(" (", p.low, " to ", p.high, ")") : "";
        dots += cat("<circle class=\"dot ", series_class(index), visible ? "" : " hidden",
                    "\" cx=\"", x, "\" cy=\"", y, "\" r=\"", visible ? "2.5" : "4", "\"><title>",
                    escape(cat(chart.series.size() > 1 ? all.name + ", " : "", chart.x_label, where,
                               xs.label(p.x), ": ", p.mean, range, " ", chart.y_label)),
                    "</title></circle>\n");
    }
    const std::string band = several ? cat("<path class=\"band ", series_class(index), "\" d=\"",
                                           upper, lower, "Z\"/>\n")
                                     : "";
    return cat(band, "<path class=\"line ", series_class(index), "\" d=\"", path, "\"/>\n") + dots;
}

std::string legend(const std::vector<std::string>& names, double x, double y, bool lines) {
    std::string out;
    for (std::size_t i = 0; i < names.size(); ++i, y += 18) {
        out += lines ? cat("<path class=\"line ", series_class(i), "\" d=\"M", n(x), " ", n(y - 4),
                           "h24\"/>\n")
                     : cat("<rect class=\"bar ", series_class(i), "\" x=\"", n(x), "\" y=\"",
                           n(y - 10), "\" width=\"24\" height=\"10\"/>\n");
        out += text_at(x + 32, y, names[i], "class=\"label\"");
    }
    return out;
}

}  // namespace

std::string escape(const std::string& text) {
    std::string out;
    for (const char c : text) {
        switch (c) {
            case '&': out += "&amp;"; break;
            case '<': out += "&lt;"; break;
            case '>': out += "&gt;"; break;
            case '"': out += "&quot;"; break;
            case '\'': out += "&#39;"; break;
            default:  // XML has no other control characters, not even escaped
                out += static_cast<unsigned char>(c) < 32 && c != '\n' && c != '\t' ? '?' : c;
        }
    }
    return out;
}

std::string svg(const LineChart& chart) {
    const bool several = chart.series.size() > 1;
    std::vector<std::string> names;
    for (const Series& s : chart.series) names.push_back(s.name);
    const double height = 282 + (several ? 18 * static_cast<double>(names.size()) + 8 : 0);
    const Axis xs = step_axis(chart.series), ys = value_axis(chart.series);
    std::string out = open_svg(640, height, chart.title) + grid(chart, xs, ys);
    for (std::size_t i = 0; i < chart.series.size(); ++i)
        out += curve(chart.series[i], i, xs, ys, chart);
    if (several) out += legend(names, left, 296, true);
    return out + "</svg>\n";
}

std::string svg(const BarChart& chart) {
    constexpr double x0 = 130, x1 = 570, y0 = 36, gap = 6;
    const double thick = chart.groups.size() > 1 ? 12 : 15;
    const double row = thick * static_cast<double>(chart.groups.size()) + gap;
    const double y1 = y0 + row * static_cast<double>(chart.categories.size());
    const bool several = chart.groups.size() > 1;
    std::string out = open_svg(
        640, y1 + 46 + (several ? 18 * static_cast<double>(chart.groups.size()) + 8 : 0),
        chart.title);
    for (int tick = 0; tick <= 100; tick += 20) {
        const double x = x0 + (x1 - x0) * tick / 100;
        out += line_at(x, y0, x, y1, "grid") +
               text_at(x, y1 + 16, std::to_string(tick), "class=\"tick middle\"");
    }
    out += text_at((x0 + x1) / 2, y1 + 36, chart.x_label, "class=\"label middle\"");
    std::vector<std::string> names;
    for (const auto& group : chart.groups) names.push_back(group.first);
    for (std::size_t c = 0; c < chart.categories.size(); ++c) {
        const double y = y0 + row * static_cast<double>(c) + gap / 2;
        out += text_at(x0 - 8, y + (row - gap) / 2 + 4, chart.categories[c], "class=\"label end\"");
        for (std::size_t g = 0; g < chart.groups.size(); ++g) {
            expects(chart.groups[g].second.size() == chart.categories.size(),
                    "a bar for every category");
            const double v = chart.groups[g].second[c];
            const std::string shown = std::isfinite(v) ? fixed(v, 1) : "n/a";
            const double width = std::isfinite(v) ? std::clamp(v, 0.0, 100.0) / 100 * (x1 - x0) : 0;
            const double at = y + thick * static_cast<double>(g);
            out += cat("<rect class=\"bar ", series_class(g), "\" x=\"", n(x0), "\" y=\"", n(at),
                       "\" width=\"", n(width), "\" height=\"", n(thick - 1), "\"><title>",
                       escape(cat(several ? names[g] + ", " : "", chart.categories[c], ": ", shown,
                                  std::isfinite(v) ? " %" : "")),
                       "</title></rect>\n");
            out += text_at(x0 + width + 6, at + thick / 2 + 3, shown, "class=\"tick\"");
        }
    }
    out += line_at(x0, y0, x0, y1, "axis");
    if (several) out += legend(names, x0, y1 + 60, false);
    return out + "</svg>\n";
}

std::string svg(const HeatMap& chart) {
    const std::size_t classes = chart.classes.size();
    expects(chart.counts.size() == classes * classes, "a confusion matrix is square");
    constexpr double x0 = 130, y0 = 120;
    const double cell = std::clamp(504.0 / static_cast<double>(std::max<std::size_t>(1, classes)),
                                   24.0, 64.0);
    const double side = cell * static_cast<double>(classes);
    std::string out = open_svg(std::max(x0 + side + 56, 420.0), y0 + side + 20, chart.title);
    out += text_at(x0 + side / 2, 44, "predicted, % of the truth's pixels",
                   "class=\"label middle\"");
    out += text_at(
        14, y0 + side / 2, "truth",
        cat("class=\"label middle\" transform=\"rotate(-90 14 ", n(y0 + side / 2), ")\""));
    for (std::size_t i = 0; i < classes; ++i) {
        const double at = cell * (static_cast<double>(i) + 0.5);
        const auto count = [&](std::size_t j) { return chart.counts[i * classes + j]; };
        out += text_at(x0 - 8, y0 + at + 4, chart.classes[i], "class=\"tick end\"");
        out += text_at(
            x0 + at + 4, y0 - 8, chart.classes[i],
            cat("class=\"tick\" transform=\"rotate(-60 ", n(x0 + at + 4), " ", n(y0 - 8), ")\""));
        double row = 0;
        for (std::size_t j = 0; j < classes; ++j) row += static_cast<double>(count(j));
        for (std::size_t j = 0; j < classes; ++j) {
            const double share = row > 0 ? static_cast<double>(count(j)) / row : 0;
            const double x = x0 + cell * static_cast<double>(j), y = y0 + at - cell / 2;
            out += cat("<g><title>",
                       escape(cat("truth ", chart.classes[i], ", predicted ", chart.classes[j],
                                  ": ", row > 0 ? fixed(100 * share, 2) + " %" : "n/a", " (",
                                  count(j), " pixels)")),
                       "</title><rect class=\"cell\" x=\"", n(x), "\" y=\"", n(y), "\" width=\"",
                       n(cell - 1), "\" height=\"", n(cell - 1), "\"/>");
            if (share > 0)
                out += cat("<rect class=\"heat\" x=\"", n(x), "\" y=\"", n(y), "\" width=\"",
                           n(cell - 1), "\" height=\"", n(cell - 1), "\" fill-opacity=\"",
                           fixed(share, 3), "\"/>");
            if (share >= 0.005)
                out += text_at(x + cell / 2 - 0.5, y + cell / 2 + 3, fixed(100 * share, 0),
                               share > 0.5 ? "class=\"count strong\"" : "class=\"count\"");
            out += "</g>\n";
        }
    }
    return out + "</svg>\n";
}

// Categorical colours after Okabe and Ito ("Color Universal Design", 2008), which readers with
// colour-vision deficiencies tell apart; lighter ones on a dark ground.
std::string chart_style() {
    return R"(:root{--ground:#fff;--ink:#1f2328;--soft:#59636e;--rule:#e3e6ea;--axis:#8b949e;--cell:#f3f5f7;
--heat:#005a96;--on-heat:#fff;--s0:#0072b2;--s1:#d55e00;--s2:#009e73;--s3:#b8558d;--s4:#b07900;--s5:#4d4d4d}
@media(prefers-color-scheme:dark){:root{--ground:#15181c;--ink:#e6e9ed;--soft:#a3acb7;--rule:#2d333b;--axis:#6e7681;
--cell:#1f242a;--heat:#6cc0f5;--on-heat:#0b1218;--s0:#56b4e9;--s1:#ff8f45;--s2:#35c79c;--s3:#e39ac3;--s4:#f0c04c;
--s5:#c9ced6}}
.chart{max-width:100%;height:auto;font:12px system-ui,sans-serif}
.chart text{fill:var(--ink)}.chart .title{font-size:14px;font-weight:600}
.chart .tick{fill:var(--soft);font-size:11px}.chart .label{fill:var(--soft)}
.chart .end{text-anchor:end}.chart .middle{text-anchor:middle}
.grid{stroke:var(--rule)}.axis{stroke:var(--axis)}
.line{fill:none;stroke-width:2;stroke-linejoin:round}.dashed.line{stroke-dasharray:6 3}
.hidden{opacity:0}.hidden:hover{opacity:1}.dashed.bar{fill-opacity:.55}
.cell{fill:var(--cell)}.heat{fill:var(--heat)}
.chart .count{font-size:10px;text-anchor:middle}.chart .strong{fill:var(--on-heat)}
.s0{stroke:var(--s0)}.s1{stroke:var(--s1)}.s2{stroke:var(--s2)}.s3{stroke:var(--s3)}.s4{stroke:var(--s4)}
.s5{stroke:var(--s5)}
.bar,.dot,.band{stroke:none}.band{fill-opacity:.18}.bar.s0,.dot.s0,.band.s0{fill:var(--s0)}.bar.s1,.dot.s1,.band.s1{fill:var(--s1)}
.bar.s2,.dot.s2,.band.s2{fill:var(--s2)}.bar.s3,.dot.s3,.band.s3{fill:var(--s3)}.bar.s4,.dot.s4,.band.s4{fill:var(--s4)}
.bar.s5,.dot.s5,.band.s5{fill:var(--s5)}
)";
}

std::string standalone_svg(const std::string& svg) {
    const std::size_t end = svg.find('>');
    ensures(end != std::string::npos, "an SVG element opens");
    return cat(svg.substr(0, end + 1), "\n<style>", chart_style(),
               "</style>\n<rect width=\"100%\" height=\"100%\" fill=\"var(--ground)\"/>",
               svg.substr(end + 1));
}

}  // namespace deeplab::report
