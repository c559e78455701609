// PNG: header, EXIF orientation, pixels as an image and as labels.

#include <cstring>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/io/image.h"
#include "fuzz/target.h"

namespace deeplab::fuzz {
namespace {

template <class Read>
void attempt(const Read& read) {
    try {
        read();
    } catch (const Error&) {
    }
}

std::uint32_t big_endian(const std::uint8_t* at) {
    return std::uint32_t{at[0]} << 24 | std::uint32_t{at[1]} << 16 | std::uint32_t{at[2]} << 8 |
           at[3];
}

// Gives every chunk the CRC of what it holds: without it hardly a mutation would get further.
void repair(std::uint8_t* data, std::size_t size) {
    for (std::size_t at = 8; at + 12 <= size;) {
        const std::uint32_t length = big_endian(data + at);
        if (length > size - at - 12) return;
        const std::uint32_t crc = crc32({data + at + 4, length + 4});
        for (std::size_t i = 0; i < 4; ++i)
            data[at + 8 + length + i] = static_cast<std::uint8_t>(crc >> (24 - 8 * i));
        at += std::size_t{length} + 12;
    }
}

}  // namespace

void consume(std::span<const std::uint8_t> input) {
    if (io::format_of(input) != io::ImageFormat::png) return;
    attempt([&] {
        const io::WideMask mask = io::decode_wide_mask(input, "fuzz");
        require(static_cast<std::int64_t>(mask.labels.size()) == mask.width * mask.height,
                "a label a pixel");
    });
    const io::ImageInfo info = io::read_info(input, "fuzz");
    attempt([&] {
        const io::Image image = io::decode_image(input, "fuzz");
        require(image.width == info.width && image.height == info.height, "one size");
        require(static_cast<std::int64_t>(image.pixels.size()) == 3 * image.width * image.height,
                "3 bytes a pixel");
    });
    attempt([&] {
        const io::Mask mask = io::decode_mask(input, "fuzz");
        require(mask.width == info.width && mask.height == info.height, "one size");
        require(static_cast<std::int64_t>(mask.labels.size()) == mask.width * mask.height,
                "a byte a pixel");
    });
}

// Gray, 1 to 16 bits, interlaced and others come from pil_seeds.py where Pillow is installed.
std::vector<Bytes> seeds() {
    const io::Image image{5, 3, Bytes(45, 200)};
    const io::Mask mask{7, 2, Bytes(14, 1)}, large{100, 60, Bytes(6000, 0)};
    const std::vector<io::Rgb> palette = {{0, 0, 0}, {128, 0, 0}};
    return {io::encode_png(image), io::encode_palette_png(mask, palette),
            io::encode_palette_png(large, palette), io::encode_gray_png({3, 1, {0, 7, 999}}, 16)};
}

std::vector<std::string> dictionary() {
    return {"IHDR", "PLTE", "IDAT", "IEND", "tRNS", "eXIf", "iCCP", "zTXt", "iTXt", "tEXt",
            "sPLT", "gAMA", "cHRM", "sBIT", "bKGD", "hIST", "pHYs", "tIME", "MM",   "II"};
}

}  // namespace deeplab::fuzz

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t room);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t room, unsigned seed) {
    const std::size_t mutated = LLVMFuzzerMutate(data, size, room);
    if (seed % 8 != 0) deeplab::fuzz::repair(data, mutated);
    return mutated;
}
