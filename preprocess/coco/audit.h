#pragma once
// What is wrong with a file of instances, as far as the file alone can tell.

#include <cstdint>
#include <vector>

#include "coco_options.h"
#include "deeplab/data/category_map.h"
#include "findings.h"
#include "instances.h"
#include "selection.h"

namespace deeplab::preprocess::coco {

struct Audit {
    std::vector<std::size_t> good_pictures;  // indices
    // Of each annotation: the index of its picture, -1 where that is unknown or bad; and its class
    // or ClassTable::ignore, -1 where its category is not packed or the annotation is bad.
    std::vector<std::int64_t> picture_of;
    std::vector<std::int16_t> label_of;
    std::vector<MappedCategory> mapped;
    std::int64_t bad_shapes_elsewhere = 0;
};

Audit inspect(const Instances& instances, const data::CategoryMap& map, const Options& options,
              std::vector<Finding>& findings);

}  // namespace deeplab::preprocess::coco
