#pragma once
// What the JPEG and the PNG code share; private to this folder.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "deeplab/io/image.h"

namespace deeplab::io {

// Throws DataError for an empty image or one beyond the limits: call it before allocating pixels.
void check_size(std::int64_t width, std::int64_t height, const std::string& what);

// What the TIFF structure of an EXIF block asks for, 1 (upright) to 8. A block that cannot be
// parsed, or asks for something undefined, says nothing about orientation, as for viewers. Where
// pixels are wanted as they are stored, `orientation` is null, and a picture to be turned or
// mirrored is a DataError.
void take_orientation(std::span<const std::uint8_t> tiff, const std::string& what,
                      int* orientation);

[[noreturn]] void throw_damaged(const char* format, const std::string& reason,
                                const std::string& what);
// Of a header that claims more pixels than the bytes behind it can hold.
[[noreturn]] void throw_too_short(const char* format, std::int64_t width, std::int64_t height,
                                  std::size_t bytes, const std::string& what);
[[noreturn]] void throw_unsupported(const std::string& feature, const std::string& what,
                                    const char* advice);

ImageInfo read_jpeg_info(std::span<const std::uint8_t> bytes, const std::string& what);
void decode_jpeg(std::span<const std::uint8_t> bytes, const std::string& what, Image& image,
                 int* orientation);
ImageInfo read_png_info(std::span<const std::uint8_t> bytes, const std::string& what);
void decode_png_image(std::span<const std::uint8_t> bytes, const std::string& what, Image& image,
                      int* orientation);
void decode_png_mask(std::span<const std::uint8_t> bytes, const std::string& what, Mask& mask);
// A gray PNG may have 16 bits here.
ImageInfo read_png_mask_info(std::span<const std::uint8_t> bytes, const std::string& what);
// One of 16 bits.
void decode_png_wide_mask(std::span<const std::uint8_t> bytes, const std::string& what,
                          WideMask& mask);
std::vector<Rgb> read_png_palette(std::span<const std::uint8_t> bytes, const std::string& what);

}  // namespace deeplab::io
