#pragma once
// JPEG and PNG files as our encoders do not make them.

#include <cstdio>
#include <cstdlib>
#include <vector>

#include <jpeglib.h>
#include <png.h>

#include "deeplab/base/files.h"

namespace deeplab::testing {

using Bytes = std::vector<std::uint8_t>;

struct JpegSpec {
    int side = 16;
    bool arithmetic = false, progressive = false;
};

// A JPEG of one value with `channels` of `space`.
inline Bytes jpeg_of_space(int channels, J_COLOR_SPACE in, J_COLOR_SPACE stored,
                           const JpegSpec& spec = {}) {
    const auto side = static_cast<JDIMENSION>(spec.side);
    jpeg_compress_struct info{};
    jpeg_error_mgr errors{};
    info.err = jpeg_std_error(&errors);
    jpeg_create_compress(&info);
    unsigned char* bytes = nullptr;
    unsigned long size = 0;
    jpeg_mem_dest(&info, &bytes, &size);
    info.image_width = info.image_height = side;
    info.input_components = channels;
    info.in_color_space = in;
    jpeg_set_defaults(&info);
    jpeg_set_colorspace(&info, stored);
    info.arith_code = spec.arithmetic ? TRUE : FALSE;
    info.optimize_coding = spec.arithmetic ? FALSE : TRUE;
    if (spec.progressive) jpeg_simple_progression(&info);
    jpeg_start_compress(&info, TRUE);
    Bytes row(side * static_cast<std::size_t>(channels), 77);
    JSAMPROW rows[1] = {row.data()};
    while (info.next_scanline < side) jpeg_write_scanlines(&info, rows, 1);
    jpeg_finish_compress(&info);
    const Bytes made(bytes, bytes + size);
    jpeg_destroy_compress(&info);
    std::free(bytes);
    return made;
}

// A PNG of packed rows as they stand in the file.
struct PngSpec {
    int width = 0, bits = 8, type = PNG_COLOR_TYPE_GRAY;
    std::vector<Bytes> rows;
    int interlace = PNG_INTERLACE_NONE;
    bool transparent = false;
    Bytes exif;
};

inline Bytes make_png(const PngSpec& spec) {
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
    png_infop info = png_create_info_struct(png);
    Bytes bytes;
    png_set_write_fn(
        png, &bytes,
        [](png_structp writer, png_bytep data, std::size_t count) {
            auto* target = static_cast<Bytes*>(png_get_io_ptr(writer));
            target->insert(target->end(), data, data + count);
        },
        nullptr);
    png_set_IHDR(png, info, static_cast<png_uint_32>(spec.width),
                 static_cast<png_uint_32>(spec.rows.size()), spec.bits, spec.type, spec.interlace,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (spec.type == PNG_COLOR_TYPE_PALETTE) {
        png_color colors[256];
        for (int i = 0; i < 256; ++i) {
            colors[i] = {static_cast<png_byte>(i), static_cast<png_byte>(255 - i),
                         static_cast<png_byte>(i / 2)};
        }
        png_set_PLTE(png, info, colors, 1 << spec.bits);
    }
    png_byte alpha = 0;
    if (spec.transparent) png_set_tRNS(png, info, &alpha, 1, nullptr);
    Bytes exif = spec.exif;
    if (!exif.empty())
        png_set_eXIf_1(png, info, static_cast<png_uint_32>(exif.size()), exif.data());
    png_write_info(png, info);
    std::vector<png_bytep> rows;
    std::vector<Bytes> copy = spec.rows;
    for (Bytes& row : copy) rows.push_back(row.data());
    png_write_image(png, rows.data());
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    return bytes;
}

// After a change of the header.
inline void repair_crc(Bytes& png) {
    const std::uint32_t crc = crc32({png.data() + 12, 17});
    for (std::size_t i = 0; i < 4; ++i)
        png[29 + i] = static_cast<std::uint8_t>(crc >> (24 - 8 * i));
}

}  // namespace deeplab::testing
