#include "segmentation.h"

#include <cmath>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"

namespace deeplab::preprocess::coco {
namespace {

// As images have (io/image.h): more than that is no picture.
constexpr std::int64_t kMostSide = 1 << 15;

}  // namespace

void Segmentation::start() {
    kind_ = Kind::none;
    list_ = List::none;
    has_counts_ = false;
    polygons_.clear();
    counts_.clear();
    size_.clear();
    problem_.clear();
}

void Segmentation::start_polygons() { kind_ = Kind::polygons; }

void Segmentation::start_polygon() {
    list_ = List::polygon;
    polygon_.clear();
}

void Segmentation::end_polygon() {
    list_ = List::none;
    const auto where = [&] { return cat("polygon ", polygons_.size() + 1, " has "); };
    if (polygon_.size() == 4)
        wrong(cat(where(), "4 numbers, which some readers take for a box: it needs 6 or more"));
    else if (polygon_.size() % 2 != 0)
        wrong(cat(where(), polygon_.size(),
                  " numbers: x and y alternate, so that the count is even"));
    else if (polygon_.size() < 6)
        wrong(cat(where(), polygon_.size(), " numbers: it needs 6 or more"));
    std::vector<GridPoint> vertices;
    if (problem_.empty())
        for (std::size_t i = 0; i < polygon_.size(); i += 2)
            vertices.push_back({to_grid(polygon_[i]), to_grid(polygon_[i + 1])});
    polygons_.push_back(std::move(vertices));
}

void Segmentation::start_runs() { kind_ = Kind::runs; }
void Segmentation::start_counts() {
    if (has_counts_) wrong("its counts stand twice");
    has_counts_ = true;
    list_ = List::counts;
}
void Segmentation::start_size() {
    if (!size_.empty()) wrong("its size stands twice");
    list_ = List::size;
}

void Segmentation::end_list() { list_ = List::none; }

void Segmentation::coordinate(double value) {
    if (!std::isfinite(value) || std::abs(value) > kMostCoordinate) {
        wrong(cat("coordinate ", value, " of polygon ", polygons_.size() + 1,
                  " is beyond 2^20 pixels"));
        value = 0;
    }
    polygon_.push_back(value);
}

void Segmentation::integer(std::int64_t value) {
    switch (list_) {
        case List::polygon: coordinate(static_cast<double>(value)); break;
        case List::counts:
            if (value < 0) wrong(cat("run ", counts_.size() + 1, " of its counts is negative"));
            if (value > std::int64_t{1} << 40) wrong("a number of its counts is too large");
            if (problem_.empty()) counts_.push_back(value);
            break;
        case List::size:
            if (value < 1 || value > kMostSide)
                wrong(cat(value, " in its size is no length in 1..", kMostSide));
            if (size_.size() < 3) size_.push_back(value);
            break;
        case List::none: wrong("a number stands where a list of polygons was expected"); break;
    }
}

void Segmentation::number(double value) {
    if (list_ == List::polygon)
        coordinate(value);
    else if (std::floor(value) == value && std::abs(value) < 1e12)
        integer(static_cast<std::int64_t>(value));
    else
        wrong(cat(value, " stands where whole numbers are expected"));
}

void Segmentation::counts(const std::string& text) {
    start_counts();
    try {
        counts_ = parse_counts(text);
    } catch (const DataError& error) {
        wrong(error.what());
    }
}

void Segmentation::wrong(const std::string& reason) {
    if (problem_.empty()) problem_ = reason;
}

std::string Segmentation::finish_runs(Bytes& to) {
    if (!has_counts_) return "its segmentation has no counts";
    if (size_.size() != 2) return "its segmentation has no size = [height, width]";
    put_counts(to, size_[1], size_[0], counts_);
    return "";
}

std::string Segmentation::finish(Bytes& to) {
    if (!problem_.empty()) return problem_;
    switch (kind_) {
        case Kind::none: return "it has no segmentation";
        case Kind::runs: return finish_runs(to);
        case Kind::polygons:
            if (polygons_.empty()) return "its segmentation is an empty list";
            put_polygons(to, polygons_);
            return "";
    }
    return "";
}

}  // namespace deeplab::preprocess::coco
