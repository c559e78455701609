#pragma once
// A VOC folder of small generated pictures, to be packed or damaged.

#include <filesystem>
#include <string>
#include <vector>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/data/shard.h"
#include "deeplab/io/image.h"
#include "io/exif.h"

namespace deeplab::testing {

inline void put(const std::filesystem::path& path, const std::vector<std::uint8_t>& bytes) {
    write_atomically(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

// A grayscale PNG of the labels, as other distributions of SegmentationClassAug have them, with 8
// or 16 bits, without the library's encoder. The pixels stand in one stored deflate block.
std::vector<std::uint8_t> encode_gray_png(const io::Mask& mask, std::uint8_t bits = 8);

// The JPEG with an EXIF tag that asks for a turn by 90 degrees.
inline std::vector<std::uint8_t> turned_by_exif(const std::vector<std::uint8_t>& jpeg) {
    return with_exif(jpeg, orientation_tiff(6, true));
}

// Header and start of scan of a JPEG of 8x8 pixels with four components.
inline std::vector<std::uint8_t> cmyk_jpeg() {
    return {0xFF, 0xD8, 0xFF, 0xC0, 0,    20, 8, 0,    8,  0,    8,    4,    1,   0x11, 0,
            2,    0x11, 0,    3,    0x11, 0,  4, 0x11, 0,  0xFF, 0xDA, 0,    14,  4,    1,
            0,    2,    0,    3,    0,    4,  0, 0,    63, 0,    0,    0xFF, 0xD9};
}

inline io::Mask test_mask(std::int64_t width, std::int64_t height, int seed) {
    io::Mask mask{width, height,
                  std::vector<std::uint8_t>(static_cast<std::size_t>(width * height))};
    for (std::int64_t y = 0; y < height; ++y)
        for (std::int64_t x = 0; x < width; ++x)
            mask.labels[static_cast<std::size_t>(
                y * width + x)] = x == width / 2 ? 255
                                                 : static_cast<std::uint8_t>(
                                                       x < width / 2 ? 0 : (seed * 3 + y / 8) % 21);
    return mask;
}

inline io::Image test_image(std::int64_t width, std::int64_t height, int seed) {
    io::Image image{width, height,
                    std::vector<std::uint8_t>(static_cast<std::size_t>(width * height * 3))};
    for (std::size_t i = 0; i < image.pixels.size(); ++i)
        image.pixels[i] = static_cast<std::uint8_t>(
            (i * 7 + static_cast<std::size_t>(seed) * 31 + i / 50) % 251);
    return image;
}

// ids in the given order; sizes differ from picture to picture.
struct VocFolder {
    explicit VocFolder(const std::filesystem::path& parent)
        : root(parent / "VOCdevkit" / "VOC2012") {
        for (const char* dir :
             {"JPEGImages", "SegmentationClass", "SegmentationClassAug", "ImageSets/Segmentation"})
            std::filesystem::create_directories(root / dir);
    }

    void add(const std::string& id, int seed) {
        const std::int64_t width = 24 + seed % 5, height = 20 + seed % 7;
        put(image(id), io::encode_jpeg(test_image(width, height, seed), 90));
        const auto palette = data::voc_classes().palette();
        put(mask(id), io::encode_palette_png(test_mask(width, height, seed), palette));
    }
    void list(const std::string& name, const std::vector<std::string>& ids) const {
        std::string text;
        for (const std::string& id : ids) text += id + "\n";
        write_atomically(root / "ImageSets" / "Segmentation" / (name + ".txt"), text);
    }
    // A list "val" of n pictures whose order is not alphabetical.
    std::vector<std::string> fill(int n) {
        std::vector<std::string> ids;
        for (int i = 0; i < n; ++i) {
            ids.push_back(cat("p", (i * 7 + 3) % n, "_", i));
            add(ids.back(), i);
        }
        list("val", ids);
        return ids;
    }
    std::filesystem::path image(const std::string& id) const {
        return root / "JPEGImages" / (id + ".jpg");
    }
    std::filesystem::path mask(const std::string& id) const {
        return root / "SegmentationClassAug" / (id + ".png");
    }

    std::filesystem::path root;
};

inline std::vector<std::uint8_t> encode_gray_png(const io::Mask& mask, std::uint8_t bits) {
    std::vector<std::uint8_t> out = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
    const auto big = [](std::vector<std::uint8_t>& to, std::uint32_t v) {
        for (int shift = 24; shift >= 0; shift -= 8)
            to.push_back(static_cast<std::uint8_t>(v >> shift));
    };
    const auto chunk = [&](const char* type, const std::vector<std::uint8_t>& body) {
        big(out, static_cast<std::uint32_t>(body.size()));
        std::vector<std::uint8_t> named(type, type + 4);
        named.insert(named.end(), body.begin(), body.end());
        out.insert(out.end(), named.begin(), named.end());
        big(out, crc32(named));
    };
    std::vector<std::uint8_t> header;
    big(header, static_cast<std::uint32_t>(mask.width));
    big(header, static_cast<std::uint32_t>(mask.height));
    header.insert(header.end(), {bits, 0, 0, 0, 0});  // gray, no interlace
    chunk("IHDR", header);
    std::vector<std::uint8_t> rows;  // each with filter type 0
    for (std::int64_t y = 0; y < mask.height; ++y) {
        rows.push_back(0);
        for (std::int64_t x = 0; x < mask.width; ++x) {
            if (bits == 16) rows.push_back(0);
            rows.push_back(mask.labels[static_cast<std::size_t>(y * mask.width + x)]);
        }
    }
    std::uint32_t a = 1, b = 0;  // Adler-32
    for (const std::uint8_t v : rows) {
        a = (a + v) % 65521;
        b = (b + a) % 65521;
    }
    const auto size = static_cast<std::uint16_t>(
        rows.size());  // one stored block: small masks only
    std::vector<std::uint8_t> data = {0x78,
                                      0x01,
                                      0x01,
                                      static_cast<std::uint8_t>(size & 255),
                                      static_cast<std::uint8_t>(size >> 8),
                                      static_cast<std::uint8_t>(~size & 255),
                                      static_cast<std::uint8_t>(~size >> 8 & 255)};
    data.insert(data.end(), rows.begin(), rows.end());
    big(data, b << 16 | a);
    chunk("IDAT", data);
    chunk("IEND", {});
    return out;
}

}  // namespace deeplab::testing
