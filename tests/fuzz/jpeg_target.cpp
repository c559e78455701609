// JPEG: header, EXIF orientation, pixels.

#include "deeplab/io/image.h"
#include "fuzz/target.h"
#include "harness/pictures.h"
#include "io/exif.h"

namespace deeplab::fuzz {

void consume(std::span<const std::uint8_t> input) {
    if (io::format_of(input) != io::ImageFormat::jpeg) return;
    const io::ImageInfo info = io::read_info(input, "fuzz");
    const io::Image image = io::decode_image(input, "fuzz");
    require(image.width == info.width && image.height == info.height, "one size");
    require(static_cast<std::int64_t>(image.pixels.size()) == 3 * image.width * image.height,
            "3 bytes a pixel");
}

// Progressive, gray, CMYK and others come from pil_seeds.py where Pillow is installed.
std::vector<Bytes> seeds() {
    const Bytes small = io::encode_jpeg(testing::smooth_image(17, 9), 80);
    return {small,
            io::encode_jpeg(testing::smooth_image(1, 1), 1),
            io::encode_jpeg(testing::smooth_image(64, 48), 30),
            io::encode_jpeg(testing::smooth_image(40, 3), 100),
            testing::with_exif(small, testing::orientation_tiff(6, true)),
            testing::with_exif(small, testing::orientation_tiff(1, false))};
}

std::vector<std::string> dictionary() {
    std::vector<std::string> words = {"Exif\0\0MM", "Exif\0\0II"};
    for (int marker = 0xC0; marker <= 0xFE; ++marker)
        words.push_back(std::string("\xFF") + static_cast<char>(marker));
    return words;
}

}  // namespace deeplab::fuzz
