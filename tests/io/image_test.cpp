// JPEG and PNG: what comes back. The files are made here.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/io/image.h"
#include "exif.h"
#include "harness/messages.h"
#include "harness/pictures.h"
#include "image_files.h"

namespace deeplab::io {
namespace {

using namespace deeplab::testing;
using ::testing::HasSubstr;

TEST(Jpeg, RoundTripIsClose) {
    const Image image = smooth_image(61, 47);  // not a multiple of the block size
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
    const Bytes jpeg = encode_jpeg(smooth_image(20, 10), 90);
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
    EXPECT_TRUE(read_palette(encode_png(smooth_image(2, 2)), "x").empty());
    EXPECT_TRUE(read_palette(encode_jpeg(smooth_image(8, 8), 90), "x").empty());
}

TEST(Png, RgbRoundTripIsExactAndReproducible) {
    const Image image = smooth_image(33, 21);
    const Bytes bytes = encode_png(image);
    EXPECT_EQ(format_of(bytes), ImageFormat::png);
    EXPECT_EQ(decode_image(bytes, "test").pixels, image.pixels);
    EXPECT_EQ(encode_png(image), bytes);
    EXPECT_THAT(message_of<DataError>([&] { decode_mask(bytes, "rgb.png"); }),
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
    EXPECT_THAT(message_of<DataError>([&] { decode_mask(packed, "g4"); }),
                HasSubstr("a gray mask of 4 bits (g4)"));
    const Bytes clear = make_png({2, 8, PNG_COLOR_TYPE_GRAY_ALPHA, {{1, 255, 2, 0}}, 0, false, {}});
    EXPECT_THAT(message_of<DataError>([&] { decode_mask(clear, "ga"); }),
                HasSubstr("a gray mask with transparency (ga)"));
}

// Masks of 16 bits: values as data sets number things, with an interlaced file among them.
TEST(Png, WideGrayMasks) {
    const WideMask mask{3, 2, {0, 7, 255, 256, 1000, 65535}};
    const Bytes bytes = encode_gray_png(mask, 16);
    const ImageInfo info = read_mask_info(bytes, "test");
    EXPECT_EQ(info.bit_depth, 16);
    EXPECT_EQ(info.channels, 1);
    EXPECT_EQ(info.width, 3);
    EXPECT_EQ(decode_wide_mask(bytes, "test").labels, mask.labels);
    const Bytes interlaced = make_png(
        {2, 16, PNG_COLOR_TYPE_GRAY, {{1, 2, 0, 9}}, PNG_INTERLACE_ADAM7, false, {}});
    EXPECT_EQ(decode_wide_mask(interlaced, "test").labels, (std::vector<std::uint16_t>{258, 9}));
    // 8 bits are read as well, and written where every label fits.
    const Bytes narrow = encode_gray_png({3, 1, {0, 7, 255}}, 8);
    EXPECT_EQ(read_info(narrow, "test").channels, 1);
    EXPECT_FALSE(read_info(narrow, "test").palette);
    EXPECT_EQ(decode_mask(narrow, "test").labels, (Bytes{0, 7, 255}));
    EXPECT_EQ(decode_wide_mask(narrow, "test").labels, (std::vector<std::uint16_t>{0, 7, 255}));
    EXPECT_THROW(encode_gray_png(mask, 8), LogicError);
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

}  // namespace
}  // namespace deeplab::io
