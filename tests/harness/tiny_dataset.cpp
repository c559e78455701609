#include "harness/tiny_dataset.h"

#include <array>
#include <cmath>

#include "deeplab/base/text.h"
#include "deeplab/data/shard.h"
#include "deeplab/math/philox.h"

namespace deeplab::testing {
namespace {

constexpr std::uint8_t ignore = 255;

// Quadrant-like regions around a centre that moves from image to image, a void line between them.
void paint(io::Image& image, io::Mask& mask, int classes, std::uint64_t seed, std::uint32_t index) {
    const math::Philox4 where = math::philox(seed, {{index, 0, 0, 1}});
    const auto cx = static_cast<double>(image.width) * (0.3 + 0.4 * math::uniform(where.v[0]));
    const auto cy = static_cast<double>(image.height) * (0.3 + 0.4 * math::uniform(where.v[1]));
    for (std::int64_t y = 0; y < image.height; ++y) {
        for (std::int64_t x = 0; x < image.width; ++x) {
            const double angle = std::atan2(static_cast<double>(y) - cy,
                                            static_cast<double>(x) - cx) /
                                     6.2832 +
                                 0.5;
            const double sector = angle * classes;
            const int label = std::min(classes - 1, static_cast<int>(sector));
            const auto at = static_cast<std::size_t>(y * image.width + x);
            mask.labels[at] = sector - std::floor(sector) < 0.03 ? ignore
                                                                 : static_cast<std::uint8_t>(label);
            const math::Philox4 noise = math::philox(
                seed, {{static_cast<std::uint32_t>(at), index, 0, 2}});
            for (std::size_t c = 0; c < 3; ++c) {
                const double base = 60 + 130 * ((label >> c) & 1);
                image.pixels[at * 3 + c] = static_cast<std::uint8_t>(
                    base + 60 * math::uniform(noise.v[c]));
            }
        }
    }
}

}  // namespace

void write_tiny_dataset(const std::filesystem::path& dir, const TinyDataset& options) {
    data::Manifest manifest;
    manifest.split = options.split;
    manifest.classes.ignore = ignore;
    const auto classes = static_cast<std::size_t>(options.classes);
    for (int c = 0; c < options.classes; ++c) {
        const auto level = [&](int bit) {
            return static_cast<std::uint8_t>(((c >> bit) & 1) * 200);
        };
        manifest.classes.classes.push_back({cat("class", c), {level(0), level(1), level(2)}});
    }
    manifest.class_pixels.assign(classes, 0);
    manifest.class_images.assign(classes, 0);
    manifest.records = options.images;

    std::vector<std::vector<data::Record>> shards(static_cast<std::size_t>(options.shards));
    std::string list;
    for (int i = 0; i < options.images; ++i) {
        io::Image image{
            .width = options.width + i % 7, .height = options.height + i % 5, .pixels = {}};
        const auto pixels = static_cast<std::size_t>(image.width * image.height);
        image.pixels.resize(pixels * 3);
        io::Mask mask{.width = image.width,
                      .height = image.height,
                      .labels = std::vector<std::uint8_t>(pixels)};
        paint(image, mask, options.classes, options.seed, static_cast<std::uint32_t>(i));
        std::vector<bool> seen(classes, false);
        for (const std::uint8_t label : mask.labels) {
            if (label == ignore) {
                ++manifest.ignore_pixels;
            } else {
                ++manifest.class_pixels[label];
                seen[label] = true;
            }
        }
        for (std::size_t c = 0; c < classes; ++c) manifest.class_images[c] += seen[c];
        data::Record record{.id = cat(options.split, "_", i),
                            .width = image.width,
                            .height = image.height,
                            .image = {},
                            .mask = {}};
        record.image = io::encode_jpeg(image, 95);
        record.mask = io::encode_palette_png(mask, manifest.classes.palette());
        list += record.id + '\n';
        shards[static_cast<std::size_t>(i * options.shards / options.images)].push_back(
            std::move(record));
    }
    manifest.list_hash = fnv1a(list.data(), list.size());
    std::filesystem::create_directories(dir);
    for (int s = 0; s < options.shards; ++s) {
        manifest.shards.push_back(
            data::write_shard(dir / data::shard_name(options.split, s, options.shards),
                              shards[static_cast<std::size_t>(s)]));
    }
    data::save_manifest(dir, manifest);
}

}  // namespace deeplab::testing
