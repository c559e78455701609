#pragma once
// A small segmentation data set that colour cannot solve: textured shapes on textured ground, in
// VOC's folder layout.

#include <cstdint>
#include <filesystem>

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

struct Scene {
    io::Image image;
    io::Mask mask;
};

data::ClassTable shape_classes(std::int64_t classes);

// One picture, a pure function of its arguments.
Scene draw_scene(const ShapesOptions& options, std::uint64_t seed, std::uint64_t index);

// Writes `out`/VOCdevkit/VOC2012 and `out`/classes.toml; UsageError when they exist.
void make_shapes(const ShapesOptions& options);

}  // namespace deeplab::preprocess
