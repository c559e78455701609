// JPEG with libjpeg-turbo. Decoding keeps the library's defaults (accurate integer DCT, fancy
// upsampling), which are PIL's too, so that both give the same pixels.

#include <csetjmp>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <jpeglib.h>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "image_codec.h"

namespace deeplab::io {

namespace {

// More scans than any encoder writes: each one costs a pass over the whole image, so a crafted file
// could take hours.
constexpr int kMaxScans = 500;

// libjpeg reports through callbacks that must not return; no C++ exception may pass through its
// frames.
struct Failure {
    jpeg_error_mgr manager{};  // first: the callbacks get a pointer to it
    std::jmp_buf jump{};
    char message[JMSG_LENGTH_MAX] = "";
};

[[noreturn]] void on_error(j_common_ptr info) {
    auto* failure = reinterpret_cast<Failure*>(info->err);
    info->err->format_message(info, failure->message);
    std::longjmp(failure->jump, 1);
}

// Warnings (level -1) tell of damaged data that the library would paint over in gray.
void on_message(j_common_ptr info, int level) {
    if (level < 0) on_error(info);
}

void on_progress(j_common_ptr info) {
    if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number > kMaxScans) {
        auto* failure = reinterpret_cast<Failure*>(info->err);
        std::strcpy(failure->message, "too many scans");
        std::longjmp(failure->jump, 1);
    }
}

void install(Failure& failure) {
    jpeg_std_error(&failure.manager);
    failure.manager.error_exit = on_error;
    failure.manager.emit_message = on_message;
}

class Decoder {
public:
    // `orientation`: see take_orientation().
    Decoder(std::span<const std::uint8_t> bytes, const std::string& what, int* orientation)
        : what_(what), orientation_(orientation) {
        install(failure_);
        info_.err = &failure_.manager;
        bytes_ = bytes.size();
        guarded([&] {
            jpeg_create_decompress(&info_);
            progress_.progress_monitor = on_progress;
            info_.progress = &progress_;
            jpeg_mem_src(&info_, bytes.data(), static_cast<unsigned long>(bytes.size()));
            jpeg_save_markers(&info_, JPEG_APP0 + 1, 0xFFFF);
            jpeg_read_header(&info_, TRUE);
        });
        check();
    }
    ~Decoder() { jpeg_destroy_decompress(&info_); }
    Decoder(const Decoder&) = delete;
    Decoder& operator=(const Decoder&) = delete;

    ImageInfo info() const {
        return {ImageFormat::jpeg,    info_.image_width,    info_.image_height,
                info_.num_components, info_.data_precision, false};
    }

    void decode(Image& image) {
        image.width = info_.image_width;
        image.height = info_.image_height;
        image.pixels.resize(static_cast<std::size_t>(image.width * image.height * 3));
        std::uint8_t* row = image.pixels.data();
        const std::size_t stride = static_cast<std::size_t>(image.width) * 3;
        guarded([&] {
            info_.out_color_space = JCS_RGB;
            jpeg_start_decompress(&info_);
            while (info_.output_scanline < info_.output_height) {
                JSAMPROW rows[1] = {row + stride * info_.output_scanline};
                jpeg_read_scanlines(&info_, rows, 1);
            }
            jpeg_finish_decompress(&info_);
        });
    }

private:
    // `step` must own nothing: a failure jumps over its end.
    template <class Step>
    void guarded(const Step& step) {
        if (setjmp(failure_.jump) != 0) {
            // The constructor has no destructor to rely on; destroying twice is allowed.
            jpeg_destroy_decompress(&info_);
            throw_damaged("JPEG", failure_.message, what_);
        }
        step();
    }

    void check() {
        try {
            check_size(info_.image_width, info_.image_height, what_);
            const bool color = info_.num_components == 3 && (info_.jpeg_color_space == JCS_YCbCr ||
                                                             info_.jpeg_color_space == JCS_RGB);
            const bool gray = info_.num_components == 1 && info_.jpeg_color_space == JCS_GRAYSCALE;
            if (info_.num_components == 4) {
                throw_unsupported("a CMYK JPEG", what_,
                                  "its colours need a print profile — convert it to RGB");
            }
            if (info_.data_precision != 8 || (!color && !gray)) {
                throw_unsupported(cat("a JPEG of ", info_.num_components, " channels of ",
                                      info_.data_precision, " bits"),
                                  what_, "only 8-bit gray and RGB are read — convert it to RGB");
            }
            if (info_.arith_code) {
                throw_unsupported("a JPEG with arithmetic coding", what_,
                                  "few programs read it — convert it with jpegtran -optimize");
            }
            check_length();
            constexpr std::uint8_t exif[] = {'E', 'x', 'i', 'f', 0, 0};
            for (jpeg_saved_marker_ptr marker = info_.marker_list; marker != nullptr;
                 marker = marker->next) {
                if (marker->data_length > sizeof exif &&
                    std::memcmp(marker->data, exif, sizeof exif) == 0) {
                    take_orientation(
                        {marker->data + sizeof exif, marker->data_length - sizeof exif}, what_,
                        orientation_);
                }
            }
        } catch (...) {
            jpeg_destroy_decompress(&info_);
            throw;
        }
    }

    // Every block of 8 x 8 samples takes a bit at least, since no Huffman code is shorter.
    void check_length() const {
        std::uint64_t blocks = 0;
        for (int i = 0; i < info_.num_components; ++i) {
            const jpeg_component_info& part = info_.comp_info[i];
            blocks += std::uint64_t{part.width_in_blocks} * part.height_in_blocks;
        }
        if (blocks > 8 * std::uint64_t{bytes_})
            throw_too_short("JPEG", info_.image_width, info_.image_height, bytes_, what_);
    }

    const std::string& what_;
    int* orientation_;
    std::size_t bytes_ = 0;
    Failure failure_;
    jpeg_progress_mgr progress_{};
    jpeg_decompress_struct info_{};
};

struct Encoder {
    Failure failure;
    jpeg_compress_struct info{};
    unsigned char* bytes = nullptr;  // grown by libjpeg with malloc
    unsigned long size = 0;

    Encoder() {
        install(failure);
        info.err = &failure.manager;
    }
    ~Encoder() {
        jpeg_destroy_compress(&info);
        std::free(bytes);
    }
    Encoder(const Encoder&) = delete;
    Encoder& operator=(const Encoder&) = delete;

    void encode(const Image& image, int quality) {
        if (setjmp(failure.jump) != 0) {
            throw DeviceError(cat("encoding a JPEG failed: ", failure.message,
                                  " — the image is not written — check that memory suffices"));
        }
        jpeg_create_compress(&info);
        jpeg_mem_dest(&info, &bytes, &size);
        info.image_width = static_cast<JDIMENSION>(image.width);
        info.image_height = static_cast<JDIMENSION>(image.height);
        info.input_components = 3;
        info.in_color_space = JCS_RGB;
        jpeg_set_defaults(&info);
        jpeg_set_quality(&info, quality, TRUE);
        jpeg_start_compress(&info, TRUE);
        while (info.next_scanline < info.image_height) {
            // libjpeg takes the samples as non-const but does not write to them.
            JSAMPROW rows[1] = {const_cast<JSAMPROW>(image.pixels.data()) +
                                static_cast<std::size_t>(info.next_scanline) * info.image_width *
                                    3};
            jpeg_write_scanlines(&info, rows, 1);
        }
        jpeg_finish_compress(&info);
    }
};

}  // namespace

ImageInfo read_jpeg_info(std::span<const std::uint8_t> bytes, const std::string& what) {
    return Decoder(bytes, what, nullptr).info();
}

void decode_jpeg(std::span<const std::uint8_t> bytes, const std::string& what, Image& image,
                 int* orientation) {
    Decoder(bytes, what, orientation).decode(image);
}

std::vector<std::uint8_t> encode_jpeg(const Image& image, int quality) {
    check_size(image.width, image.height, "to be written");
    expects(static_cast<std::int64_t>(image.pixels.size()) == image.width * image.height * 3,
            "encode_jpeg: 3 bytes a pixel");
    expects(quality >= 1 && quality <= 100, "encode_jpeg: quality 1..100");
    Encoder encoder;
    encoder.encode(image, quality);
    return {encoder.bytes, encoder.bytes + encoder.size};
}

}  // namespace deeplab::io
