#pragma once
// The generated shapes in COCO's layout: a data set to try --coco with.

#include "shapes.h"

namespace deeplab::preprocess::coco {

// Writes `out`/coco: train/ and val/ with JPEG images, instances_train.json and instances_val.json,
// map.toml. The pictures are those of preprocess::make_shapes. A shape that others cover in part
// has the rest as run lengths, of both kinds in turn; one that lies on top has its outline as a
// polygon. Every eighth picture ends with a crowd and has an annotation of a category that the map
// does not list. UsageError when the folder exists.
void make_shapes(const ShapesOptions& options);

}  // namespace deeplab::preprocess::coco
