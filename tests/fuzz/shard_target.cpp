// A shard: a valid one of a few records, and what the input changes in it and in its manifest.

#include "deeplab/base/error.h"
#include "deeplab/data/loader.h"
#include "deeplab/data/shard.h"
#include "fuzz/hdf5_edits.h"
#include "fuzz/target.h"

namespace deeplab::fuzz {
namespace {

using data::Encoding;

constexpr const char* kSplit = "s";
const std::string kNames[] = {"image_offsets", "mask_offsets",   "sizes",   "crc32",
                              "ids",           "images",         "masks",   "records",
                              "format",        "format_version", "images/", "/"};

template <class Read>
void attempt(const Read& read) {
    try {
        read();
    } catch (const Error&) {
    }
}

data::Record free_record(FuzzedDataProvider& input, Encoding encoding, int number) {
    data::Record record;
    record.width = input.ConsumeIntegralInRange(1, 9);
    record.height = input.ConsumeIntegralInRange(1, 9);
    const auto pixels = static_cast<std::size_t>(record.width * record.height);
    const io::Image image{record.width, record.height,
                          Bytes(3 * pixels, input.ConsumeIntegral<std::uint8_t>())};
    const io::Mask mask{record.width, record.height,
                        Bytes(pixels, input.ConsumeIntegralInRange<std::uint8_t>(0, 20))};
    const bool jpeg = input.ConsumeBool();
    record.image = encoding == Encoding::raw ? image.pixels
                   : jpeg                    ? io::encode_jpeg(image, 90)
                                             : io::encode_png(image);
    record.mask = encoding == Encoding::raw
                      ? mask.labels
                      : io::encode_palette_png(mask, data::voc_classes().palette());
    record.id = std::to_string(number);
    switch (input.ConsumeIntegralInRange(0, 7)) {  // and sometimes something else
        case 4: record.id = free_text(input, 40); break;
        case 5: record.width = input.ConsumeIntegral<std::int64_t>(); break;
        case 6: record.image = input.ConsumeBytes<std::uint8_t>(64); break;
        case 7: record.mask = input.ConsumeBytes<std::uint8_t>(64); break;
        default: break;
    }
    if (record.image.empty()) record.image = {0};
    if (record.mask.empty()) record.mask = {0};
    return record;
}

data::Manifest describe(FuzzedDataProvider& input, Encoding encoding, data::ShardInfo info) {
    const auto path = scratch() / info.file;
    info.bytes = static_cast<std::int64_t>(std::filesystem::file_size(path));
    switch (input.ConsumeIntegralInRange(0, 7)) {
        case 6: info.records = input.ConsumeIntegralInRange<std::int64_t>(0, 5); break;
        case 7: info.records = input.ConsumeIntegralInRange<std::int64_t>(0, INT64_MAX / 4); break;
        default: break;
    }
    data::Manifest manifest;
    manifest.split = kSplit;
    manifest.encoding = encoding;
    manifest.classes = data::voc_classes();
    manifest.class_pixels = manifest.class_images = std::vector<std::int64_t>(21);
    manifest.records = info.records;
    manifest.shards = {info};
    return manifest;
}

// As training does with a record.
void use(data::ShardSet& set, std::int64_t index, bool check_crc) {
    const data::Record record = set.read(index, check_crc);
    const data::LabelledImage decoded = data::decode(record, set.manifest().encoding, "fuzz");
    data::Augmentation augmentation;
    augmentation.crop = 33;
    const auto sample = data::augment(decoded.image, decoded.mask, augmentation, {}, 255, 1,
                                      {0, static_cast<std::uint32_t>(index)});
    require(sample.labels.size() == 33 * 33, "a crop");
}

}  // namespace

void consume(std::span<const std::uint8_t> bytes) {
    FuzzedDataProvider input(bytes.data(), bytes.size());
    const auto encoding = input.ConsumeBool() ? Encoding::raw : Encoding::source;
    const auto path = scratch() / data::shard_name(kSplit, 0, 1);
    std::vector<data::Record> records;
    for (int i = input.ConsumeIntegralInRange(1, 3); i > 0; --i)
        records.push_back(free_record(input, encoding, i));
    const data::ShardInfo info = data::write_shard(path, records);
    apply_edits(input, path, kNames);
    data::save_manifest(scratch(), describe(input, encoding, info));

    data::ShardSet set(scratch(), kSplit);
    if (input.ConsumeBool()) attempt([&] { set.verify_files({0}); });
    attempt([&] { set.ids(); });
    for (std::int64_t i = 0; i < std::min<std::int64_t>(set.size(), 4); ++i) {
        attempt([&] { use(set, i, true); });
        attempt([&] { use(set, i, false); });
    }
    if (set.size() > 0) attempt([&] { set.read(set.size() - 1); });
}

std::vector<Bytes> seeds() { return random_seeds(64); }

std::vector<std::string> dictionary() { return {}; }

}  // namespace deeplab::fuzz
