// JPEG and PNG: what comes back, and what is refused. The files are made here.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <jpeglib.h>
#include <png.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/io/image.h"

namespace deeplab::io {
namespace {

using Bytes = std::vector<std::uint8_t>;
using ::testing::HasSubstr;

// Smooth in all channels, so that JPEG keeps it closely.
Image gradient(std::int64_t width, std::int64_t height) {
    Image image{width, height, {}};
    for (std::int64_t y = 0; y < height; ++y) {
        for (std::int64_t x = 0; x < width; ++x) {
            image.pixels.push_back(static_cast<std::uint8_t>(x * 255 / width));
            image.pixels.push_back(static_cast<std::uint8_t>(y * 255 / height));
            image.pixels.push_back(
                static_cast<std::uint8_t>((x + y) * 127 / (width + height) + 64));
        }
    }
    return image;
}

template <class Call>
std::string data_error(Call call) {
    try {
        call();
    } catch (const DataError& error) {
        return error.what();
    }
    ADD_FAILURE() << "no DataError";
    return "";
}

struct JpegSpec {
    int side = 16;
    bool arithmetic = false, progressive = false;
};

// A JPEG of one value with `channels` of `space`.
Bytes jpeg_of_space(int channels, J_COLOR_SPACE in, J_COLOR_SPACE stored,
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

Bytes make_png(const PngSpec& spec) {
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
void repair_crc(Bytes& png) {
    const std::uint32_t crc = crc32({png.data() + 12, 17});
    for (std::size_t i = 0; i < 4; ++i)
        png[29 + i] = static_cast<std::uint8_t>(crc >> (24 - 8 * i));
}

// A TIFF structure with one directory of one entry: the orientation.
Bytes orientation_tiff(int orientation, bool big) {
    if (big) {
        return {'M',  'M',  0, 42, 0, 0, 0, 8, 0, 1,
                0x01, 0x12, 0, 3,  0, 0, 0, 1, 0, static_cast<std::uint8_t>(orientation),
                0,    0,    0, 0,  0, 0};
    }
    return {'I',
            'I',
            42,
            0,
            8,
            0,
            0,
            0,
            1,
            0,
            0x12,
            0x01,
            3,
            0,
            1,
            0,
            0,
            0,
            static_cast<std::uint8_t>(orientation),
            0,
            0,
            0,
            0,
            0,
            0,
            0};
}

Bytes with_exif(const Bytes& jpeg, const Bytes& tiff) {
    Bytes out(jpeg.begin(), jpeg.begin() + 2);
    const std::size_t length = 2 + 6 + tiff.size();
    for (const std::size_t byte :
         {std::size_t{0xFF}, std::size_t{0xE1}, length >> 8, length & 0xFF}) {
        out.push_back(static_cast<std::uint8_t>(byte));
    }
    for (const char c : {'E', 'x', 'i', 'f', '\0', '\0'})
        out.push_back(static_cast<std::uint8_t>(c));
    out.insert(out.end(), tiff.begin(), tiff.end());
    out.insert(out.end(), jpeg.begin() + 2, jpeg.end());
    return out;
}

TEST(Jpeg, RoundTripIsClose) {
    const Image image = gradient(61, 47);  // not a multiple of the block size
    const Bytes bytes = encode_jpeg(image, 95);
    EXPECT_EQ(format_of(bytes), ImageFormat::jpeg);
    const ImageInfo info = read_info(bytes, "test");
    EXPECT_EQ(info.width, 61);
    EXPECT_EQ(info.height, 47);
    EXPECT_EQ(info.channels, 3);
    EXPECT_EQ(info.bit_depth, 8);
    const Image back = decode_image(bytes, "test");
    ASSERT_EQ(back.pixels.size(), image.pixels.size());
    for (std::size_t i = 0; i < image.pixels.size(); ++i) {
        ASSERT_NEAR(back.pixels[i], image.pixels[i], 12) << "byte " << i;
    }
    EXPECT_LT(encode_jpeg(image, 20).size(), bytes.size());
}

TEST(Jpeg, GrayBecomesRgb) {
    const Bytes bytes = jpeg_of_space(1, JCS_GRAYSCALE, JCS_GRAYSCALE);
    EXPECT_EQ(read_info(bytes, "test").channels, 1);
    EXPECT_EQ(decode_image(bytes, "test").pixels, Bytes(16 * 16 * 3, 77));
}

TEST(Jpeg, CmykIsRefused) {
    for (const J_COLOR_SPACE stored : {JCS_CMYK, JCS_YCCK}) {
        const Bytes bytes = jpeg_of_space(4, JCS_CMYK, stored);
        EXPECT_THAT(data_error([&] { decode_image(bytes, "cmyk.jpg"); }),
                    HasSubstr("CMYK JPEG (cmyk.jpg)"));
        EXPECT_THAT(data_error([&] { read_info(bytes, "cmyk.jpg"); }), HasSubstr("CMYK"));
    }
}

TEST(Jpeg, TurnedByExifIsRefused) {
    const Bytes upright = encode_jpeg(gradient(20, 10), 90);
    for (const bool big : {false, true}) {
        for (int orientation = 2; orientation <= 8; ++orientation) {
            const Bytes turned = with_exif(upright, orientation_tiff(orientation, big));
            EXPECT_THAT(data_error([&] { decode_image(turned, "x"); }),
                        HasSubstr("EXIF orientation " + std::to_string(orientation)));
        }
        EXPECT_EQ(decode_image(with_exif(upright, orientation_tiff(1, big)), "x").width, 20);
    }
    // A damaged EXIF block says nothing, at whatever length it ends.
    const Bytes tiff = orientation_tiff(6, false);
    for (std::size_t length = 0; length < 22; ++length) {
        const Bytes cut(tiff.begin(), tiff.begin() + static_cast<std::ptrdiff_t>(length));
        EXPECT_EQ(decode_image(with_exif(upright, cut), "x").width, 20) << length;
    }
}

// The corners of a picture of 3 x 2 as a viewer shows it, by what the tag means: 2 mirrored, 3 half
// a turn, 4 upside down, 5 to 8 with rows and columns exchanged.
TEST(Image, UprightPicturesAreWhatViewersShow) {
    Image stored{3, 2, {}};
    for (std::uint8_t i = 0; i < 6; ++i) stored.pixels.insert(stored.pixels.end(), 3, i);
    // Rows of the picture as shown, from the PIL documentation of exif_transpose's operations.
    const std::vector<std::vector<std::uint8_t>> shown = {
        {0, 1, 2, 3, 4, 5}, {2, 1, 0, 5, 4, 3}, {5, 4, 3, 2, 1, 0}, {3, 4, 5, 0, 1, 2},
        {0, 3, 1, 4, 2, 5}, {3, 0, 4, 1, 5, 2}, {5, 2, 4, 1, 3, 0}, {2, 5, 1, 4, 0, 3}};
    const Bytes png = encode_png(stored);
    for (int orientation = 1; orientation <= 8; ++orientation) {
        Bytes chunk = orientation_tiff(orientation, true);
        const auto length = static_cast<std::uint8_t>(chunk.size());
        chunk.insert(chunk.begin(), {'e', 'X', 'I', 'f'});
        const std::uint32_t crc = crc32(chunk);
        chunk.insert(chunk.begin(), {0, 0, 0, length});
        for (int shift = 24; shift >= 0; shift -= 8)
            chunk.push_back(static_cast<std::uint8_t>(crc >> shift));
        Bytes turned = png;
        turned.insert(turned.begin() + 33, chunk.begin(), chunk.end());  // behind IHDR
        int found = 0;
        const Image image = decode_image_upright(turned, "x", &found);
        EXPECT_EQ(found, orientation);
        EXPECT_EQ(image.width, orientation < 5 ? 3 : 2);
        EXPECT_EQ(image.height, orientation < 5 ? 2 : 3);
        std::vector<std::uint8_t> red;
        for (std::size_t i = 0; i < image.pixels.size(); i += 3) red.push_back(image.pixels[i]);
        EXPECT_EQ(red, shown[static_cast<std::size_t>(orientation - 1)]) << orientation;
    }
    const Bytes jpeg = encode_jpeg(gradient(20, 10), 90);
    const Image turned = decode_image_upright(with_exif(jpeg, orientation_tiff(6, false)), "x");
    EXPECT_EQ(std::pair(turned.width, turned.height),
              (std::pair<std::int64_t, std::int64_t>(10, 20)));
    const Image straight = decode_image(jpeg, "x");
    EXPECT_EQ(decode_image_upright(jpeg, "x").pixels, straight.pixels);
    // A quarter to the right: the first row comes from the first column, read upwards.
    EXPECT_TRUE(std::equal(turned.pixels.begin(), turned.pixels.begin() + 3,
                           straight.pixels.begin() + 9 * 20 * 3));
}

TEST(Png, PaletteIsRead) {
    const std::vector<Rgb> palette = {{1, 2, 3}, {4, 5, 6}};
    EXPECT_EQ(read_palette(encode_palette_png({2, 1, {0, 1}}, palette), "x"), palette);
    EXPECT_TRUE(read_palette(encode_png(gradient(2, 2)), "x").empty());
    EXPECT_TRUE(read_palette(encode_jpeg(gradient(8, 8), 90), "x").empty());
}

TEST(Jpeg, MaskIsRefused) {
    EXPECT_THAT(data_error([] { decode_mask(encode_jpeg(gradient(8, 8), 90), "m"); }),
                HasSubstr("mask stored as JPEG"));
}

TEST(Png, RgbRoundTripIsExactAndReproducible) {
    const Image image = gradient(33, 21);
    const Bytes bytes = encode_png(image);
    EXPECT_EQ(format_of(bytes), ImageFormat::png);
    EXPECT_EQ(decode_image(bytes, "test").pixels, image.pixels);
    EXPECT_EQ(encode_png(image), bytes);
    EXPECT_THAT(data_error([&] { decode_mask(bytes, "rgb.png"); }),
                HasSubstr("colours instead of class ids (rgb.png)"));
}

TEST(Png, PaletteMaskRoundTrip) {
    Mask mask{16, 16, {}};
    for (int i = 0; i < 256; ++i) mask.labels.push_back(static_cast<std::uint8_t>(i));
    std::vector<Rgb> palette;
    for (int i = 0; i < 256; ++i)
        palette.push_back({static_cast<std::uint8_t>(i), 7, static_cast<std::uint8_t>(255 - i)});
    const Bytes bytes = encode_palette_png(mask, palette);
    const ImageInfo info = read_info(bytes, "test");
    EXPECT_TRUE(info.palette);
    EXPECT_EQ(info.bit_depth, 8);
    EXPECT_EQ(decode_mask(bytes, "test").labels, mask.labels);
    const Image shown = decode_image(bytes, "test");
    for (std::size_t i = 0; i < 256; ++i) {
        ASSERT_EQ((Rgb{shown.pixels[3 * i], shown.pixels[3 * i + 1], shown.pixels[3 * i + 2]}),
                  palette[i]);
    }
    // Few labels: still 8 bits a pixel, as VOC's own files. A label without a colour is the
    // caller's mistake.
    const Mask small{2, 1, {0, 1}};
    EXPECT_EQ(read_info(encode_palette_png(small, {palette.data(), 2}), "test").bit_depth, 8);
    EXPECT_THROW(encode_palette_png(small, {palette.data(), 1}), LogicError);
}

TEST(Png, PackedPaletteIndices) {
    const struct {
        int bits;
        Bytes row;
        Bytes labels;
    } cases[] = {{1, {0b10110010}, {1, 0, 1, 1, 0}},
                 {2, {0b11100100, 0b01000000}, {3, 2, 1, 0, 1}},
                 {4, {0xF0, 0x3A, 0x70}, {15, 0, 3, 10, 7}}};
    for (const auto& c : cases) {
        for (const int interlace : {PNG_INTERLACE_NONE, PNG_INTERLACE_ADAM7}) {
            const Bytes bytes = make_png(
                {5, c.bits, PNG_COLOR_TYPE_PALETTE, {c.row, c.row}, interlace, false, {}});
            const Mask mask = decode_mask(bytes, "test");
            Bytes expected = c.labels;
            expected.insert(expected.end(), c.labels.begin(), c.labels.end());
            EXPECT_EQ(mask.labels, expected) << c.bits << " bits";
            const Image image = decode_image(bytes, "test");
            EXPECT_EQ(image.pixels[0], c.labels[0]);
            EXPECT_EQ(image.pixels[1], 255 - c.labels[0]);
        }
    }
}

TEST(Png, Gray) {
    const Bytes gray = make_png({3, 8, PNG_COLOR_TYPE_GRAY, {{0, 20, 255}}, 0, false, {}});
    EXPECT_EQ(decode_mask(gray, "test").labels, (Bytes{0, 20, 255}));
    EXPECT_EQ(decode_image(gray, "test").pixels, (Bytes{0, 0, 0, 20, 20, 20, 255, 255, 255}));
    const Bytes packed = make_png({2, 4, PNG_COLOR_TYPE_GRAY, {{0x1F}}, 0, false, {}});
    EXPECT_EQ(decode_image(packed, "test").pixels, (Bytes{17, 17, 17, 255, 255, 255}));
    EXPECT_THAT(data_error([&] { decode_mask(packed, "g4"); }),
                HasSubstr("a gray mask of 4 bits (g4)"));
    const Bytes clear = make_png({2, 8, PNG_COLOR_TYPE_GRAY_ALPHA, {{1, 255, 2, 0}}, 0, false, {}});
    EXPECT_THAT(data_error([&] { decode_mask(clear, "ga"); }),
                HasSubstr("a gray mask with transparency (ga)"));
}

TEST(Png, UnsupportedIsRefused) {
    const Bytes deep = make_png({1, 16, PNG_COLOR_TYPE_GRAY, {{1, 2}}, 0, false, {}});
    EXPECT_THAT(data_error([&] { decode_mask(deep, "x"); }), HasSubstr("16 bits"));
    EXPECT_THAT(data_error([&] { decode_image(deep, "x"); }), HasSubstr("16 bits"));
    EXPECT_THAT(data_error([&] { read_info(deep, "x"); }), HasSubstr("16 bits"));
    const Bytes rgba = make_png({1, 8, PNG_COLOR_TYPE_RGBA, {{1, 2, 3, 4}}, 0, false, {}});
    EXPECT_THAT(data_error([&] { decode_image(rgba, "x"); }), HasSubstr("transparency"));
    EXPECT_THAT(data_error([&] { decode_mask(rgba, "x"); }),
                HasSubstr("colours instead of class ids"));
    const Bytes see_through = make_png({1, 8, PNG_COLOR_TYPE_PALETTE, {{9}}, 0, true, {}});
    EXPECT_THAT(data_error([&] { decode_image(see_through, "x"); }), HasSubstr("transparency"));
    EXPECT_EQ(decode_mask(see_through, "x").labels, Bytes{9});  // the index is what counts
    const Bytes turned = make_png(
        {1, 8, PNG_COLOR_TYPE_GRAY, {{9}}, 0, false, orientation_tiff(8, true)});
    EXPECT_THAT(data_error([&] { decode_mask(turned, "x"); }), HasSubstr("EXIF orientation 8"));
}

TEST(Image, HugeSizesAreRefusedFromTheHeader) {
    Bytes jpeg = encode_jpeg(gradient(8, 8), 90);
    const Bytes frame{0xFF, 0xC0, 0x00, 0x11, 0x08};
    const auto sof = std::search(jpeg.begin(), jpeg.end(), frame.begin(), frame.end());
    ASSERT_NE(sof, jpeg.end());
    for (const std::uint8_t high : {0x80, 0xFF}) {  // 32,776 and 65,288 a side
        for (int side = 5; side <= 7; side += 2) sof[side] = high;
        EXPECT_THAT(data_error([&] { read_info(jpeg, "huge"); }), HasSubstr("image size"));
        EXPECT_THAT(data_error([&] { decode_image(jpeg, "huge"); }), HasSubstr("image size"));
    }
    for (int side = 5; side <= 7; side += 2)
        sof[side] = 0x7F;  // within 32,768 a side, but a gigapixel
    EXPECT_THAT(data_error([&] { decode_image(jpeg, "huge"); }), HasSubstr("image size"));
}

// A header may claim a quarter of a gigapixel: what is behind it has to be long enough before
// memory is taken for them.
TEST(Image, MorePixelsThanBytesCanHoldAreRefused) {
    Bytes jpeg = encode_jpeg(gradient(8, 8), 90);
    const Bytes frame{0xFF, 0xC0, 0x00, 0x11, 0x08};
    const auto sof = std::search(jpeg.begin(), jpeg.end(), frame.begin(), frame.end());
    ASSERT_NE(sof, jpeg.end());
    for (int side = 5; side <= 7; side += 2) sof[side] = 0x3F;  // 16,136 a side
    EXPECT_THAT(data_error([&] { decode_image(jpeg, "huge.jpg"); }),
                HasSubstr("bytes cannot hold 16136 x 16136 pixels (huge.jpg)"));
    EXPECT_THAT(data_error([&] { read_info(jpeg, "huge.jpg"); }), HasSubstr("cannot hold"));

    Bytes png = make_png({8, 1, PNG_COLOR_TYPE_GRAY, {{0xFF}}, 0, false, {}});
    png[18] = 0x3F;  // 16,136 wide, one row: 2 KiB, which deflate could make of these bytes
    repair_crc(png);
    EXPECT_EQ(read_info(png, "wide.png").width, 16136);
    png[22] = 0x3F;  // 16,129 high
    repair_crc(png);
    EXPECT_THAT(data_error([&] { decode_image(png, "huge.png"); }),
                HasSubstr("bytes cannot hold 16136 x 16129 pixels (huge.png)"));
}

// What compresses best must pass.
TEST(Image, BlankImagesAreTaken) {
    for (const bool progressive : {false, true}) {
        const JpegSpec spec{.side = 3000, .arithmetic = false, .progressive = progressive};
        const Bytes gray = jpeg_of_space(1, JCS_GRAYSCALE, JCS_GRAYSCALE, spec);
        EXPECT_EQ(decode_image(gray, "blank").pixels[9], 77) << gray.size();
        const Bytes color = jpeg_of_space(3, JCS_RGB, JCS_YCbCr, spec);
        EXPECT_EQ(decode_image(color, "blank").pixels[9], 77) << color.size();
    }
    const std::vector<Rgb> palette(2);
    const Bytes mask = encode_palette_png({3000, 3000, Bytes(9000000)}, palette);
    EXPECT_EQ(decode_mask(mask, "blank").width, 3000) << mask.size();
    const std::vector<Bytes> rows(3000, Bytes(375));
    const Bytes bits = make_png({3000, 1, PNG_COLOR_TYPE_GRAY, rows, 0, false, {}});
    EXPECT_EQ(decode_image(bits, "blank").width, 3000) << bits.size();
}

TEST(Jpeg, ArithmeticCodingIsRefused) {
    const Bytes bytes = jpeg_of_space(3, JCS_RGB, JCS_YCbCr, {.side = 16, .arithmetic = true});
    EXPECT_THAT(data_error([&] { decode_image(bytes, "a.jpg"); }),
                HasSubstr("arithmetic coding (a.jpg)"));
}

// libpng takes memory of a chunk's length before it reads the chunk.
TEST(Png, AChunkLongerThanTheFileIsRefused) {
    const Bytes whole = encode_png(gradient(4, 4));
    for (const std::size_t length_at : {8u, 33u}) {  // of IHDR, and of IDAT
        for (const std::uint8_t high : {0x01, 0x7F, 0xFF}) {
            Bytes bytes = whole;
            bytes[length_at] = high;
            EXPECT_THAT(data_error([&] { decode_image(bytes, "x"); }),
                        HasSubstr("the file ends too early"));
        }
    }
    Bytes more = whole;
    more.insert(more.end(), 5, 0x55);  // what follows the end is not read
    EXPECT_EQ(decode_image(more, "x").width, 4);
}

TEST(Image, OtherFormatsAreNamed) {
    EXPECT_EQ(format_of({}), ImageFormat::unknown);
    const auto problem = [](const std::string& start) {
        const Bytes bytes(start.begin(), start.end());
        EXPECT_EQ(format_of(bytes), ImageFormat::unknown);
        return data_error([&] { decode_image(bytes, "a.jpg"); });
    };
    for (const auto& [start, kind] :
         {std::pair<std::string, const char*>{"GIF89a", "GIF"},
          {"RIFF....WEBPVP8 ", "WebP"},
          {std::string("\0\0\0\x1c", 4) + "ftypheic", "HEIC"},
          {"BM....", "BMP"},
          {std::string("II*\0....", 8), "TIFF"},
          {"\x93NUMPY", "a NumPy array"},
          {"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"},
          {"<!DOCTYPE html>", "HTML"}})
        EXPECT_THAT(problem(start),
                    HasSubstr(std::string("neither JPEG nor PNG: it is ") +
                              (*kind == 'H' && start[0] == '<' ? "a page of " : "") + kind));
    EXPECT_THAT(problem("version https://git-lfs"), HasSubstr("git lfs pull"));
    EXPECT_THAT(problem("some text"), HasSubstr("neither JPEG nor PNG (a.jpg)"));
    EXPECT_THAT(data_error([&] { decode_mask({}, "none"); }),
                HasSubstr("neither JPEG nor PNG: it is empty (none)"));
    EXPECT_THAT(data_error([&] { read_info({}, "none"); }), HasSubstr("it is empty"));
}

TEST(Image, EveryTruncationIsRefused) {
    const Image image = gradient(40, 30);
    std::vector<Rgb> palette(256);
    Mask mask{40, 30, Bytes(1200)};
    for (std::size_t i = 0; i < mask.labels.size(); ++i)
        mask.labels[i] = static_cast<std::uint8_t>(i * i % 21);
    const Bytes mask_file = encode_palette_png(mask, palette);
    for (const Bytes& bytes : {encode_jpeg(image, 80), encode_png(image), mask_file}) {
        for (std::size_t length = 0; length < bytes.size(); ++length) {
            // A block of exactly this size: a read beyond its end is seen by the address sanitizer.
            const Bytes cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length));
            EXPECT_THROW(decode_image(cut, "cut"), DataError) << length << " of " << bytes.size();
        }
    }
    for (std::size_t length = 0; length < mask_file.size(); ++length) {
        EXPECT_THROW(decode_mask({mask_file.data(), length}, "cut"), DataError) << length;
    }
}

TEST(Image, DamageNeverCrashes) {
    const Image image = gradient(40, 30);
    const Bytes jpeg = encode_jpeg(image, 80), png = encode_png(image);
    const Bytes turned = with_exif(jpeg, orientation_tiff(1, true));
    int refused = 0, taken = 0;
    for (const Bytes* whole : {&jpeg, &png, &turned}) {
        for (std::size_t at = 0; at < whole->size(); ++at) {
            for (const std::uint8_t flip : {0x01, 0x80, 0xFF}) {
                Bytes bytes = *whole;
                bytes[at] ^= flip;
                try {
                    const Image decoded = decode_image(bytes, "damaged");
                    EXPECT_EQ(static_cast<std::int64_t>(decoded.pixels.size()),
                              decoded.width * decoded.height * 3);
                    ++taken;
                } catch (const DataError&) {
                    ++refused;
                }
            }
        }
        // PNG has a CRC over everything: no damage of it may pass as pixels.
        if (whole == &png) {
            EXPECT_EQ(taken, 0) << "of a damaged PNG";
        }
        taken = 0;
    }
    EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace deeplab::io
