#pragma once
// What of a file of instances is to be drawn: checked as a whole, mapped to classes, sorted by
// image, the same on all ranks.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "coco_options.h"
#include "deeplab/comm/communicator.h"
#include "deeplab/data/category_map.h"
#include "findings.h"
#include "instances.h"

namespace deeplab::preprocess::coco {

struct Scene {
    std::int64_t id = 0, width = 0, height = 0;
    std::int64_t first = 0, end = 0;  // its annotations
};

struct Drawable {
    std::int64_t id = 0;
    double area = 0;  // NaN: the file gives none
    std::uint64_t shape = 0;
    std::uint32_t shape_bytes = 0;
    std::uint8_t label = 0;  // a class, or ClassTable::ignore
    bool crowd = false;
};

// A category of the file and the class that it became.
struct MappedCategory {
    std::int64_t id = 0;
    std::string name;
    int label = 0;
};

// What the file has and what the rules that need no mask left out: for the manifest.
struct Counts {
    std::int64_t images = 0, annotations = 0, categories = 0;
    std::int64_t without_annotation = 0;    // images that have none at all
    std::int64_t without_category = 0;      // … that have none of the map's categories
    std::int64_t below_area = 0;            // left out by --min-area
    std::int64_t bad_shapes_elsewhere = 0;  // annotations of no category of the map, not drawn
};

struct Selection {
    std::vector<Scene> scenes;            // by the image's id
    std::vector<std::string> file_names;  // of the scenes
    std::vector<Drawable> annotations;    // of one scene after another, each in the file's order
    Bytes shapes;
    std::vector<MappedCategory> categories;  // of the map, by id
    Counts counts;

    std::span<const Drawable> of(const Scene& scene) const {
        return std::span(annotations)
            .subspan(static_cast<std::size_t>(scene.first),
                     static_cast<std::size_t>(scene.end - scene.first));
    }
    std::span<const std::uint8_t> shape_of(const Drawable& drawable) const {
        return std::span(shapes).subspan(drawable.shape, drawable.shape_bytes);
    }
};

// Everything that can be said without a picture goes to `findings`; what is wrong is not selected.
Selection select(const Instances& instances, const data::CategoryMap& map, const Options& options,
                 std::vector<Finding>& findings);

// Collective: rank 0's selection, on all ranks.
void share(Selection& selection, comm::Communicator& comm);

}  // namespace deeplab::preprocess::coco
