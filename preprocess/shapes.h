#pragma once
// A small segmentation data set that colour cannot solve: textured shapes on textured ground, in
// VOC's folder layout.

#include <array>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "deeplab/data/shard.h"
#include "deeplab/io/image.h"

namespace deeplab::preprocess {

struct ShapesOptions {
    std::filesystem::path out;
    std::int64_t train = 256, val = 48;
    std::uint64_t seed = 1;
    std::int64_t min_width = 96, max_width = 160, min_height = 96, max_height = 160;
    std::int64_t classes = 4;  // with the ground, up to 12
    bool rgb_masks = false;    // painted in the classes' colours instead of a palette's indices
};

// One shape of a picture: its outline goes from vertex to vertex, in pixels, of which the first
// ends at 1.
struct Shape {
    std::int64_t label = 0;
    std::vector<std::array<double, 2>> outline;  // x, y
};

struct Scene {
    io::Image image;
    io::Mask mask;
    std::vector<Shape> shapes;        // a later one lies on top
    std::vector<std::int64_t> owner;  // of each pixel, row by row: 0 the ground, else shape + 1
};

data::ClassTable shape_classes(std::int64_t classes);

// One picture, a pure function of its arguments.
Scene draw_scene(const ShapesOptions& options, std::uint64_t seed, std::uint64_t index);

// UsageError where --train or --val is none that can be drawn.
void check_counts(const ShapesOptions& options);

// Writes `out`/VOCdevkit/VOC2012 and `out`/classes.toml; UsageError when they exist.
void make_shapes(const ShapesOptions& options);

}  // namespace deeplab::preprocess
