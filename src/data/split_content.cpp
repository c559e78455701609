#include "deeplab/data/split_content.h"

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/io/value.h"

namespace deeplab::data {

namespace {

std::uint64_t hash_number(std::int64_t value, std::uint64_t seed) {
    return fnv1a(&value, sizeof(value), seed);
}

[[noreturn]] void fail() { throw DataError("its record of a split's content is damaged"); }

std::int64_t integer(const io::Object& object, const char* key) {
    const io::Value* value = object.find(key);
    const auto* number = value == nullptr ? nullptr : value->get_if<std::int64_t>();
    if (number == nullptr || *number < 0) fail();
    return *number;
}

std::string text(const io::Object& object, const char* key) {
    const io::Value* value = object.find(key);
    const auto* found = value == nullptr ? nullptr : value->get_if<std::string>();
    if (found == nullptr) fail();
    return *found;
}

}  // namespace

SplitContent content_of(const Manifest& manifest) {
    SplitContent content;
    content.records = manifest.records;
    content.shards = static_cast<std::int64_t>(manifest.shards.size());
    content.ignore_pixels = manifest.ignore_pixels;
    content.encoding = manifest.encoding == Encoding::raw ? "raw" : "source";
    content.class_pixels = manifest.class_pixels;
    std::uint64_t hash = fnv1a(content.encoding.data(), content.encoding.size());
    hash = fnv1a(&manifest.list_hash, sizeof(manifest.list_hash), hash);
    for (const std::int64_t value : {content.records, content.shards, content.ignore_pixels,
                                     std::int64_t{manifest.classes.ignore}})
        hash = hash_number(value, hash);
    for (const std::int64_t pixels : manifest.class_pixels) hash = hash_number(pixels, hash);
    for (const ShardInfo& shard : manifest.shards) {
        for (const std::int64_t value : {shard.records, shard.bytes, std::int64_t{shard.crc32}})
            hash = hash_number(value, hash);
    }
    content.checksum = hash;
    return content;
}

std::string to_text(const SplitContent& content) {
    io::Object object;
    object["checksum"] = hex64(content.checksum);
    object["records"] = content.records;
    object["shards"] = content.shards;
    object["encoding"] = content.encoding;
    object["ignore_pixels"] = content.ignore_pixels;
    io::Array pixels;
    for (const std::int64_t count : content.class_pixels) pixels.emplace_back(count);
    object["class_pixels"] = std::move(pixels);
    return io::to_json(object);
}

SplitContent parse_content(const std::string& from) {
    io::Value root;
    try {
        root = io::parse_json(from, "content of a split");
    } catch (const UsageError&) {
        fail();
    }
    const auto* object = root.get_if<io::Object>();
    if (object == nullptr) fail();
    SplitContent content;
    const std::string checksum = text(*object, "checksum");
    if (checksum.size() != 16 ||
        checksum.find_first_not_of("0123456789abcdef") != std::string::npos)
        fail();
    content.checksum = std::stoull(checksum, nullptr, 16);
    content.records = integer(*object, "records");
    content.shards = integer(*object, "shards");
    content.encoding = text(*object, "encoding");
    content.ignore_pixels = integer(*object, "ignore_pixels");
    const io::Value* pixels = object->find("class_pixels");
    const auto* list = pixels == nullptr ? nullptr : pixels->get_if<io::Array>();
    if (list == nullptr) fail();
    for (const io::Value& entry : *list) {
        const auto* count = entry.get_if<std::int64_t>();
        if (count == nullptr) fail();
        content.class_pixels.push_back(*count);
    }
    return content;
}

std::string content_difference(const SplitContent& before, const SplitContent& now) {
    if (before.checksum == now.checksum) return "";
    if (before.records != now.records) return cat(before.records, " records and now ", now.records);
    if (before.class_pixels.size() != now.class_pixels.size())
        return cat(before.class_pixels.size(), " classes and now ", now.class_pixels.size());
    std::string first;
    std::size_t others = 0;
    for (std::size_t c = 0; c < now.class_pixels.size(); ++c) {
        if (before.class_pixels[c] == now.class_pixels[c]) continue;
        if (first.empty())
            first = cat(before.class_pixels[c], " pixels of class ", c, " and now ",
                        now.class_pixels[c]);
        else
            ++others;
    }
    if (!first.empty())
        return others == 0 ? first : cat(first, ", ", others, " more classes differ");
    if (before.ignore_pixels != now.ignore_pixels)
        return cat(before.ignore_pixels, " ignored pixels and now ", now.ignore_pixels);
    const auto files = [](const SplitContent& content) {
        return cat(content.shards, content.shards == 1 ? " shard of " : " shards of ",
                   content.encoding == "raw" ? "raw pixels" : "source bytes");
    };
    if (files(before) != files(now)) {
        return cat("as many pixels of each class, but ", files(before), " and now ", files(now));
    }
    return "as many records and pixels of each class, but other bytes in the shards";
}

}  // namespace deeplab::data
