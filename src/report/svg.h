#pragma once
// Charts as SVG text: pure functions of their data, so that the same run gives the same bytes.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace deeplab::report {

// For HTML and XML, in text and in quoted attributes.
std::string escape(const std::string& text);

struct Series {
    std::string name;                               // a legend when there are several
    std::vector<std::pair<double, double>> points;  // by x; without a finite y: a gap
};

struct LineChart {
    std::string title, x_label, y_label;
    std::vector<Series> series;
};

struct BarChart {
    std::string title, x_label;
    std::vector<std::string> categories;
    std::vector<std::pair<std::string, std::vector<double>>> groups;  // name, a value per category
};  // values from 0 to 100; NaN: "n/a"

struct HeatMap {
    std::string title;
    std::vector<std::string> classes;
    std::vector<std::int64_t> counts;  // [truth][predicted], pixels
};

// Each an <svg> element that takes its colours from chart_style(). Every mark has a <title>.
std::string svg(const LineChart& chart);
std::string svg(const BarChart& chart);
std::string svg(const HeatMap& chart);

std::string chart_style();                           // CSS, for light and dark
std::string standalone_svg(const std::string& svg);  // a file of its own: style and background

}  // namespace deeplab::report
