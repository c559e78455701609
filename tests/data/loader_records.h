#pragma once
// Packed records for tests of the loader.

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "deeplab/base/text.h"
#include "deeplab/data/loader.h"
#include "deeplab/data/shard.h"
#include "harness/pictures.h"
#include "harness/temp_dir.h"

namespace deeplab::data {

using Records = std::vector<Record>;

// Noise with labels 0 … 4 and some void; sizes differ from record to record.
inline Records make_records(int count, Encoding encoding, std::int64_t width = 40) {
    Records records;
    for (int r = 0; r < count; ++r) {
        const auto seed = static_cast<std::uint64_t>(r);
        const io::Image image = testing::noise_image(width + r % 5, 30 + r % 3, seed);
        const io::Mask mask = testing::noise_mask(image.width, image.height,
                                                  {.first = 0, .last = 4, .ignored = 10}, seed);
        Record record{cat("id_", r), image.width, image.height, image.pixels, mask.labels};
        if (encoding == Encoding::source) {
            record.image = io::encode_png(image);
            record.mask = io::encode_palette_png(mask, voc_classes().palette());
        }
        records.push_back(std::move(record));
    }
    return records;
}

inline void pack(const std::filesystem::path& dir, const Records& records,
                 Encoding encoding = Encoding::raw, std::size_t shards = 2) {
    Manifest manifest;
    manifest.split = "train";
    manifest.encoding = encoding;
    manifest.classes = voc_classes();
    manifest.classes.classes.resize(5);
    manifest.records = std::ssize(records);
    manifest.class_pixels.assign(5, 1);
    manifest.class_images.assign(5, 1);
    std::vector<std::string> ids;
    for (const Record& record : records) ids.push_back(record.id);
    manifest.list_hash = hash_ids(ids);
    for (std::size_t s = 0; s < shards; ++s) {
        const auto at = [&](std::size_t i) {
            return records.begin() + static_cast<std::ptrdiff_t>(i);
        };
        const Records part(at(records.size() * s / shards), at(records.size() * (s + 1) / shards));
        const std::string name = shard_name("train", static_cast<std::int64_t>(s),
                                            static_cast<std::int64_t>(shards));
        manifest.shards.push_back(write_shard(dir / name, part));
    }
    save_manifest(dir, manifest);
}

inline LoaderOptions options_for(const std::filesystem::path& dir) {
    LoaderOptions o;
    o.dir = dir;
    o.split = "train";
    o.augmentation.crop = {17, 23};
    o.augmentation.range_low = 12;
    o.augmentation.range_high = 50;
    o.seed = 5;
    o.global_batch = 12;
    o.last_step = 4;
    return o;
}

// One sample as it left the loader.
class LoaderTest : public ::testing::Test {
protected:
    testing::TempDir dir;
};

}  // namespace deeplab::data
