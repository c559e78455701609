#pragma once
// JPEG and PNG, told apart by content. Sizes are checked before anything is allocated.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace deeplab::io {

struct Rgb {
    std::uint8_t r = 0, g = 0, b = 0;
    bool operator==(const Rgb&) const = default;
};

// Interleaved 8-bit RGB, row by row: pixels[(y*width + x)*3 + channel].
struct Image {
    std::int64_t width = 0, height = 0;
    std::vector<std::uint8_t> pixels;
};

// One byte a pixel, row by row: class ids, or the ignore value.
struct Mask {
    std::int64_t width = 0, height = 0;
    std::vector<std::uint8_t> labels;
};

// The same with two bytes a pixel: labels as a data set numbers them, before they are classes.
struct WideMask {
    std::int64_t width = 0, height = 0;
    std::vector<std::uint16_t> labels;
};

enum class ImageFormat { jpeg, png, unknown };
ImageFormat format_of(std::span<const std::uint8_t> bytes);

struct ImageInfo {
    ImageFormat format = ImageFormat::unknown;
    std::int64_t width = 0, height = 0;
    int channels = 0, bit_depth = 0;
    bool palette = false;
};

// `what` names the bytes (a file, or record and shard) in the DataError that each of these throws
// for damaged, truncated or unsupported input (CMYK, 16 bit, EXIF rotation other than upright).
ImageInfo read_info(std::span<const std::uint8_t> bytes, const std::string& what);
Image decode_image(std::span<const std::uint8_t> bytes,
                   const std::string& what);  // grayscale becomes RGB
// 8-bit palette or grayscale PNG: the index or the gray value is the label. An RGB PNG is a
// DataError here.
Mask decode_mask(std::span<const std::uint8_t> bytes, const std::string& what);
// As read_info and decode_mask, but a gray PNG may have 16 bits as well: its value is the label.
ImageInfo read_mask_info(std::span<const std::uint8_t> bytes, const std::string& what);
WideMask decode_wide_mask(std::span<const std::uint8_t> bytes, const std::string& what);
// The colours of a palette PNG's indices; empty for other pictures. DataError for 16 bits.
std::vector<Rgb> read_palette(std::span<const std::uint8_t> bytes, const std::string& what);
// As viewers show it: a picture whose EXIF orientation (1 to 8) is another than 1 is turned and
// mirrored accordingly. `orientation` takes what it was.
Image decode_image_upright(std::span<const std::uint8_t> bytes, const std::string& what,
                           int* orientation = nullptr);
// The same into memory that is used again: fresh memory costs a page fault every 4 KiB, together as
// much as a fifth of the decoding. After an exception the content is unspecified.
void decode_image(std::span<const std::uint8_t> bytes, const std::string& what, Image& image);
void decode_mask(std::span<const std::uint8_t> bytes, const std::string& what, Mask& mask);

std::vector<std::uint8_t> encode_jpeg(const Image& image, int quality);
std::vector<std::uint8_t> encode_png(const Image& image);
std::vector<std::uint8_t> encode_palette_png(const Mask& mask,
                                             std::span<const Rgb> palette);  // up to 256 entries
// A gray PNG of 8 or 16 bits, into which every label must fit.
std::vector<std::uint8_t> encode_gray_png(const WideMask& mask, int bits);

}  // namespace deeplab::io
