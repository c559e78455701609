#pragma once
// Where the images, masks and ids of a split come from.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "deeplab/data/shard.h"
#include "findings.h"

namespace deeplab::preprocess {

struct PackOptions {
    std::filesystem::path voc;  // a VOC folder, or …
    std::filesystem::path images, masks,
        list;           // … these three; `masks` also replaces the VOC folder's
    std::string split;  // a list of ImageSets/Segmentation, or a file
    std::filesystem::path out, classes;
    std::int64_t shards = 0;  // 0: by the amount of data
    data::Encoding encoding = data::Encoding::source;
    bool skip_missing = false, force = false;
};

struct Source {
    std::string split;  // name of the packed split
    std::filesystem::path images, masks;
    std::vector<std::string> ids;   // in list order
    std::vector<Finding> findings;  // ids listed twice, lines that cannot be read
    std::string origin;             // where the ids are from, for the log
};

Source find_source(const PackOptions& options);

// The file of a record, whatever its extension; empty when there is none.
std::filesystem::path image_file(const Source& source, const std::string& id);
std::filesystem::path mask_file(const Source& source, const std::string& id);

}  // namespace deeplab::preprocess
