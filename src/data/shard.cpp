#include "deeplab/data/shard.h"

#include <algorithm>
#include <cerrno>
#include <fstream>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/io/hdf5.h"

namespace deeplab::data {
namespace {

constexpr const char* kFormat = "deeplab-shard";
constexpr std::int64_t kMaxSide = 65535;  // of an image, as in JPEG
constexpr std::int64_t
    kMaxOpen = 64;  // shard files open at once: far below the usual limit of 1024 descriptors

std::uint32_t record_crc(const Record& record) { return crc32(record.mask, crc32(record.image)); }

[[noreturn]] void fail(const std::filesystem::path& shard, const std::string& record,
                       const std::string& reason) {
    throw DataError(
        cat(reason, " (shard ", shard.string(), record.empty() ? "" : ", record ", record,
            ") — the data would be wrong or lost — copy the shard again or pack the split again; ",
            "deeplab-pack verify ", shard.parent_path().string(), " lists all damage"));
}

// Everything of a shard but the bytes of its images and masks.
struct Tables {
    std::vector<std::int64_t> image_offsets, mask_offsets;  // n + 1 each
    std::vector<std::int64_t> sizes;                        // n x 2: width, height
    std::vector<std::int64_t> crc32;                        // n
    std::vector<std::string> ids;                           // n
};

void expect_extents(const io::Hdf5Reader& file, const std::filesystem::path& path, const char* name,
                    const std::vector<std::int64_t>& wanted) {
    if (!file.has(name)) fail(path, "", cat("dataset \"", name, "\" is missing"));
    if (file.extents(name) != wanted)
        fail(path, "", cat("dataset \"", name, "\" has the wrong number of elements"));
}

// Offsets must rise strictly from 0 to the size of the dataset they point into.
std::vector<std::int64_t> read_offsets(const io::Hdf5Reader& file,
                                       const std::filesystem::path& path, const char* name,
                                       const char* bytes_name, std::int64_t records,
                                       std::int64_t file_bytes) {
    expect_extents(file, path, name, {records + 1});
    std::vector<std::int64_t> offsets = file.read_all<std::int64_t>(name, DType::i64);
    if (!file.has(bytes_name)) fail(path, "", cat("dataset \"", bytes_name, "\" is missing"));
    const std::vector<std::int64_t> extents = file.extents(bytes_name);
    if (extents.size() != 1 || extents[0] > file_bytes || offsets.front() != 0 ||
        offsets.back() != extents[0])
        fail(path, "", cat("\"", name, "\" does not span \"", bytes_name, "\""));
    for (std::size_t i = 1; i < offsets.size(); ++i)
        if (offsets[i] <= offsets[i - 1])
            fail(path, cat(i - 1), cat("\"", name, "\" does not rise"));
    return offsets;
}

Tables read_tables(const io::Hdf5Reader& file, const std::filesystem::path& path,
                   const ShardInfo& info) {
    if (!file.has_attribute("format") || file.attribute_text("format") != kFormat)
        fail(path, "", "the file is not a shard");
    const std::int64_t version = file.attribute_int("format_version");
    if (version != Manifest::format_version)
        fail(path, "", cat("unknown shard format version ", version));
    const std::int64_t n = info.records;
    if (file.attribute_int("records") != n)
        fail(path, "",
             cat("the shard has ", file.attribute_int("records"), " records, the manifest says ",
                 n));
    Tables tables;
    tables.image_offsets = read_offsets(file, path, "image_offsets", "images", n, info.bytes);
    tables.mask_offsets = read_offsets(file, path, "mask_offsets", "masks", n, info.bytes);
    expect_extents(file, path, "sizes", {n, 2});
    tables.sizes = file.read_all<std::int64_t>("sizes", DType::i64);
    for (std::size_t i = 0; i < tables.sizes.size(); ++i)
        if (tables.sizes[i] < 1 || tables.sizes[i] > kMaxSide)
            fail(path, cat(i / 2), "impossible image size");
    expect_extents(file, path, "crc32", {n});
    tables.crc32 = file.read_all<std::int64_t>("crc32", DType::i64);
    expect_extents(file, path, "ids", {n});
    tables.ids = file.read_strings("ids");
    return tables;
}

// Record i of an open shard, into buffers that may be used again.
void read_record(const io::Hdf5Reader& file, const Tables& tables, std::size_t i, Record& record) {
    record.id = tables.ids[i];
    record.width = tables.sizes[2 * i];
    record.height = tables.sizes[2 * i + 1];
    const auto bytes = [&](const char* name, const std::vector<std::int64_t>& offsets,
                           std::vector<std::uint8_t>& out) {
        const std::int64_t count = offsets[i + 1] - offsets[i];
        out.resize(static_cast<std::size_t>(count));
        file.read(name, out.data(), DType::u8, offsets[i], count);
    };
    bytes("images", tables.image_offsets, record.image);
    bytes("masks", tables.mask_offsets, record.mask);
}

// What was decoded, of `bytes` in all, against what the record promises.
void check_size(const char* part, std::int64_t width, std::int64_t height, std::size_t bytes,
                std::int64_t bytes_per_pixel, const Record& record, const std::string& what) {
    if (width == record.width && height == record.height &&
        bytes == static_cast<std::size_t>(width * height * bytes_per_pixel))
        return;
    throw DataError(cat("the ", part, " is ", width, "x", height, ", ", bytes,
                        " bytes, the record says ", record.width, "x", record.height, " (", what,
                        ") — labels would not lie on their pixels — pack the split again"));
}

}  // namespace

std::uint32_t file_crc32(const std::filesystem::path& path) {
    errno = 0;
    std::ifstream file(path, std::ios::binary);
    if (!file && is_machines_failure(errno)) throw_machines_failure("open", path, errno);
    if (!file)
        throw DataError(
            cat("cannot open ", path.string(), " — its content is needed — check path and rights"));
    std::vector<unsigned char> block(1 << 20);
    std::uint32_t crc = 0;
    while (file) {
        file.read(reinterpret_cast<char*>(block.data()),
                  static_cast<std::streamsize>(block.size()));
        crc = crc32({block.data(), static_cast<std::size_t>(file.gcount())}, crc);
    }
    if (file.bad())
        throw DataError(
            cat("cannot read ", path.string(), " — its content is needed — check the disk"));
    return crc;
}

void decode_image(Record& record, Encoding encoding, const std::string& what, io::Image& image) {
    if (encoding == Encoding::raw) {
        image.width = record.width;
        image.height = record.height;
        image.pixels.swap(record.image);
    } else {
        io::decode_image(record.image, what + ", image", image);
    }
    check_size("image", image.width, image.height, image.pixels.size(), 3, record, what);
}

void decode_mask(Record& record, Encoding encoding, const std::string& what, io::Mask& mask) {
    if (encoding == Encoding::raw) {
        mask.width = record.width;
        mask.height = record.height;
        mask.labels.swap(record.mask);
    } else {
        io::decode_mask(record.mask, what + ", mask", mask);
    }
    check_size("mask", mask.width, mask.height, mask.labels.size(), 1, record, what);
}

LabelledImage decode(Record record, Encoding encoding, const std::string& what) {
    LabelledImage out;
    out.id = record.id;
    decode_image(record, encoding, what, out.image);
    decode_mask(record, encoding, what, out.mask);
    return out;
}

ShardInfo write_shard(const std::filesystem::path& path, const std::vector<Record>& records) {
    const auto n = static_cast<std::int64_t>(records.size());
    expects(n > 0, "a shard has a record");
    Tables tables;
    tables.image_offsets = tables.mask_offsets = {0};
    for (const Record& record : records) {
        expects(!record.image.empty() && !record.mask.empty(),
                "image and mask of a record have bytes");
        tables.image_offsets.push_back(tables.image_offsets.back() +
                                       static_cast<std::int64_t>(record.image.size()));
        tables.mask_offsets.push_back(tables.mask_offsets.back() +
                                      static_cast<std::int64_t>(record.mask.size()));
        tables.sizes.push_back(record.width);
        tables.sizes.push_back(record.height);
        tables.crc32.push_back(record_crc(record));
        tables.ids.push_back(record.id);
    }
    AtomicFile target(path);
    io::Hdf5Writer file(target.path());
    file.attribute("format", std::string(kFormat));
    file.attribute("format_version", Manifest::format_version);
    file.attribute("records", n);
    const auto write = [&](const char* name, const std::vector<std::int64_t>& values,
                           std::vector<std::int64_t> extents) {
        file.write(name, values.data(), DType::i64, extents);
    };
    write("image_offsets", tables.image_offsets, {n + 1});
    write("mask_offsets", tables.mask_offsets, {n + 1});
    write("sizes", tables.sizes, {n, 2});
    write("crc32", tables.crc32, {n});
    file.write_strings("ids", tables.ids);
    file.create("images", DType::u8, tables.image_offsets.back());
    for (const Record& record : records)
        file.append("images", record.image.data(), static_cast<std::int64_t>(record.image.size()));
    file.create("masks", DType::u8, tables.mask_offsets.back());
    for (const Record& record : records)
        file.append("masks", record.mask.data(), static_cast<std::int64_t>(record.mask.size()));
    file.close();
    ShardInfo info;
    info.file = path.filename().string();
    info.records = n;
    info.bytes = static_cast<std::int64_t>(std::filesystem::file_size(target.path()));
    info.crc32 = file_crc32(target.path());
    target.commit();
    return info;
}

RecordSummary summary_of(const Record& record) {
    return {record.id, record.width, record.height,
            static_cast<std::int64_t>(record.image.size() + record.mask.size()),
            record_crc(record)};
}

std::optional<ShardInfo> finished_shard(const std::filesystem::path& path,
                                        const std::vector<RecordSummary>& records) {
    std::error_code error;
    const std::uintmax_t bytes = std::filesystem::file_size(path, error);
    if (error) return std::nullopt;
    ShardInfo info{path.filename().string(), static_cast<std::int64_t>(records.size()),
                   static_cast<std::int64_t>(bytes), 0};
    try {
        const io::Hdf5Reader file(path);
        const Tables tables = read_tables(file, path, info);
        Record record;
        for (std::size_t i = 0; i < records.size(); ++i) {
            read_record(file, tables, i, record);
            if (summary_of(record) != records[i] || tables.crc32[i] != records[i].crc32)
                return std::nullopt;
        }
        info.crc32 = file_crc32(path);
    } catch (const DataError&) {
        return std::nullopt;
    }
    return info;
}

struct ShardSet::Impl {
    struct Shard {
        std::unique_ptr<io::Hdf5Reader> file;
        Tables tables;  // stay when the file is closed to make room for another
        bool known = false;
    };

    std::filesystem::path dir;
    Manifest manifest;
    std::vector<Shard> shards;
    std::vector<std::int64_t> first;  // of each shard: index of its first record in the split
    std::vector<std::size_t> open;    // oldest first

    std::filesystem::path path(std::size_t s) const { return dir / manifest.shards[s].file; }

    // A file of another length is not opened: HDF5 believes what it finds.
    void check_length(std::size_t s) const {
        std::error_code error;
        const std::uintmax_t bytes = std::filesystem::file_size(path(s), error);
        if (error) fail(path(s), "", "the shard is missing or unreadable");
        if (bytes != static_cast<std::uintmax_t>(manifest.shards[s].bytes))
            fail(path(s), "",
                 cat("the shard has ", bytes, " bytes, the manifest says ",
                     manifest.shards[s].bytes));
    }

    Shard& shard(std::size_t s) {
        Shard& out = shards[s];
        if (out.file) return out;
        check_length(s);
        if (static_cast<std::int64_t>(open.size()) >= kMaxOpen) {
            shards[open.front()].file.reset();
            open.erase(open.begin());
        }
        auto file = std::make_unique<io::Hdf5Reader>(path(s));
        if (!out.known) out.tables = read_tables(*file, path(s), manifest.shards[s]);
        out.known = true;
        out.file = std::move(file);
        open.push_back(s);
        return out;
    }
};

ShardSet::ShardSet(const std::filesystem::path& dir, const std::string& split)
    : impl_(std::make_unique<Impl>()) {
    impl_->dir = dir;
    impl_->manifest = load_manifest(dir, split);
    impl_->shards.resize(impl_->manifest.shards.size());
    std::int64_t first = 0;
    for (const ShardInfo& info : impl_->manifest.shards) {
        impl_->first.push_back(first);
        first += info.records;
    }
}

ShardSet::~ShardSet() = default;

const Manifest& ShardSet::manifest() const { return impl_->manifest; }
std::int64_t ShardSet::size() const { return impl_->manifest.records; }

std::vector<std::string> ShardSet::ids() {
    std::vector<std::string> all;
    for (std::size_t s = 0; s < impl_->shards.size(); ++s) {
        const std::vector<std::string>& ids = impl_->shard(s).tables.ids;
        all.insert(all.end(), ids.begin(), ids.end());
    }
    if (hash_ids(all) != impl_->manifest.list_hash)
        fail(impl_->path(0), "",
             cat("the ids of split \"", impl_->manifest.split,
                 "\" are not those of the manifest: list hash ", hex64(hash_ids(all)),
                 ", expected ", hex64(impl_->manifest.list_hash)));
    return all;
}

std::vector<std::int64_t> ShardSet::pixels() {
    std::vector<std::int64_t> all;
    for (std::size_t s = 0; s < impl_->shards.size(); ++s) {
        const std::vector<std::int64_t>& sizes = impl_->shard(s).tables.sizes;
        for (std::size_t i = 0; i < sizes.size(); i += 2) all.push_back(sizes[i] * sizes[i + 1]);
    }
    return all;
}

Record ShardSet::read(std::int64_t index, bool check_crc) {
    Record record;
    read(index, check_crc, record);
    return record;
}

void ShardSet::read(std::int64_t index, bool check_crc, Record& record) {
    expects(index >= 0 && index < size(), "0 <= index < size()");
    const auto after = std::upper_bound(impl_->first.begin(), impl_->first.end(), index);
    const auto s = static_cast<std::size_t>(after - impl_->first.begin()) - 1;
    const Impl::Shard& shard = impl_->shard(s);
    const auto i = static_cast<std::size_t>(index - impl_->first[s]);
    const Tables& tables = shard.tables;
    read_record(*shard.file, tables, i, record);
    if (check_crc && record_crc(record) != tables.crc32[i])
        fail(impl_->path(s), cat(i, " (", record.id, ")"),
             "CRC-32 of image and mask differs from the stored one");
}

void ShardSet::verify_files(const std::vector<std::int64_t>& shards) const {
    for (const std::int64_t index : shards) {
        expects(index >= 0 && index < static_cast<std::int64_t>(impl_->shards.size()),
                "index of a shard");
        const auto s = static_cast<std::size_t>(index);
        impl_->check_length(s);
        if (file_crc32(impl_->path(s)) != impl_->manifest.shards[s].crc32)
            fail(impl_->path(s), "", "the shard's checksum differs from the manifest's");
    }
}

}  // namespace deeplab::data
