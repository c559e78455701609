#pragma once
// One image with its mask: from files to a record of a shard.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

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

// Decodes everything; throws DataError for what a training run would stumble over: damage, sizes
// that differ, labels that are neither a class nor ignore. The record is as a shard will store it.
struct Loaded {
    data::Record record;
    Histogram labels{};
};
Loaded load_record(const Source& source, const std::string& id, const data::ClassTable& classes,
                   data::Encoding encoding);

// The same record again, once load_record() has accepted it: decodes only what has to be converted.
data::Record reload_record(const Source& source, const std::string& id,
                           const data::ClassTable& classes, data::Encoding encoding);

// Throws DataError naming the first pixel whose label is neither a class nor ignore.
void check_labels(const io::Mask& mask, const Histogram& labels, const data::ClassTable& classes,
                  const std::string& what);

}  // namespace deeplab::preprocess
