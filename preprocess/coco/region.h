#pragma once
// Sets of pixels as COCO's annotations describe them: polygons and run lengths. What a polygon
// covers is what pycocotools' masks cover, pixel by pixel (tests/golden/coco_oracle.py).

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace deeplab::preprocess::coco {

// Pixels [first, end), counted column by column: column * height + row.
struct Run {
    std::int64_t first = 0, end = 0;
    bool operator==(const Run&) const = default;
};
// In order; no run is empty, none touches the next.
using Region = std::vector<Run>;

std::int64_t pixels(const Region& region);

// A vertex in fifths of a pixel: 5v + 1/2 without its fraction.
struct GridPoint {
    std::int32_t x = 0, y = 0;
    bool operator==(const GridPoint&) const = default;
};
constexpr double kMostCoordinate = 1 << 20;  // pixels, of either sign
std::int32_t to_grid(double coordinate);     // |coordinate| <= kMostCoordinate

// The pixels inside, by the even-odd rule; vertices may lie outside of the picture. The time is in
// proportion to vertices times columns, however long an edge is.
Region polygon(std::span<const GridPoint> vertices, std::int64_t width, std::int64_t height);

// What lies in any of them: each is a region; `runs` has them one after another.
Region united(std::vector<Run> runs);

// Lengths of runs that begin with what is not covered and alternate.
Region of_counts(std::span<const std::int64_t> counts);

// COCO's text for run lengths. DataError with the mere reason for what no writer of it makes: other
// characters, a number that is cut off, beyond 2^40 or negative.
std::vector<std::int64_t> parse_counts(std::string_view text);
std::string compressed_counts(std::span<const std::int64_t> counts);
// The lengths of a region's runs in a picture of `size` pixels.
std::vector<std::int64_t> counts_of(const Region& region, std::int64_t size);

}  // namespace deeplab::preprocess::coco
