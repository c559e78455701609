#pragma once
// From the annotations of an image to its mask.

#include <cstdint>
#include <span>
#include <vector>

#include "coco_options.h"
#include "deeplab/io/image.h"
#include "selection.h"

namespace deeplab::preprocess::coco {

// An annotation that covers no pixel, or how far its pixels are from the area in the file.
struct Covered {
    std::int64_t id = 0, pixels = 0;
    double area = 0;  // NaN: the file gives none

    double difference() const;  // relative to the area, of at least a pixel; 0 where there is none
};

struct Drawing {
    io::Mask mask;
    std::int64_t labelled = 0;     // pixels with a class that an annotation gave
    std::int64_t shared = 0;       // pixels that two or more annotations cover
    std::int64_t contested = 0;    // of these, those where they are of different classes
    std::int64_t crowd = 0;        // pixels that are ignored as a crowd's or as ignore_labels'
    std::vector<Covered> covered;  // of each annotation, in their order
};

// unlabelled: the label of pixels that no annotation covers; ignore: as in ClassTable. Annotations
// of the label `ignore`, and crowds unless they are drawn, change only pixels that no other has.
Drawing draw(const Selection& selection, const Scene& scene, const Options& options,
             std::uint8_t unlabelled, std::uint8_t ignore);

}  // namespace deeplab::preprocess::coco
