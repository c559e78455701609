#include "support_inference.h"

#include <algorithm>
#include <bit>
#include <ostream>
#include <string_view>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/io/image.h"
#include "deeplab/tools/support.h"
#include "deeplab/train/rank_agreement.h"
#include "deeplab/weights/weights.h"

namespace deeplab::tools {
namespace {

// Nobody should take the noise of a fresh network for a result.
weights::WeightsInfo info_of(const weights::WeightsFile& file) {
    const std::string name = file.path().string();
    if (!file.info()) {
        throw DataError(cat(name, " (", file.kind(),
                            ") does not say of which network it is (backbone, output stride, "
                            "classes, mean and std) — it cannot be run as it is — make a file that "
                            "does: deeplab-weights convert ",
                            name, " OUT.safetensors"));
    }
    if (!file.untrained().empty()) {
        throw DataError(
            cat(name, " was converted from a backbone: its ", file.untrained(),
                " hold initial values — its predictions would be noise — train it first: "
                "deeplab-train --init ",
                name));
    }
    return *file.info();
}

std::string npy_header(std::span<const std::int64_t> shape) {
    std::string extents;
    for (const std::int64_t extent : shape) extents += cat(extent, ", ");
    static_assert(std::endian::native == std::endian::little);
    std::string text = cat("{'descr': '<f4', 'fortran_order': False, 'shape': (", extents, "), }");
    constexpr std::size_t preamble = 10, alignment = 64;  // magic, version, length of the text
    text.append(alignment - (preamble + text.size() + 1) % alignment, ' ');
    text += '\n';
    std::string header = "\x93NUMPY";
    header += '\x01';
    header += '\0';
    header += static_cast<char>(text.size() & 0xff);
    header += static_cast<char>(text.size() >> 8);
    return header + text;
}

std::streamsize bytes_of(std::size_t count, std::size_t size) {
    return static_cast<std::streamsize>(count * size);
}

}  // namespace

Network load_network(const std::string& weights, std::int64_t output_stride,
                     const std::string& device, std::int64_t threads, comm::Communicator& world) {
    Network network;
    const weights::WeightsFile file(weights);
    network.file = file.path();
    network.info = info_of(file);
    if (output_stride != 0) network.info.model.output_stride = static_cast<int>(output_stride);
    network.backend = make_backend(
        {parse_device(device), thread_count(world, threads), false, "auto"}, world);
    // Parameters do not depend on the image's size.
    const model::ModelConfig& model = network.info.model;
    const std::int64_t side = model::padded_size(model, 1);
    const graph::Plan plan = model::inference_plan(model, 1, side, side);
    network.backend->allocate(plan);
    const weights::Snapshot snapshot = weights::import_weights(file, plan, {}).snapshot;
    train::require_same_values(world, weights::state_hash(snapshot), "the weights");
    weights::apply_snapshot(*network.backend, plan, snapshot, false);
    return network;
}

MaskEncoder::MaskEncoder(const data::ClassTable& classes, bool original, const std::string& whose)
    : palette_(classes.palette()) {
    if (!original) return;
    for (const data::ClassInfo& info : classes.classes) {
        if (info.labels.empty()) continue;
        labels_.push_back(static_cast<std::uint16_t>(info.labels.front()));
        if (labels_.back() > 255) bits_ = 16;
    }
    expects(labels_.empty() || labels_.size() == classes.classes.size(),
            "labels of all classes or of none");
    if (labels_.empty())
        log::info(cat("--ids original: ", whose,
                      " has no other labels than the classes' numbers (shards that an older "
                      "deeplab-pack wrote do not keep them)"));
}

std::vector<std::uint8_t> MaskEncoder::operator()(const io::Mask& mask) const {
    if (labels_.empty()) return io::encode_palette_png(mask, palette_);
    io::WideMask out{mask.width, mask.height, std::vector<std::uint16_t>(mask.labels.size())};
    std::transform(mask.labels.begin(), mask.labels.end(), out.labels.begin(),
                   [&](std::uint8_t label) { return labels_.at(label); });
    return io::encode_gray_png(out, bits_);
}

void write_npy(const std::filesystem::path& path, std::span<const float> values,
               std::span<const std::int64_t> shape) {
    std::int64_t elements = 1;
    for (const std::int64_t extent : shape) elements *= extent;
    expects(elements == static_cast<std::int64_t>(values.size()), "the shape fits the values");
    deeplab::write_atomically(path, [&](std::ostream& out) {
        const std::string header = npy_header(shape);
        out.write(header.data(), bytes_of(header.size(), 1));
        out.write(reinterpret_cast<const char*>(values.data()),
                  bytes_of(values.size(), sizeof(float)));
    });
}

void refuse_existing(const std::filesystem::path& path) {
    std::error_code ignored;
    if (!std::filesystem::exists(std::filesystem::symlink_status(path, ignored))) return;
    throw UsageError(cat(path.string(),
                         " exists — it would be replaced by a result — give another folder, or "
                         "--force to replace it"));
}

void write_atomically(const std::filesystem::path& path, std::span<const std::uint8_t> bytes) {
    deeplab::write_atomically(
        path, std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

}  // namespace deeplab::tools
