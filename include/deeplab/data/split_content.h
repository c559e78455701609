#pragma once
// What a packed split holds, told by its manifest alone: kept in checkpoints, compared between the
// ranks of a job and between the starts of a run.

#include <cstdint>
#include <string>
#include <vector>

#include "deeplab/data/shard.h"

namespace deeplab::data {

struct SplitContent {
    // Of all below, of the ids' hash, and of every shard's size and CRC-32: other bytes, another
    // checksum.
    std::uint64_t checksum = 0;
    std::int64_t records = 0, shards = 0, ignore_pixels = 0;
    std::string encoding;                    // "source" or "raw"
    std::vector<std::int64_t> class_pixels;  // per class
};

SplitContent content_of(const Manifest& manifest);

std::string to_text(const SplitContent& content);     // one line
SplitContent parse_content(const std::string& text);  // DataError for anything else

// In words, "" for the same content: "1200 pixels of class 1 and now 1100". The classes are
// numbered, their names are compared elsewhere.
std::string content_difference(const SplitContent& before, const SplitContent& now);

}  // namespace deeplab::data
