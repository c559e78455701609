#pragma once
// Sharded HDF5 data sets: `<split>-00000-of-00016.h5` and `<split>.json`. The layout is defined in
// preprocess/README.md.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deeplab/io/image.h"

namespace deeplab::data {

struct ClassInfo {
    std::string name;
    io::Rgb color;
    bool has_color = true;  // false: the file gave none, `color` is VOC's for that index
    // Its values in the data set's own masks, 0 to 65535; what writes masks takes the first. Empty:
    // its place among the classes.
    std::vector<int> labels = {};
};

// Names and colours of a labelling. VOC: 21 classes, ignore 255.
struct ClassTable {
    std::vector<ClassInfo> classes;
    int ignore = 255;

    // 256 entries: the classes' colours, VOC's for the rest and for ignore.
    std::vector<io::Rgb> palette() const;
};

ClassTable voc_classes();

// How the masks of a data set write the labels. By default a gray value or palette index is the
// label itself.
struct MaskValues {
    static constexpr int no_label = -1;
    static constexpr int largest = 65535;  // value: masks have 8 or 16 bits

    explicit MaskValues(const ClassTable& classes);  // the default
    bool plain() const;  // every value is its own label; else masks are to be written anew
    int label_of(std::size_t value) const {
        return value < labels.size() ? labels[value] : no_label;
    }

    // Of each value from 0 on, at least of 256: a class, ClassTable::ignore, or no_label, as all
    // values beyond have.
    std::vector<int> labels;
    std::vector<io::Rgb> void_colors;  // in which RGB masks paint pixels to be ignored
    // In which they paint classes beside the classes' own colours.
    std::vector<std::pair<io::Rgb, int>> more_colors;
};

// The --classes file; UsageError naming line and key.
struct ClassFile {
    ClassTable classes;
    MaskValues masks;
};
ClassFile load_class_file(const std::filesystem::path& toml);
ClassTable load_classes(const std::filesystem::path& toml);

// "source": the file's own bytes. "raw": decoded pixels (RGB, labels).
enum class Encoding { source, raw };

struct Record {
    std::string id;
    std::int64_t width = 0, height = 0;
    std::vector<std::uint8_t> image, mask;  // encoded as the manifest says
};

// A record, decoded.
struct LabelledImage {
    std::string id;
    io::Image image;
    io::Mask mask;
};
// Image and labels of a record; DataError when they do not decode, or not to the record's size.
// `what` names the record.
LabelledImage decode(Record record, Encoding encoding, const std::string& what);
// The same one by one, into memory that is used again; raw pixels are exchanged with the record's.
void decode_image(Record& record, Encoding encoding, const std::string& what, io::Image& image);
void decode_mask(Record& record, Encoding encoding, const std::string& what, io::Mask& mask);

struct ShardInfo {
    std::string file;  // name within the folder
    std::int64_t records = 0, bytes = 0;
    std::uint32_t crc32 = 0;  // of the whole file
};

struct Manifest {
    static constexpr std::int64_t format_version = 1;
    std::string split;
    Encoding encoding = Encoding::source;
    ClassTable classes;
    std::int64_t records = 0;
    std::int64_t skipped = 0;                // by --missing skip
    std::vector<std::int64_t> class_pixels;  // per class
    std::vector<std::int64_t> class_images;  // records in which the class occurs
    std::int64_t ignore_pixels = 0;
    std::uint64_t list_hash = 0;  // FNV-1a of the ids in order, see hash_ids
    std::vector<ShardInfo> shards;
};

Manifest load_manifest(const std::filesystem::path& dir,
                       const std::string& split);  // DataError says how to pack
void save_manifest(const std::filesystem::path& dir, const Manifest& manifest);  // atomic
// Classes with a pixel. 0: every pixel is ignored; 1: there is nothing to tell apart.
std::int64_t classes_that_occur(const Manifest& manifest);
std::uint64_t hash_ids(const std::vector<std::string>& ids);  // each followed by '\n'
std::string shard_name(const std::string& split, std::int64_t index, std::int64_t count);

// CRC-32 of a whole file, read piece by piece.
std::uint32_t file_crc32(const std::filesystem::path& path);

// Writes one shard under its final name, atomically. The same records give the same bytes.
ShardInfo write_shard(const std::filesystem::path& path, const std::vector<Record>& records);

// What a shard's tables say of a record.
struct RecordSummary {
    std::string id;
    std::int64_t width = 0, height = 0, bytes = 0;  // image and mask together
    std::uint32_t crc32 = 0;                        // of the image's bytes followed by the mask's
    bool operator==(const RecordSummary&) const = default;
};
RecordSummary summary_of(const Record& record);

// The shard at `path` if it holds exactly these records, every byte of them as its CRC-32 says;
// nothing when there is none or it differs in any way. Reads all of it.
std::optional<ShardInfo> finished_shard(const std::filesystem::path& path,
                                        const std::vector<RecordSummary>& records);

// Random access to the records of a split, in list order. One thread at a time (HDF5).
class ShardSet {
public:
    ShardSet(const std::filesystem::path& dir, const std::string& split);
    ~ShardSet();
    ShardSet(const ShardSet&) = delete;
    ShardSet& operator=(const ShardSet&) = delete;

    const Manifest& manifest() const;
    std::int64_t size() const;
    std::vector<std::string> ids();      // reads them from every shard once
    std::vector<std::int64_t> pixels();  // width * height of each; likewise from the tables alone
    Record read(std::int64_t index,
                bool check_crc = false);  // DataError names shard, record and reason
    // The same into memory that is used again.
    void read(std::int64_t index, bool check_crc, Record& record);
    // Checks the checksum of every shard file against the manifest; DataError names the first that
    // differs.
    void verify_files(const std::vector<std::int64_t>& shards) const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace deeplab::data
