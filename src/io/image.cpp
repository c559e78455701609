#include "deeplab/io/image.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "image_codec.h"

namespace deeplab::io {

namespace {

// A damaged header can claim any size. The limits are far above photographs and far below what
// would exhaust a node.
constexpr std::int64_t kMaxSide = 32768;
constexpr std::int64_t kMaxPixels = std::int64_t{256} << 20;

constexpr std::array<std::uint8_t, 3> kJpegStart{0xFF, 0xD8, 0xFF};
constexpr std::array<std::uint8_t, 8> kPngStart{0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};

// What other files that end with .jpg or .png are, by their first bytes.
struct Kind {
    std::size_t at;
    std::string_view start;
    const char* name;
    const char* advice;
};
constexpr const char* kConvert = "convert the file, or leave it out";
constexpr Kind kOtherKinds[] = {
    {4, "ftyp", ": it is HEIC, AVIF or a film", kConvert},
    {8, "WEBP", ": it is WebP", kConvert},
    {0, "GIF8", ": it is GIF", kConvert},
    {0, "BM", ": it is BMP", kConvert},
    {0, std::string_view("II*\0", 4), ": it is TIFF", kConvert},
    {0, std::string_view("MM\0*", 4), ": it is TIFF", kConvert},
    {0, "\x93NUMPY", ": it is a NumPy array", kConvert},
    {0, "version https://git-lfs", ": it is a pointer of Git LFS, not the file itself",
     "fetch the files: git lfs pull"},
    {0, "<", ": it is a page of HTML or XML", "download the file again"},
};

[[noreturn]] void throw_neither(std::span<const std::uint8_t> bytes, const std::string& what) {
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    Kind kind{0, "", text.empty() ? ": it is empty" : "", kConvert};
    for (const Kind& known : kOtherKinds)
        if (text.size() > known.at && text.substr(known.at).starts_with(known.start)) {
            kind = known;
            break;
        }
    throw DataError(cat("neither JPEG nor PNG", kind.name, " (", what,
                        ") — images and masks are read in these two formats only — ", kind.advice));
}

// Orientation (tag 0x0112) of the first directory of a TIFF structure; 0 when there is none.
int orientation_of(std::span<const std::uint8_t> tiff) {
    if (tiff.size() < 8) return 0;
    const bool big = tiff[0] == 'M' && tiff[1] == 'M';
    if (!big && !(tiff[0] == 'I' && tiff[1] == 'I')) return 0;
    const auto u16 = [&](std::size_t at) -> std::uint32_t {
        if (at + 2 > tiff.size()) return 0;
        return big ? tiff[at] * 256u + tiff[at + 1] : tiff[at + 1] * 256u + tiff[at];
    };
    const auto u32 = [&](std::size_t at) -> std::uint32_t {
        return big ? u16(at) << 16 | u16(at + 2) : u16(at + 2) << 16 | u16(at);
    };
    if (u16(2) != 42) return 0;
    const std::size_t directory = u32(4);
    const std::size_t entries = u16(directory);
    for (std::size_t i = 0; i < entries; ++i) {
        const std::size_t entry = directory + 2 +
                                  i * 12;  // tag u16, type u16, count u32, value in 4 bytes
        if (entry + 12 > tiff.size()) return 0;
        if (u16(entry) != 0x0112) continue;
        const std::uint32_t type = u16(entry + 2);
        if (type == 3) return static_cast<int>(u16(entry + 8));  // SHORT
        if (type == 4)
            return static_cast<int>(std::min<std::uint32_t>(u32(entry + 8), 255));  // LONG
        return 0;
    }
    return 0;
}

}  // namespace

void check_size(std::int64_t width, std::int64_t height, const std::string& what) {
    if (width < 1 || height < 1 || width > kMaxSide || height > kMaxSide ||
        width * height > kMaxPixels) {
        throw DataError(cat("image size ", width, " x ", height, " (", what, ") — the limits are ",
                            kMaxSide, " pixels a side and ", kMaxPixels >> 20,
                            " megapixels; a damaged header claims such sizes too — check the file, "
                            "or scale it down"));
    }
}

void take_orientation(std::span<const std::uint8_t> tiff, const std::string& what,
                      int* orientation) {
    const int tag = orientation_of(tiff), found = tag >= 2 && tag <= 8 ? tag : 1;
    if (orientation != nullptr) {
        *orientation = found;
    } else if (found != 1) {
        throw_unsupported(
            cat("EXIF orientation ", found), what,
            "image and mask would not match — turn the pixels upright and remove the tag");
    }
}

void throw_damaged(const char* format, const std::string& reason, const std::string& what) {
    throw DataError(cat("damaged ", format, ": ", reason, " (", what,
                        ") — its pixels cannot be trusted — replace the file, or leave it out"));
}

void throw_too_short(const char* format, std::int64_t width, std::int64_t height, std::size_t bytes,
                     const std::string& what) {
    throw_damaged(format, cat(bytes, " bytes cannot hold ", width, " x ", height, " pixels"), what);
}

void throw_unsupported(const std::string& feature, const std::string& what, const char* advice) {
    throw DataError(cat("unsupported image: ", feature, " (", what, ") — ", advice));
}

ImageFormat format_of(std::span<const std::uint8_t> bytes) {
    const auto starts_with = [&](const auto& start) {
        return bytes.size() >= start.size() &&
               std::equal(start.begin(), start.end(), bytes.begin());
    };
    if (starts_with(kJpegStart)) return ImageFormat::jpeg;
    if (starts_with(kPngStart)) return ImageFormat::png;
    return ImageFormat::unknown;
}

ImageInfo read_info(std::span<const std::uint8_t> bytes, const std::string& what) {
    switch (format_of(bytes)) {
        case ImageFormat::jpeg: return read_jpeg_info(bytes, what);
        case ImageFormat::png: return read_png_info(bytes, what);
        case ImageFormat::unknown: break;
    }
    throw_neither(bytes, what);
}

ImageInfo read_mask_info(std::span<const std::uint8_t> bytes, const std::string& what) {
    return format_of(bytes) == ImageFormat::png ? read_png_mask_info(bytes, what)
                                                : read_info(bytes, what);
}

namespace {

void decode(std::span<const std::uint8_t> bytes, const std::string& what, Image& image,
            int* orientation) {
    switch (format_of(bytes)) {
        case ImageFormat::jpeg: return decode_jpeg(bytes, what, image, orientation);
        case ImageFormat::png: return decode_png_image(bytes, what, image, orientation);
        case ImageFormat::unknown: break;
    }
    throw_neither(bytes, what);
}

// EXIF's orientations: 2 to 4 mirror or turn by half, 5 to 8 exchange rows and columns first.
Image turned(const Image& image, int orientation) {
    const bool exchanged = orientation >= 5;
    const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 ||
                            orientation == 8;
    const bool from_below = orientation == 3 || orientation == 4 || orientation == 6 ||
                            orientation == 7;
    Image out{exchanged ? image.height : image.width, exchanged ? image.width : image.height,
              std::vector<std::uint8_t>(image.pixels.size())};
    auto to = out.pixels.begin();
    for (std::int64_t y = 0; y < out.height; ++y)
        for (std::int64_t x = 0; x < out.width; ++x) {
            std::int64_t column = exchanged ? y : x, row = exchanged ? x : y;
            if (from_right) column = image.width - 1 - column;
            if (from_below) row = image.height - 1 - row;
            const auto from = image.pixels.begin() + 3 * (row * image.width + column);
            to = std::copy(from, from + 3, to);
        }
    return out;
}

}  // namespace

void decode_image(std::span<const std::uint8_t> bytes, const std::string& what, Image& image) {
    decode(bytes, what, image, nullptr);
}

Image decode_image_upright(std::span<const std::uint8_t> bytes, const std::string& what,
                           int* orientation) {
    Image image;
    int found = 1;
    decode(bytes, what, image, &found);
    if (orientation != nullptr) *orientation = found;
    return found == 1 ? image : turned(image, found);
}

std::vector<Rgb> read_palette(std::span<const std::uint8_t> bytes, const std::string& what) {
    return format_of(bytes) == ImageFormat::png ? read_png_palette(bytes, what)
                                                : std::vector<Rgb>{};
}

void decode_mask(std::span<const std::uint8_t> bytes, const std::string& what, Mask& mask) {
    switch (format_of(bytes)) {
        case ImageFormat::jpeg:
            throw_unsupported("a mask stored as JPEG", what,
                              "lossy compression changes class ids — provide the mask as palette "
                              "or grayscale PNG");
        case ImageFormat::png: return decode_png_mask(bytes, what, mask);
        case ImageFormat::unknown: break;
    }
    throw_neither(bytes, what);
}

WideMask decode_wide_mask(std::span<const std::uint8_t> bytes, const std::string& what) {
    WideMask wide;
    if (read_mask_info(bytes, what).bit_depth == 16) {
        decode_png_wide_mask(bytes, what, wide);
    } else {
        const Mask mask = decode_mask(bytes, what);
        wide = {mask.width, mask.height, {mask.labels.begin(), mask.labels.end()}};
    }
    return wide;
}

Image decode_image(std::span<const std::uint8_t> bytes, const std::string& what) {
    Image image;
    decode_image(bytes, what, image);
    return image;
}

Mask decode_mask(std::span<const std::uint8_t> bytes, const std::string& what) {
    Mask mask;
    decode_mask(bytes, what, mask);
    return mask;
}

}  // namespace deeplab::io
