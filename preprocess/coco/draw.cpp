#include "draw.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace deeplab::preprocess::coco {
namespace {

// What lies on a pixel so far. Pixels stand column by column, as regions count them.
enum Cover : std::uint8_t { nothing, one_annotation, several, several_classes };

class Canvas {
public:
    Canvas(std::int64_t width, std::int64_t height, std::uint8_t unlabelled)
        : width_(width),
          height_(height),
          labels_(static_cast<std::size_t>(width * height), unlabelled),
          covers_(labels_.size(), nothing) {}

    void paint(const Region& region, std::uint8_t label) {
        for (const Run& run : region)
            for (auto p = static_cast<std::size_t>(run.first);
                 p < static_cast<std::size_t>(run.end); ++p) {
                std::uint8_t& cover = covers_[p];
                if (cover == nothing)
                    cover = one_annotation;
                else if (labels_[p] != label)
                    cover = several_classes;
                else if (cover == one_annotation)
                    cover = several;
                labels_[p] = label;
            }
    }

    void ignore_shared(std::uint8_t ignore) {
        for (std::size_t p = 0; p < labels_.size(); ++p)
            if (covers_[p] >= several) labels_[p] = ignore;
    }

    // Only where nothing was painted.
    std::int64_t ignore_rest(const Region& region, std::uint8_t ignore, std::uint8_t unlabelled) {
        std::int64_t changed = 0;
        for (const Run& run : region)
            for (auto p = static_cast<std::size_t>(run.first);
                 p < static_cast<std::size_t>(run.end); ++p) {
                if (covers_[p] != nothing || labels_[p] != unlabelled) continue;
                labels_[p] = ignore;
                ++changed;
            }
        return changed;
    }

    void finish(Drawing& out, std::uint8_t ignore) const {
        out.mask = {width_, height_, std::vector<std::uint8_t>(labels_.size())};
        for (std::int64_t x = 0; x < width_; ++x)
            for (std::int64_t y = 0; y < height_; ++y) {
                const auto p = static_cast<std::size_t>(x * height_ + y);
                out.mask.labels[static_cast<std::size_t>(y * width_ + x)] = labels_[p];
                out.labelled += covers_[p] != nothing && labels_[p] != ignore ? 1 : 0;
                out.shared += covers_[p] >= several ? 1 : 0;
                out.contested += covers_[p] == several_classes ? 1 : 0;
            }
    }

private:
    std::int64_t width_, height_;
    std::vector<std::uint8_t> labels_, covers_;
};

// Indices of annotations in the order in which they are painted: what comes later lies on top.
std::vector<std::size_t> painting_order(const std::vector<Covered>& covered, Overlap overlap) {
    std::vector<std::size_t> order(covered.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    if (overlap == Overlap::first) std::reverse(order.begin(), order.end());
    if (overlap == Overlap::small_on_top)
        std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
            return covered[a].pixels != covered[b].pixels ? covered[a].pixels > covered[b].pixels
                                                          : covered[a].id < covered[b].id;
        });
    return order;
}

}  // namespace

double Covered::difference() const {
    if (std::isnan(area)) return 0;
    return std::abs(static_cast<double>(pixels) - area) / std::max(area, 1.0);
}

Drawing draw(const Selection& selection, const Scene& scene, const Options& options,
             std::uint8_t unlabelled, std::uint8_t ignore) {
    const std::span<const Drawable> annotations = selection.of(scene);
    Drawing out;
    std::vector<Region> regions;
    for (const Drawable& d : annotations) {
        regions.push_back(region_of(selection.shape_of(d), scene.width, scene.height));
        out.covered.push_back({d.id, pixels(regions.back()), d.area});
    }
    const auto painted = [&](const Drawable& d) {
        return d.label != ignore && (!d.crowd || options.draw_crowds);
    };
    Canvas canvas(scene.width, scene.height, unlabelled);
    for (const std::size_t a : painting_order(out.covered, options.overlap))
        if (painted(annotations[a])) canvas.paint(regions[a], annotations[a].label);
    if (options.overlap == Overlap::ignore) canvas.ignore_shared(ignore);
    for (std::size_t a = 0; a < regions.size(); ++a)
        if (!painted(annotations[a]) && unlabelled != ignore)
            out.crowd += canvas.ignore_rest(regions[a], ignore, unlabelled);
    canvas.finish(out, ignore);
    return out;
}

const char* name(Overlap overlap) {
    switch (overlap) {
        case Overlap::small_on_top: return "small-on-top";
        case Overlap::first: return "first";
        case Overlap::last: return "last";
        case Overlap::ignore: return "ignore";
    }
    return "";
}

}  // namespace deeplab::preprocess::coco
