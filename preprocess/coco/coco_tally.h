#pragma once
// What drawing the masks of a split came to, and what is told of it.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "coco_options.h"
#include "deeplab/comm/communicator.h"
#include "deeplab/data/category_map.h"
#include "deeplab/io/value.h"
#include "draw.h"
#include "selection.h"

namespace deeplab::preprocess::coco {

struct Tally {
    enum Count {
        below_pixels,   // images left out by --min-pixels
        drawn,          // annotations of the images that were looked at
        empty,          // of these, annotations that cover no pixel
        shared_pixels,  // of packed images, as in Drawing
        contested_pixels,
        crowd_pixels,
        gray_images,  // packed images without colour
        count
    };
    static constexpr std::size_t kMostNamed = 5;

    std::array<std::int64_t, count> counts{};
    Covered farthest;                     // from its area; id 0 and pixels 0 where none is
    std::vector<std::int64_t> empty_ids;  // a few, the smallest

    void add_annotations(const Drawing& drawing);
    void add_packed(const Drawing& drawing, bool gray);
    void gather(comm::Communicator& comm);  // collective: all ranks' tallies, on all ranks
};

// The manifest's member "coco".
io::Object members(const Selection& selection, const data::CategoryMap& map, const Options& options,
                   const Tally& tally);
std::vector<std::string> remarks(const Selection& selection, const data::CategoryMap& map,
                                 const Options& options, const Tally& tally);
std::vector<std::string> warnings(const Selection& selection, const Options& options,
                                  const Tally& tally);
// "12 of 30 images have no annotation, …": what each rule left out.
std::string left_out(const Selection& selection, const Options& options, const Tally& tally);

}  // namespace deeplab::preprocess::coco
