#pragma once
// What a user chooses for a file of COCO's instances.

#include <cstdint>
#include <filesystem>

namespace deeplab::preprocess::coco {

// Which of several annotations a pixel belongs to. first and last: of the file's order.
enum class Overlap { small_on_top, first, last, ignore };

struct Options {
    std::filesystem::path file, map;  // file empty: the source is another
    // An image is packed when more than this many of its pixels get a class from an annotation;
    // 0: however many.
    std::int64_t min_pixels = 1000;
    // … and when the areas that the file gives for its annotations of the map's categories add up
    // to more than this many pixels; 0: whatever they are.
    std::int64_t min_area = 0;
    Overlap overlap = Overlap::small_on_top;
    bool draw_crowds = false;  // false: pixels of a crowd that no other annotation has are ignored
    bool keep_empty = false;   // images without an annotation of the map's categories
};

const char* name(Overlap overlap);  // as on the command line

}  // namespace deeplab::preprocess::coco
