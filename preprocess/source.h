#pragma once
// Where the images, masks and ids of a split come from.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "coco_options.h"
#include "deeplab/data/shard.h"
#include "findings.h"
#include "folder.h"

namespace deeplab::preprocess {

struct PackOptions {
    std::filesystem::path voc;  // a VOC folder, …
    std::filesystem::path images, masks,
        list;            // … these three (`masks` also replaces the VOC folder's), where without
                         // a list all pictures below the folders are taken, or …
    coco::Options coco;  // … a file of COCO's instances, with `images`
    std::string split;   // a list of ImageSets/Segmentation, or a file; else the split's name
    std::string image_suffix, mask_suffix;  // of `images` and `masks`: see Folder
    std::filesystem::path out, classes;
    std::int64_t shards = 0;  // 0: by the amount of data
    data::Encoding encoding = data::Encoding::source;
    bool skip_missing = false, force = false;
};

// One record to be: what a line of a list means.
struct Entry {
    std::string id;                     // UTF-8: the image's path below its folder, without ending
    std::filesystem::path image, mask;  // empty: there is none
    std::string image_name, mask_name;  // as the list has them; of those that are missing
    std::size_t scene = 0;              // of coco::Selection: the mask is drawn, `mask` its file
};

struct Source {
    std::string split;  // name of the packed split
    Folder images, masks;
    std::vector<Entry> entries;     // in list order
    std::vector<Finding> findings;  // ids listed twice, lines that cannot be read
    std::string origin;             // where the ids are from, for the log
};

// UsageError where a suffix cannot be one, or the source has names of its own.
void check_suffixes(const PackOptions& options);
Source find_source(const PackOptions& options);

// UsageError where `name` cannot be part of file names of the output.
std::string checked_name(const std::string& name);
// UsageError where `path`, which the option names, is no folder.
std::filesystem::path require_dir(const std::filesystem::path& path, const char* option);

// What is missing of an entry without image or mask, and which file that is there it may mean.
Finding missing_of(Source& source, std::int64_t order, const Entry& entry);

// The list is one to train on: its name begins with "train", but not with "trainval".
bool trains_only(const std::string& split);

}  // namespace deeplab::preprocess
