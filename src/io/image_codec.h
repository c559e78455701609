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

// Throws DataError when the TIFF structure of an EXIF block asks for a turned or mirrored display.
// A block that cannot be parsed says nothing about orientation and is ignored, as viewers do.
void check_upright(std::span<const std::uint8_t> tiff, const std::string& what);

[[noreturn]] void throw_damaged(const char* format, const std::string& reason,
                                const std::string& what);
// Of a header that claims more pixels than the bytes behind it can hold.
[[noreturn]] void throw_too_short(const char* format, std::int64_t width, std::int64_t height,
                                  std::size_t bytes, const std::string& what);
[[noreturn]] void throw_unsupported(const std::string& feature, const std::string& what,
                                    const char* advice);

ImageInfo read_jpeg_info(std::span<const std::uint8_t> bytes, const std::string& what);
void decode_jpeg(std::span<const std::uint8_t> bytes, const std::string& what, Image& image);
ImageInfo read_png_info(std::span<const std::uint8_t> bytes, const std::string& what);
void decode_png_image(std::span<const std::uint8_t> bytes, const std::string& what, Image& image);
void decode_png_mask(std::span<const std::uint8_t> bytes, const std::string& what, Mask& mask);

}  // namespace deeplab::io
