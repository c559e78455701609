#include "support_saved_logits.h"

#include <algorithm>
#include <bit>
#include <system_error>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "support_inference.h"

namespace deeplab::tools {
namespace {

constexpr const char* manifest_name = "logits.json";

io::Value crc_of(std::span<const std::uint8_t> bytes) {
    return static_cast<std::int64_t>(crc32(bytes));
}

io::Value crc_of(std::span<const float> values) {
    static_assert(std::endian::native == std::endian::little);
    return crc_of({reinterpret_cast<const std::uint8_t*>(values.data()), values.size_bytes()});
}

io::Array floats(std::span<const float> values) {
    io::Array out;
    for (const float v : values) out.emplace_back(static_cast<double>(v));
    return out;
}

std::int64_t index_of(const io::Value& image) {
    return *image.get_if<io::Object>()->find("index")->get_if<std::int64_t>();
}

}  // namespace

void SavedLogits::clear(const std::filesystem::path& dir) {
    std::error_code error;
    std::filesystem::remove(dir / manifest_name, error);
    if (error) {
        throw UsageError(cat("cannot remove ", (dir / manifest_name).string(), " (",
                             error.message(),
                             ") — it would describe files that this evaluation replaces — "
                             "give another --save-logits"));
    }
}

void SavedLogits::add(const evaluate::Pass& pass) {
    io::Object entry;
    entry["file"] = "";  // named when the image's index is known
    entry["scale"] = pass.scale;
    entry["flip"] = pass.flipped;
    entry["width"] = pass.image.width;
    entry["height"] = pass.image.height;
    entry["image_crc32"] = crc_of(std::span<const std::uint8_t>(pass.image.pixels));
    entry["padded_width"] = pass.padded_width;
    entry["padded_height"] = pass.padded_height;
    entry["input_crc32"] = crc_of(pass.input);
    passes_.push_back({std::move(entry),
                       {pass.logits.begin(), pass.logits.end()},
                       {pass.classes, pass.height, pass.width}});
}

void SavedLogits::finish_image(std::int64_t index, const data::Record& record,
                               const io::Image& image, const io::Mask& truth) {
    io::Array passes;
    for (Pass& pass : passes_) {
        const std::string file = cat(right_aligned(cat(index), 6, '0'), "-", passes.size(), ".npy");
        write_npy(dir_ / file, pass.logits, pass.shape);
        pass.entry["file"] = file;
        passes.emplace_back(std::move(pass.entry));
    }
    passes_.clear();
    io::Object entry;
    entry["index"] = index;
    entry["id"] = record.id;
    entry["width"] = image.width;
    entry["height"] = image.height;
    entry["image_crc32"] = crc_of(std::span<const std::uint8_t>(image.pixels));
    entry["truth_crc32"] = crc_of(std::span<const std::uint8_t>(truth.labels));
    entry["passes"] = std::move(passes);
    images_.emplace_back(std::move(entry));
}

void SavedLogits::write_manifest(comm::Communicator& world, const weights::WeightsInfo& network,
                                 io::Object description) {
    const auto parts = world.all_gather(io::to_json(images_), "list of saved logits");
    if (world.rank() != 0) return;
    io::Array images;
    for (const std::string& part : parts) {
        io::Value list = io::parse_json(part, "list of saved logits");
        for (io::Value& image : *list.get_if<io::Array>()) images.push_back(std::move(image));
    }
    std::sort(images.begin(), images.end(),
              [](const io::Value& a, const io::Value& b) { return index_of(a) < index_of(b); });
    description["classes"] = static_cast<std::int64_t>(network.classes.classes.size());
    description["mean"] = floats(network.model.mean);
    description["std"] = floats(network.model.std);
    if (!network.model.align_corners) description["align_corners"] = false;
    description["records"] = std::move(images);
    deeplab::write_atomically(dir_ / manifest_name, io::to_json(description, 1) + "\n");
}

}  // namespace deeplab::tools
