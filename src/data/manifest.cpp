#include <algorithm>
#include <cstdio>
#include <numeric>
#include <set>
#include <system_error>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/data/manifest_members.h"
#include "deeplab/data/shard.h"
#include "deeplab/io/features.h"
#include "deeplab/io/foreign.h"
#include "deeplab/io/value.h"

namespace deeplab::data {
namespace {

constexpr const char* kFormat = "deeplab-shards";
constexpr std::int64_t kMostRecords = 0xffffffff;  // an epoch's order counts them in 32 bits
// A record's offsets, size and CRC-32 in its shard's tables, before anything is stored for it.
constexpr std::int64_t kRecordBytes = 40;

// Typed access to the members of a parsed manifest; every complaint is a DataError naming the file
// and the key.
class Fields {
public:
    Fields(const io::Value& value, std::string where) : where_(std::move(where)) {
        object_ = value.get_if<io::Object>();
        if (object_ == nullptr) fail("a table was expected");
    }

    [[noreturn]] void fail(const std::string& reason) const {
        throw DataError(cat("manifest is damaged: ", reason, " (", where_,
                            ") — what the shards contain cannot be trusted — restore the file or "
                            "pack the split again"));
    }

    template <class T>
    const T& get(const char* key, const char* kind) const {
        const io::Value* value = object_->find(key);
        if (value == nullptr) fail(cat("\"", key, "\" is missing"));
        const T* typed = value->get_if<T>();
        if (typed == nullptr)
            fail(cat("\"", key, "\" must be ", kind, ", it is ", value->type_name()));
        return *typed;
    }
    const std::string& text(const char* key) const { return get<std::string>(key, "a string"); }
    const io::Array& array(const char* key) const { return get<io::Array>(key, "a list"); }
    std::int64_t integer(const char* key, std::int64_t low, std::int64_t high) const {
        const std::int64_t value = get<std::int64_t>(key, "an integer");
        if (value < low || value > high) fail(cat("\"", key, "\" = ", value, " is out of range"));
        return value;
    }
    // The member that a class has where its values in the masks are not its place.
    std::vector<int> labels() const {
        std::vector<int> out;
        if (object_->find("labels") == nullptr) return out;
        for (const io::Value& entry : array("labels")) {
            const std::int64_t* value = entry.get_if<std::int64_t>();
            if (value == nullptr || *value < 0 || *value > MaskValues::largest)
                fail(cat("\"labels\" must be integers in 0..", MaskValues::largest));
            out.push_back(static_cast<int>(*value));
        }
        if (out.empty()) fail("\"labels\" is empty");
        return out;
    }
    std::int64_t count(const char* key) const { return integer(key, 0, INT64_MAX / 4); }
    const std::string& where() const { return where_; }

private:
    std::string where_;
    const io::Object* object_ = nullptr;
};

void check_required(const io::Value& root, const Fields& top) {
    const io::Value* required = root.get_if<io::Object>()->find("requires");
    if (required == nullptr) return;
    try {
        io::check_features(*required, {}, cat("manifest ", top.where()));
    } catch (const io::NewerFile&) {
        throw;
    } catch (const DataError& error) {
        top.fail(error.what());
    }
}

void read_classes(const Fields& top, Manifest& manifest) {
    for (const io::Value& entry : top.array("classes")) {
        const Fields fields(entry, top.where());
        const io::Array& rgb = fields.array("color");
        std::uint8_t color[3] = {};
        if (rgb.size() != 3) fields.fail("\"color\" must have three values");
        for (std::size_t i = 0; i < 3; ++i) {
            const std::int64_t* v = rgb[i].get_if<std::int64_t>();
            if (v == nullptr || *v < 0 || *v > 255)
                fields.fail("\"color\" must be integers in 0..255");
            color[i] = static_cast<std::uint8_t>(*v);
        }
        manifest.classes.classes.push_back(
            {fields.text("name"), {color[0], color[1], color[2]}, true, fields.labels()});
        manifest.class_pixels.push_back(fields.count("pixels"));
        manifest.class_images.push_back(fields.count("images"));
    }
    const auto classes = static_cast<std::int64_t>(manifest.classes.classes.size());
    if (classes < 1 || classes > 255) top.fail(cat(classes, " classes"));
    manifest.classes.ignore = static_cast<int>(top.integer("ignore", classes, 255));
}

void read_shards(const Fields& top, Manifest& manifest) {
    const io::Array& list = top.array("shards");
    const auto count = static_cast<std::int64_t>(list.size());
    if (count < 1) top.fail("no shards");
    std::int64_t records = 0;
    for (const io::Value& entry : list) {
        const Fields fields(entry, top.where());
        ShardInfo shard;
        shard.file = fields.text("file");
        // Names follow from split and count: anything else could lead out of the folder.
        if (shard.file !=
            shard_name(manifest.split, static_cast<std::int64_t>(manifest.shards.size()), count))
            fields.fail(cat("unexpected shard name \"", shard.file, "\""));
        shard.records = fields.count("records");
        shard.bytes = fields.count("bytes");
        if (shard.records > shard.bytes / kRecordBytes)
            fields.fail(cat(shard.bytes, " bytes cannot hold ", shard.records, " records"));
        shard.crc32 = static_cast<std::uint32_t>(fields.integer("crc32", 0, 0xffffffffll));
        if (shard.records > kMostRecords - records) top.fail("too many records");
        records += shard.records;
        manifest.shards.push_back(shard);
    }
    if (records != manifest.records)
        top.fail(cat("the shards have ", records, " records, \"records\" says ", manifest.records));
}

std::uint64_t parse_hash(const Fields& top) {
    const std::string& text = top.text("list_hash");
    if (text.size() != 16 || text.find_first_not_of("0123456789abcdef") != std::string::npos)
        top.fail("\"list_hash\" must be 16 hexadecimal digits");
    return std::stoull(text, nullptr, 16);
}

// The splits of a folder, by their manifests: "train, val".
std::string splits_of(const std::filesystem::path& dir) {
    std::set<std::string> names;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(dir, ignored)) {
        const auto name = entry.path().stem().string();
        if (entry.path().extension() == ".json") names.insert(name);
    }
    std::string text;
    for (const auto& name : names) text += cat(text.empty() ? "" : ", ", name);
    return text;
}

[[noreturn]] void refuse_missing(const std::filesystem::path& dir, const std::string& split) {
    const std::string there = splits_of(dir);
    throw DataError(cat(
        "no packed split \"", split, "\" (", (dir / (split + ".json")).string(), " is missing",
        there.empty() ? "" : cat("; the folder has: ", there), ") — there is nothing to read — ",
        there.empty() ? ""
                      : "name one that is there (data.train_split, data.val_split, --split), or ",
        "pack it: deeplab-pack --out ", dir.string(), " with --voc VOC --split ", split,
        ", or with --images, --masks, --list and --classes"));
}

}  // namespace

std::string shard_name(const std::string& split, std::int64_t index, std::int64_t count) {
    char digits[64];
    std::snprintf(digits, sizeof digits, "-%05lld-of-%05lld.h5", static_cast<long long>(index),
                  static_cast<long long>(count));
    return split + digits;
}

std::uint64_t hash_ids(const std::vector<std::string>& ids) {
    std::uint64_t hash = fnv1a(nullptr, 0);
    for (const std::string& id : ids) {
        hash = fnv1a(id.data(), id.size(), hash);
        hash = fnv1a("\n", 1, hash);
    }
    return hash;
}

std::int64_t classes_that_occur(const Manifest& manifest) {
    return std::count_if(manifest.class_pixels.begin(), manifest.class_pixels.end(),
                         [](std::int64_t pixels) { return pixels > 0; });
}

Manifest load_manifest(const std::filesystem::path& dir, const std::string& split) {
    const std::filesystem::path path = dir / (split + ".json");
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(path, ignored)) refuse_missing(dir, split);
    const std::vector<unsigned char> bytes = read_bytes(path);
    if (const auto foreign = io::foreign_file(bytes); foreign) {
        throw DataError(cat("the manifest ", path.string(), " is ", foreign->what,
                            " — what the shards contain is not known — ", foreign->remedy));
    }
    io::Value root;
    try {
        root = io::parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                              path.string());
    } catch (const Error& error) {
        const std::string text = error.what();  // "what is wrong — why — what to do"
        throw DataError(cat("manifest is damaged: ", text.substr(0, text.find(" — ")),
                            " — what the shards contain cannot be trusted — restore the file or "
                            "pack the split again"));
    }
    const Fields top(root, path.string());
    if (top.text("format") != kFormat) top.fail(cat("\"format\" is not \"", kFormat, "\""));
    const std::int64_t version = top.count("format_version");
    if (version != Manifest::format_version)
        throw DataError(cat("shards of format version ", version, " (", path.string(),
                            ") — this program reads version ", Manifest::format_version,
                            " only — pack the split again with this program's deeplab-pack"));
    check_required(root, top);
    Manifest manifest;
    manifest.split = top.text("split");
    if (manifest.split != split) top.fail(cat("it describes split \"", manifest.split, "\""));
    const std::string& encoding = top.text("encoding");
    if (encoding != "source" && encoding != "raw")
        top.fail(cat("unknown encoding \"", encoding, "\""));
    manifest.encoding = encoding == "raw" ? Encoding::raw : Encoding::source;
    manifest.records = top.integer("records", 0, kMostRecords);
    manifest.skipped = top.count("skipped");
    manifest.list_hash = parse_hash(top);
    manifest.ignore_pixels = top.count("ignore_pixels");
    read_classes(top, manifest);
    read_shards(top, manifest);
    return manifest;
}

void save_manifest(const std::filesystem::path& dir, const Manifest& manifest) {
    save_manifest(dir, manifest, {});
}

void save_manifest(const std::filesystem::path& dir, const Manifest& manifest,
                   const io::Object& more) {
    const std::size_t count = manifest.classes.classes.size();
    expects(manifest.class_pixels.size() == count && manifest.class_images.size() == count,
            "a count for each class");
    io::Object top;
    top["format"] = kFormat;
    top["format_version"] = Manifest::format_version;
    top["split"] = manifest.split;
    top["encoding"] = manifest.encoding == Encoding::raw ? "raw" : "source";
    top["records"] = manifest.records;
    top["skipped"] = manifest.skipped;
    top["list_hash"] = hex64(manifest.list_hash);
    top["ignore"] = manifest.classes.ignore;
    top["ignore_pixels"] = manifest.ignore_pixels;
    io::Array classes, shards;
    for (std::size_t c = 0; c < count; ++c) {
        const ClassInfo& info = manifest.classes.classes[c];
        io::Object entry;
        entry["name"] = info.name;
        entry["color"] = io::Array{int{info.color.r}, int{info.color.g}, int{info.color.b}};
        entry["pixels"] = manifest.class_pixels[c];
        entry["images"] = manifest.class_images[c];
        if (!info.labels.empty())
            entry["labels"] = io::Array(info.labels.begin(), info.labels.end());
        classes.emplace_back(std::move(entry));
    }
    for (const ShardInfo& shard : manifest.shards) {
        io::Object entry;
        entry["file"] = shard.file;
        entry["records"] = shard.records;
        entry["bytes"] = shard.bytes;
        entry["crc32"] = static_cast<std::int64_t>(shard.crc32);
        shards.emplace_back(std::move(entry));
    }
    top["classes"] = std::move(classes);
    top["shards"] = std::move(shards);
    for (const auto& [name, value] : more.members()) {
        expects(top.find(name) == nullptr, "a member that the manifest has not yet");
        top[name] = value;
    }
    write_atomically(dir / (manifest.split + ".json"), io::to_json(top, 2) + "\n");
}

}  // namespace deeplab::data
