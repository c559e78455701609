#pragma once
// One image with its mask: from files to a record of a shard.

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/data/shard.h"
#include "source.h"

namespace deeplab::preprocess {

// How often each byte value occurs in a mask.
using Histogram = std::array<std::int64_t, 256>;
Histogram histogram(const io::Mask& mask);

// Pixels and images per class, and ignored pixels, summed over records.
struct ClassCounts {
    explicit ClassCounts(std::size_t classes) : pixels(classes), images(classes) {}
    void add(const Histogram& labels, int ignore);

    std::vector<std::int64_t> pixels, images;
    std::int64_t ignored = 0;
};

// What a mask has that is no class: gray values or palette indices, or, of an RGB mask, colours
// (red << 16 | green << 8 | blue), each with its number of pixels.
struct ForeignLabels {
    std::map<std::uint32_t, std::int64_t> values, colors;
};
struct ForeignLabelsError : DataError {
    ForeignLabelsError(const std::string& message, ForeignLabels what)
        : DataError(message), labels(std::move(what)) {}
    ForeignLabels labels;
};

// Decodes everything; throws DataError for what a training run would stumble over: damage, sizes
// that differ, labels that are neither a class nor ignore, a palette in which the colour of a class
// stands at another's index. The record is as a shard will store it.
struct Loaded {
    data::Record record;
    Histogram labels{};        // as stored: classes and ClassTable::ignore
    std::string palette_note;  // how the mask's palette differs from the classes' colours; or ""
};
Loaded load_record(const Entry& entry, const data::ClassFile& classes, data::Encoding encoding);

// The same record again, once load_record() has accepted it: decodes only what has to be converted.
data::Record reload_record(const Entry& entry, const data::ClassFile& classes,
                           data::Encoding encoding);

// Throws DataError naming the first pixel whose label is neither a class nor ignore.
void check_labels(const io::Mask& mask, const Histogram& labels, const data::ClassTable& classes,
                  const std::string& what);

}  // namespace deeplab::preprocess
