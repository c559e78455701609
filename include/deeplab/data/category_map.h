#pragma once
// A file of classes whose classes list the categories of another data set, by number or by name:
// what deeplab-pack takes as --map.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "deeplab/data/shard.h"

namespace deeplab::data {

// One entry of `labels` or `ignore_labels`.
struct CategoryLabel {
    std::int64_t id = 0;  // where `name` is empty
    std::string name;
    int line = 0;  // of the file
};

struct CategoryMap {
    ClassTable classes;
    std::vector<std::vector<CategoryLabel>> labels;  // of each class; only the first may have none
    std::vector<CategoryLabel> ignored;              // categories whose pixels are to be ignored

    // What a pixel without any category is: the first class where it has no labels, else ignore.
    int unlabelled() const { return labels.front().empty() ? 0 : classes.ignore; }
};

// UsageError naming line and key.
CategoryMap load_category_map(const std::filesystem::path& toml);

}  // namespace deeplab::data
