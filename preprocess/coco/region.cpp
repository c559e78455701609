#include "region.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"

namespace deeplab::preprocess::coco {
namespace {

// An edge of a polygon on the grid of fifths, from its smaller end along the longer axis. COCO's
// masks walk it in unit steps; here only the steps are looked at that cross the middle of a column
// of pixels: from x = 5 column + 2 to 5 column + 3.
struct Edge {
    double x, y, slope;
    std::int64_t steps;
    bool along_x;

    Edge(GridPoint a, GridPoint b) {
        const std::int64_t dx = std::abs(std::int64_t{b.x} - a.x),
                           dy = std::abs(std::int64_t{b.y} - a.y);
        along_x = dx >= dy;
        if (along_x ? a.x > b.x : a.y > b.y) std::swap(a, b);
        x = a.x;
        y = a.y;
        steps = std::max(dx, dy);
        const double across = along_x ? double{1} * b.y - a.y : double{1} * b.x - a.x;
        slope = steps > 0 ? across / static_cast<double>(steps) : 0;
    }

    // The other coordinate after `step` steps.
    std::int64_t across(std::int64_t step) const {
        return static_cast<std::int64_t>((along_x ? y : x) + slope * static_cast<double>(step) +
                                         0.5);
    }
    std::int64_t along(std::int64_t step) const {
        return static_cast<std::int64_t>(along_x ? x : y) + step;
    }
};

class Crossings {
public:
    Crossings(std::int64_t width, std::int64_t height) : width_(width), height_(height) {}

    void add(const Edge& edge) {
        if (edge.steps == 0) return;
        const std::int64_t from = edge.along_x ? edge.along(0) : edge.across(0),
                           to = edge.along_x ? edge.along(edge.steps) : edge.across(edge.steps);
        const auto [low, high] = std::minmax(from, to);
        // Columns with low <= 5 column + 2 and 5 column + 3 <= high.
        const std::int64_t first = low <= 2 ? 0 : (low + 2) / 5,
                           last = high < 3 ? -1 : std::min(width_ - 1, (high - 3) / 5);
        for (std::int64_t column = first; column <= last; ++column)
            edge.along_x ? cross_flat(edge, column) : cross_steep(edge, column, to > from);
    }

    Region region() {
        std::sort(positions_.begin(), positions_.end());
        if (positions_.size() % 2 != 0) positions_.push_back(width_ * height_);
        Region out;
        for (std::size_t i = 0; i < positions_.size(); i += 2) {
            const Run run{positions_[i], positions_[i + 1]};
            if (run.first == run.end) continue;
            if (!out.empty() && out.back().end == run.first)
                out.back().end = run.end;
            else
                out.push_back(run);
        }
        return out;
    }

private:
    void cross_flat(const Edge& edge, std::int64_t column) {
        const std::int64_t step = 5 * column + 2 - edge.along(0);
        mark(column, std::min(edge.across(step), edge.across(step + 1)));
    }

    // The step over the column's middle is found by halving: x does not turn back along an edge.
    void cross_steep(const Edge& edge, std::int64_t column, bool growing) {
        const std::int64_t middle = 5 * column + 3;
        std::int64_t before = 0, behind = edge.steps;
        while (behind - before > 1) {
            const std::int64_t step = before + (behind - before) / 2;
            ((edge.across(step) >= middle) == growing ? behind : before) = step;
        }
        mark(column, edge.along(before));
    }

    void mark(std::int64_t column, std::int64_t y) {
        const double row = (static_cast<double>(y) + 0.5) / 5 - 0.5;
        positions_.push_back(column * height_ + static_cast<std::int64_t>(std::ceil(std::clamp(
                                                    row, 0.0, static_cast<double>(height_)))));
    }

    std::int64_t width_, height_;
    std::vector<std::int64_t> positions_;
};

}  // namespace

std::int64_t pixels(const Region& region) {
    std::int64_t sum = 0;
    for (const Run& run : region) sum += run.end - run.first;
    return sum;
}

std::int32_t to_grid(double coordinate) { return static_cast<std::int32_t>(5 * coordinate + 0.5); }

Region polygon(std::span<const GridPoint> vertices, std::int64_t width, std::int64_t height) {
    Crossings crossings(width, height);
    for (std::size_t i = 0; i < vertices.size(); ++i)
        crossings.add(Edge(vertices[i], vertices[(i + 1) % vertices.size()]));
    return crossings.region();
}

Region united(std::vector<Run> runs) {
    std::sort(runs.begin(), runs.end(),
              [](const Run& a, const Run& b) { return a.first < b.first; });
    Region out;
    for (const Run& run : runs) {
        if (!out.empty() && run.first <= out.back().end)
            out.back().end = std::max(out.back().end, run.end);
        else
            out.push_back(run);
    }
    return out;
}

Region of_counts(std::span<const std::int64_t> counts) {
    Region out;
    std::int64_t at = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
        const Run run{at, at + counts[i]};
        at = run.end;
        if (i % 2 == 0 || run.first == run.end) continue;
        if (!out.empty() && out.back().end == run.first)
            out.back().end = run.end;
        else
            out.push_back(run);
    }
    return out;
}

// A character less 48 is a group of six bits: five of the number, the lowest first, and one that
// says whether more follow. The last group's highest bit of five is the sign. From the fourth
// number on, what stands is the difference to the number two before.
std::vector<std::int64_t> parse_counts(std::string_view text) {
    constexpr int kMostBits = 40;
    std::vector<std::int64_t> counts;
    for (std::size_t at = 0; at < text.size();) {
        std::int64_t value = 0;
        bool more = true;
        for (int shift = 0; more; shift += 5) {
            if (at == text.size()) throw DataError("the text of its counts is cut off");
            const int group = static_cast<unsigned char>(text[at++]) - 48;
            if (group < 0 || group > 63)
                throw DataError(cat("character ", at, " of its counts is none that they have"));
            if (shift > kMostBits) throw DataError("a number of its counts is too large");
            value |= std::int64_t{group & 31} << shift;
            more = (group & 32) != 0;
            if (!more && (group & 16) != 0) value -= std::int64_t{1} << (shift + 5);
        }
        if (counts.size() > 2) value += counts[counts.size() - 2];
        if (value < 0)
            throw DataError(cat("run ", counts.size() + 1, " of its counts is negative"));
        if (value > std::int64_t{1} << kMostBits)
            throw DataError("a number of its counts is too large");
        counts.push_back(value);
    }
    return counts;
}

std::string compressed_counts(std::span<const std::int64_t> counts) {
    std::string text;
    for (std::size_t i = 0; i < counts.size(); ++i) {
        std::int64_t value = i > 2 ? counts[i] - counts[i - 2] : counts[i];
        for (bool more = true; more;) {
            const auto group = static_cast<int>(value & 31);
            value >>= 5;
            more = value != ((group & 16) != 0 ? -1 : 0);
            text += static_cast<char>(48 + group + (more ? 32 : 0));
        }
    }
    return text;
}

std::vector<std::int64_t> counts_of(const Region& region, std::int64_t size) {
    std::vector<std::int64_t> counts;
    std::int64_t at = 0;
    for (const Run& run : region) {
        counts.push_back(run.first - at);
        counts.push_back(run.end - run.first);
        at = run.end;
    }
    if (at < size || counts.empty()) counts.push_back(size - at);
    return counts;
}

}  // namespace deeplab::preprocess::coco
