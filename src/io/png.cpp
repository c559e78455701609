// PNG with libpng. Warnings are ignored: they tell of odd side information (colour profiles, text),
// while damaged pixels are errors, since every chunk carries a CRC.

#include <algorithm>
#include <bit>
#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <new>

#include <png.h>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "image_codec.h"

namespace deeplab::io {

namespace {

// libpng reports through callbacks that must not return; no C++ exception may pass through its
// frames.
struct Failure {
    std::jmp_buf jump{};
    char message[256] = "";
};

// No deflate stream grows by more: a match of 258 bytes takes at least two bits.
constexpr std::uint64_t kMostInflated = 1032;
// libpng takes memory of the length that a chunk claims before it reads the chunk, and since 1.6.48
// it no longer looks at the last one's checksum, which is always the same: IEND has no content.
void check_chunks(std::span<const std::uint8_t> bytes, const std::string& what) {
    for (std::span<const std::uint8_t> rest = bytes.subspan(8); !rest.empty();) {
        if (rest.size() < 12) throw_damaged("PNG", "the file ends too early", what);
        const std::uint32_t length = png_get_uint_32(rest.data());
        if (length > rest.size() - 12) throw_damaged("PNG", "the file ends too early", what);
        if (std::memcmp(rest.data() + 4, "IEND", 4) == 0) {
            if (length != 0 || png_get_uint_32(rest.data() + 8) != 0xAE426082)
                throw_damaged("PNG", "IEND: CRC error", what);
            return;
        }
        rest = rest.subspan(std::size_t{length} + 12);
    }
}

[[noreturn]] void on_error(png_structp png, png_const_charp message) {
    auto* failure = static_cast<Failure*>(png_get_error_ptr(png));
    std::snprintf(failure->message, sizeof failure->message, "%s", message);
    std::longjmp(failure->jump, 1);
}

void on_warning(png_structp, png_const_charp) {}

// 16 bits are taken of gray pictures alone, where the caller has room for them.
enum class Depth { eight, sixteen_if_gray };

class Decoder {
public:
    // `orientation`: see take_orientation().
    Decoder(std::span<const std::uint8_t> bytes, const std::string& what,
            int* orientation = nullptr, Depth depth = Depth::eight)
        : rest_(bytes), what_(what), orientation_(orientation) {
        check_chunks(bytes, what);
        png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &failure_, on_error, on_warning);
        info_ = png_ == nullptr ? nullptr : png_create_info_struct(png_);
        if (info_ == nullptr) {
            png_destroy_read_struct(&png_, nullptr, nullptr);
            throw std::bad_alloc();
        }
        try {
            guarded([&] {
                png_set_read_fn(png_, this, on_read);
                png_set_user_limits(png_, 0x7FFFFFFF, 0x7FFFFFFF);  // check_size says it better
                png_read_info(png_, info_);
            });
            const ImageInfo header = info();
            check_size(header.width, header.height, what_);
            const std::uint64_t row = png_get_rowbytes(png_, info_) + 1;  // and its filter
            if (row * static_cast<std::uint64_t>(header.height) > kMostInflated * bytes.size())
                throw_too_short("PNG", header.width, header.height, bytes.size(), what_);
            if (header.bit_depth == 16 && !(depth == Depth::sixteen_if_gray && is_gray())) {
                throw_unsupported("a PNG of 16 bits a channel", what_,
                                  depth == Depth::eight
                                      ? "only 8 bits are read — convert it to 8 bits"
                                      : "only gray masks may have 16 bits — store the labels "
                                        "as a gray PNG with one channel");
            }
            check_orientation();
        } catch (...) {
            png_destroy_read_struct(&png_, &info_, nullptr);
            throw;
        }
    }
    ~Decoder() { png_destroy_read_struct(&png_, &info_, nullptr); }
    Decoder(const Decoder&) = delete;
    Decoder& operator=(const Decoder&) = delete;

    ImageInfo info() const {
        return {ImageFormat::png,
                png_get_image_width(png_, info_),
                png_get_image_height(png_, info_),
                png_get_channels(png_, info_),
                png_get_bit_depth(png_, info_),
                png_get_color_type(png_, info_) == PNG_COLOR_TYPE_PALETTE};
    }

    std::vector<Rgb> palette() {
        std::vector<Rgb> colors;
        png_colorp entries = nullptr;
        int count = 0;
        if (!info().palette || png_get_PLTE(png_, info_, &entries, &count) == 0) return colors;
        for (int i = 0; i < count; ++i)
            colors.push_back({entries[i].red, entries[i].green, entries[i].blue});
        return colors;
    }

    void decode_image(Image& image) {
        if ((png_get_color_type(png_, info_) & PNG_COLOR_MASK_ALPHA) != 0 ||
            png_get_valid(png_, info_, PNG_INFO_tRNS) != 0) {
            throw_unsupported(
                "a PNG with transparency", what_,
                "what shows behind it is undefined — flatten it to RGB without an alpha channel");
        }
        guarded([&] {
            png_set_expand(png_);  // palette to RGB, gray of 1, 2, 4 bits to 8
            png_set_gray_to_rgb(png_);
        });
        const ImageInfo header = info();
        image.width = header.width;
        image.height = header.height;
        read_rows(header, 3, image.pixels);
    }

    void decode_mask(Mask& mask) {
        const ImageInfo header = info();
        const bool gray = is_gray();
        if (png_get_color_type(png_, info_) == PNG_COLOR_TYPE_GRAY_ALPHA) {
            throw_unsupported("a gray mask with transparency", what_,
                              "what a transparent pixel means is not told — store the ids as 8-bit "
                              "palette or grayscale PNG");
        }
        if (!header.palette && !gray) {
            throw_unsupported(
                "a mask of colours instead of class ids", what_,
                "a class cannot be told from it — store the ids as 8-bit palette or grayscale PNG");
        }
        if (gray && header.bit_depth != 8) {
            // The PNG standard scales such values to 0..255, writers of masks mean the plain
            // number.
            throw_unsupported(cat("a gray mask of ", header.bit_depth, " bits"), what_,
                              "whether 1 means class 1 is ambiguous — store the ids as 8-bit "
                              "palette or grayscale PNG");
        }
        guarded([&] { png_set_packing(png_); });  // 1, 2, 4 bits become one index a byte
        mask.width = header.width;
        mask.height = header.height;
        read_rows(header, 1, mask.labels);
    }

    void decode_wide_mask(WideMask& mask) {
        const ImageInfo header = info();
        expects(header.bit_depth == 16, "decode_wide_mask: a PNG of 16 bits");
        if constexpr (std::endian::native == std::endian::little)
            guarded([&] { png_set_swap(png_); });  // PNG stores the high byte first
        mask.width = header.width;
        mask.height = header.height;
        read_rows(header, 1, mask.labels);
    }

private:
    bool is_gray() const { return png_get_color_type(png_, info_) == PNG_COLOR_TYPE_GRAY; }

    // `step` must own nothing: a failure jumps over its end.
    template <class Step>
    void guarded(const Step& step) {
        if (setjmp(failure_.jump) != 0) throw_damaged("PNG", failure_.message, what_);
        step();
    }

    static void on_read(png_structp png, png_bytep target, std::size_t count) {
        auto* self = static_cast<Decoder*>(png_get_io_ptr(png));
        if (count > self->rest_.size()) png_error(png, "the file ends too early");
        std::memcpy(target, self->rest_.data(), count);
        self->rest_ = self->rest_.subspan(count);
    }

    void check_orientation() {
#ifdef PNG_eXIf_SUPPORTED
        png_uint_32 size = 0;
        png_bytep tiff = nullptr;
        if (png_get_eXIf_1(png_, info_, &size, &tiff) != 0)
            take_orientation({tiff, size}, what_, orientation_);
#endif
    }

    // T: a channel's value, 8 or 16 bits.
    template <class T>
    void read_rows(const ImageInfo& header, std::size_t channels, std::vector<T>& pixels) {
        const std::size_t values = static_cast<std::size_t>(header.width) * channels;
        const std::size_t stride = values * sizeof(T);
        pixels.resize(values * static_cast<std::size_t>(header.height));
        std::vector<png_bytep> rows(static_cast<std::size_t>(header.height));
        for (std::size_t y = 0; y < rows.size(); ++y)
            rows[y] = reinterpret_cast<png_bytep>(pixels.data() + y * values);
        bool fits = false;
        guarded([&] {
            png_set_interlace_handling(png_);
            png_read_update_info(png_, info_);
            fits = png_get_rowbytes(png_, info_) == stride;
            if (!fits) return;
            png_read_image(png_, rows.data());
            png_read_end(png_, info_);
        });
        ensures(fits, "a PNG row has the expected length");
        check_orientation();  // the chunk may follow the pixels
    }

    std::span<const std::uint8_t> rest_;
    const std::string& what_;
    int* orientation_;
    Failure failure_;
    png_structp png_ = nullptr;
    png_infop info_ = nullptr;
};

struct Encoder {
    Failure failure;
    png_structp png = nullptr;
    png_infop info = nullptr;
    std::vector<std::uint8_t> bytes;

    Encoder() {
        png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &failure, on_error, on_warning);
        info = png == nullptr ? nullptr : png_create_info_struct(png);
        if (info == nullptr) {
            png_destroy_write_struct(&png, nullptr);
            throw std::bad_alloc();
        }
    }
    ~Encoder() { png_destroy_write_struct(&png, &info); }
    Encoder(const Encoder&) = delete;
    Encoder& operator=(const Encoder&) = delete;

    static void on_write(png_structp target, png_bytep data, std::size_t count) {
        auto* self = static_cast<Encoder*>(png_get_io_ptr(target));
        bool stored = true;
        try {
            self->bytes.insert(self->bytes.end(), data, data + count);
        } catch (const std::bad_alloc&) {
            stored = false;
        }
        if (!stored) png_error(target, "out of memory");
    }
    static void on_flush(png_structp) {}

    // Rows of bytes as the file has them.
    void encode(std::int64_t width, std::int64_t height, const std::uint8_t* pixels,
                std::int64_t stride, int bits, int color_type, std::span<const png_color> palette) {
        if (setjmp(failure.jump) != 0) {
            throw DeviceError(cat("encoding a PNG failed: ", failure.message,
                                  " — the image is not written — check that memory suffices"));
        }
        png_set_write_fn(png, this, on_write, on_flush);
        png_set_IHDR(png, info, static_cast<png_uint_32>(width), static_cast<png_uint_32>(height),
                     bits, color_type, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                     PNG_FILTER_TYPE_DEFAULT);
        if (!palette.empty())
            png_set_PLTE(png, info, palette.data(), static_cast<int>(palette.size()));
        png_write_info(png, info);
        for (std::int64_t y = 0; y < height; ++y) png_write_row(png, pixels + y * stride);
        png_write_end(png, info);
    }
};

}  // namespace

ImageInfo read_png_info(std::span<const std::uint8_t> bytes, const std::string& what) {
    return Decoder(bytes, what).info();
}

void decode_png_image(std::span<const std::uint8_t> bytes, const std::string& what, Image& image,
                      int* orientation) {
    Decoder(bytes, what, orientation).decode_image(image);
}

void decode_png_mask(std::span<const std::uint8_t> bytes, const std::string& what, Mask& mask) {
    Decoder(bytes, what).decode_mask(mask);
}

ImageInfo read_png_mask_info(std::span<const std::uint8_t> bytes, const std::string& what) {
    return Decoder(bytes, what, nullptr, Depth::sixteen_if_gray).info();
}

void decode_png_wide_mask(std::span<const std::uint8_t> bytes, const std::string& what,
                          WideMask& mask) {
    Decoder(bytes, what, nullptr, Depth::sixteen_if_gray).decode_wide_mask(mask);
}

std::vector<Rgb> read_png_palette(std::span<const std::uint8_t> bytes, const std::string& what) {
    return Decoder(bytes, what).palette();
}

std::vector<std::uint8_t> encode_png(const Image& image) {
    check_size(image.width, image.height, "to be written");
    expects(static_cast<std::int64_t>(image.pixels.size()) == image.width * image.height * 3,
            "encode_png: 3 bytes a pixel");
    Encoder encoder;
    encoder.encode(image.width, image.height, image.pixels.data(), image.width * 3, 8,
                   PNG_COLOR_TYPE_RGB, {});
    return std::move(encoder.bytes);
}

std::vector<std::uint8_t> encode_palette_png(const Mask& mask, std::span<const Rgb> palette) {
    check_size(mask.width, mask.height, "to be written");
    expects(static_cast<std::int64_t>(mask.labels.size()) == mask.width * mask.height,
            "encode_palette_png: a byte a pixel");
    expects(!palette.empty() && palette.size() <= 256, "encode_palette_png: 1 to 256 colours");
    expects(*std::max_element(mask.labels.begin(), mask.labels.end()) < palette.size(),
            "encode_palette_png: every label has a colour");
    png_color colors[256];
    for (std::size_t i = 0; i < palette.size(); ++i)
        colors[i] = {palette[i].r, palette[i].g, palette[i].b};
    Encoder encoder;
    encoder.encode(mask.width, mask.height, mask.labels.data(), mask.width, 8,
                   PNG_COLOR_TYPE_PALETTE, {colors, palette.size()});
    return std::move(encoder.bytes);
}

std::vector<std::uint8_t> encode_gray_png(const WideMask& mask, int bits) {
    check_size(mask.width, mask.height, "to be written");
    expects(static_cast<std::int64_t>(mask.labels.size()) == mask.width * mask.height,
            "encode_gray_png: a label a pixel");
    expects(bits == 8 || bits == 16, "encode_gray_png: 8 or 16 bits");
    std::vector<std::uint8_t> rows;
    rows.reserve(mask.labels.size() * static_cast<std::size_t>(bits / 8));
    for (const std::uint16_t label : mask.labels) {
        expects(label >> bits == 0, "encode_gray_png: every label fits");
        if (bits == 16) rows.push_back(static_cast<std::uint8_t>(label >> 8));
        rows.push_back(static_cast<std::uint8_t>(label & 255));
    }
    Encoder encoder;
    encoder.encode(mask.width, mask.height, rows.data(), mask.width * (bits / 8), bits,
                   PNG_COLOR_TYPE_GRAY, {});
    return std::move(encoder.bytes);
}

}  // namespace deeplab::io
