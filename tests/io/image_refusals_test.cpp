// JPEG and PNG that are refused, and why. The files are made here.
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

TEST(Jpeg, CmykIsRefused) {
    for (const J_COLOR_SPACE stored : {JCS_CMYK, JCS_YCCK}) {
        const Bytes bytes = jpeg_of_space(4, JCS_CMYK, stored);
        EXPECT_THAT(message_of<DataError>([&] { decode_image(bytes, "cmyk.jpg"); }),
                    HasSubstr("CMYK JPEG (cmyk.jpg)"));
        EXPECT_THAT(message_of<DataError>([&] { read_info(bytes, "cmyk.jpg"); }),
                    HasSubstr("CMYK"));
    }
}

TEST(Jpeg, TurnedByExifIsRefused) {
    const Bytes upright = encode_jpeg(smooth_image(20, 10), 90);
    for (const bool big : {false, true}) {
        for (int orientation = 2; orientation <= 8; ++orientation) {
            const Bytes turned = with_exif(upright, orientation_tiff(orientation, big));
            EXPECT_THAT(message_of<DataError>([&] { decode_image(turned, "x"); }),
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

TEST(Jpeg, MaskIsRefused) {
    EXPECT_THAT(
        message_of<DataError>([] { decode_mask(encode_jpeg(smooth_image(8, 8), 90), "m"); }),
        HasSubstr("mask stored as JPEG"));
}

TEST(Png, UnsupportedIsRefused) {
    const Bytes deep = make_png({1, 16, PNG_COLOR_TYPE_GRAY, {{1, 2}}, 0, false, {}});
    EXPECT_THAT(message_of<DataError>([&] { decode_mask(deep, "x"); }), HasSubstr("16 bits"));
    EXPECT_THAT(message_of<DataError>([&] { decode_image(deep, "x"); }), HasSubstr("16 bits"));
    EXPECT_THAT(message_of<DataError>([&] { read_info(deep, "x"); }), HasSubstr("16 bits"));
    // Not even as a mask, unless it is gray.
    const Bytes deep_rgb = make_png({1, 16, PNG_COLOR_TYPE_RGB, {Bytes(6, 1)}, 0, false, {}});
    EXPECT_THAT(message_of<DataError>([&] { read_mask_info(deep_rgb, "x"); }),
                HasSubstr("only gray masks may have 16 bits"));
    EXPECT_THAT(message_of<DataError>([&] { decode_wide_mask(deep_rgb, "x"); }),
                HasSubstr("a PNG of 16 bits a channel (x)"));
    const Bytes rgba = make_png({1, 8, PNG_COLOR_TYPE_RGBA, {{1, 2, 3, 4}}, 0, false, {}});
    EXPECT_THAT(message_of<DataError>([&] { decode_image(rgba, "x"); }), HasSubstr("transparency"));
    EXPECT_THAT(message_of<DataError>([&] { decode_mask(rgba, "x"); }),
                HasSubstr("colours instead of class ids"));
    const Bytes see_through = make_png({1, 8, PNG_COLOR_TYPE_PALETTE, {{9}}, 0, true, {}});
    EXPECT_THAT(message_of<DataError>([&] { decode_image(see_through, "x"); }),
                HasSubstr("transparency"));
    EXPECT_EQ(decode_mask(see_through, "x").labels, Bytes{9});  // the index is what counts
    const Bytes turned = make_png(
        {1, 8, PNG_COLOR_TYPE_GRAY, {{9}}, 0, false, orientation_tiff(8, true)});
    EXPECT_THAT(message_of<DataError>([&] { decode_mask(turned, "x"); }),
                HasSubstr("EXIF orientation 8"));
}

TEST(Image, HugeSizesAreRefusedFromTheHeader) {
    Bytes jpeg = encode_jpeg(smooth_image(8, 8), 90);
    const Bytes frame{0xFF, 0xC0, 0x00, 0x11, 0x08};
    const auto sof = std::search(jpeg.begin(), jpeg.end(), frame.begin(), frame.end());
    ASSERT_NE(sof, jpeg.end());
    for (const std::uint8_t high : {0x80, 0xFF}) {  // 32,776 and 65,288 a side
        for (int side = 5; side <= 7; side += 2) sof[side] = high;
        EXPECT_THAT(message_of<DataError>([&] { read_info(jpeg, "huge"); }),
                    HasSubstr("image size"));
        EXPECT_THAT(message_of<DataError>([&] { decode_image(jpeg, "huge"); }),
                    HasSubstr("image size"));
    }
    for (int side = 5; side <= 7; side += 2)
        sof[side] = 0x7F;  // within 32,768 a side, but a gigapixel
    EXPECT_THAT(message_of<DataError>([&] { decode_image(jpeg, "huge"); }),
                HasSubstr("image size"));
}

// A header may claim a quarter of a gigapixel: what is behind it has to be long enough before
// memory is taken for them.
TEST(Image, MorePixelsThanBytesCanHoldAreRefused) {
    Bytes jpeg = encode_jpeg(smooth_image(8, 8), 90);
    const Bytes frame{0xFF, 0xC0, 0x00, 0x11, 0x08};
    const auto sof = std::search(jpeg.begin(), jpeg.end(), frame.begin(), frame.end());
    ASSERT_NE(sof, jpeg.end());
    for (int side = 5; side <= 7; side += 2) sof[side] = 0x3F;  // 16,136 a side
    EXPECT_THAT(message_of<DataError>([&] { decode_image(jpeg, "huge.jpg"); }),
                HasSubstr("bytes cannot hold 16136 x 16136 pixels (huge.jpg)"));
    EXPECT_THAT(message_of<DataError>([&] { read_info(jpeg, "huge.jpg"); }),
                HasSubstr("cannot hold"));

    Bytes png = make_png({8, 1, PNG_COLOR_TYPE_GRAY, {{0xFF}}, 0, false, {}});
    png[18] = 0x3F;  // 16,136 wide, one row: 2 KiB, which deflate could make of these bytes
    repair_crc(png);
    EXPECT_EQ(read_info(png, "wide.png").width, 16136);
    png[22] = 0x3F;  // 16,129 high
    repair_crc(png);
    EXPECT_THAT(message_of<DataError>([&] { decode_image(png, "huge.png"); }),
                HasSubstr("bytes cannot hold 16136 x 16129 pixels (huge.png)"));
}

TEST(Jpeg, ArithmeticCodingIsRefused) {
    const Bytes bytes = jpeg_of_space(3, JCS_RGB, JCS_YCbCr, {.side = 16, .arithmetic = true});
    EXPECT_THAT(message_of<DataError>([&] { decode_image(bytes, "a.jpg"); }),
                HasSubstr("arithmetic coding (a.jpg)"));
}

// libpng takes memory of a chunk's length before it reads the chunk.
TEST(Png, AChunkLongerThanTheFileIsRefused) {
    const Bytes whole = encode_png(smooth_image(4, 4));
    for (const std::size_t length_at : {8u, 33u}) {  // of IHDR, and of IDAT
        for (const std::uint8_t high : {0x01, 0x7F, 0xFF}) {
            Bytes bytes = whole;
            bytes[length_at] = high;
            EXPECT_THAT(message_of<DataError>([&] { decode_image(bytes, "x"); }),
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
        return message_of<DataError>([&] { decode_image(bytes, "a.jpg"); });
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
    EXPECT_THAT(message_of<DataError>([&] { decode_mask({}, "none"); }),
                HasSubstr("neither JPEG nor PNG: it is empty (none)"));
    EXPECT_THAT(message_of<DataError>([&] { read_info({}, "none"); }), HasSubstr("it is empty"));
}

TEST(Image, EveryTruncationIsRefused) {
    const Image image = smooth_image(40, 30);
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
    const Image image = smooth_image(40, 30);
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
