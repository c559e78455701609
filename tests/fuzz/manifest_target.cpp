// The manifest of a split, and with it JSON.

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/data/shard.h"
#include "deeplab/io/value.h"
#include "fuzz/target.h"

namespace deeplab::fuzz {

void consume(std::span<const std::uint8_t> input) {
    try {
        const std::string once = io::to_json(io::parse_json(text_of(input), "fuzz"), 1);
        require(io::to_json(io::parse_json(once, "written"), 1) == once,
                "what was written is read back");
    } catch (const Error&) {
    }
    store(scratch() / "s.json", input);
    const data::Manifest manifest = data::load_manifest(scratch(), "s");
    std::int64_t records = 0;
    for (const data::ShardInfo& shard : manifest.shards) records += shard.records;
    require(records == manifest.records, "the shards hold the records");
    data::save_manifest(scratch(), manifest);
    const std::string written = read_text(scratch() / "s.json");
    data::save_manifest(scratch(), data::load_manifest(scratch(), "s"));
    require(read_text(scratch() / "s.json") == written, "what was written is read back");
    data::ShardSet set(scratch(), "s");  // whose shards do not exist
    set.ids();
}

std::vector<Bytes> seeds() {
    data::Manifest manifest;
    manifest.split = "s";
    manifest.classes = data::voc_classes();
    manifest.class_pixels = manifest.class_images = std::vector<std::int64_t>(21, 7);
    manifest.records = 6;
    for (const std::int64_t records : {2, 4}) {
        const auto index = static_cast<std::int64_t>(manifest.shards.size());
        manifest.shards.push_back({data::shard_name("s", index, 2), records, 4096, 0xFFFFFFFF});
    }
    data::save_manifest(scratch(), manifest);
    const std::string text = read_text(scratch() / "s.json");
    return {bytes_of(text), bytes_of("{\"a\": [1, -2.5e3, true, null, \"\\u00e4\\n\"], \"b\": {}}"),
            bytes_of(std::string(300, '[') + std::string(300, ']')),
            bytes_of("[18446744073709551615, 1e999, -9223372036854775808]")};
}

std::vector<std::string> dictionary() {
    return {"\"format\": \"deeplab-shards\",",
            "\"format_version\": 1,",
            "\"split\": \"s\",",
            "\"encoding\": \"raw\",",
            "\"encoding\": \"source\",",
            "\"records\": ",
            "\"skipped\": ",
            "\"list_hash\": \"0000000000000000\",",
            "\"ignore\": 255,",
            "\"ignore_pixels\": ",
            "\"classes\": [",
            "\"name\": \"a\",",
            "\"color\": [0, 0, 0],",
            "\"pixels\": ",
            "\"images\": ",
            "\"shards\": [",
            "\"requires\": [",
            "\"file\": \"s-00000-of-00001.h5\",",
            "\"bytes\": ",
            "\"crc32\": ",
            "2305843009213693951",
            "null",
            "{",
            "}",
            "[",
            "]",
            ","};
}

}  // namespace deeplab::fuzz
