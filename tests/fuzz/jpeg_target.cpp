// JPEG: header, EXIF orientation, pixels.

#include "deeplab/io/image.h"
#include "fuzz/target.h"

namespace deeplab::fuzz {

void consume(std::span<const std::uint8_t> input) {
    if (io::format_of(input) != io::ImageFormat::jpeg) return;
    const io::ImageInfo info = io::read_info(input, "fuzz");
    const io::Image image = io::decode_image(input, "fuzz");
    require(image.width == info.width && image.height == info.height, "one size");
    require(static_cast<std::int64_t>(image.pixels.size()) == 3 * image.width * image.height,
            "3 bytes a pixel");
}

namespace {

io::Image picture(std::int64_t width, std::int64_t height) {
    io::Image image{width, height, Bytes(static_cast<std::size_t>(3 * width * height))};
    for (std::size_t i = 0; i < image.pixels.size(); ++i)
        image.pixels[i] = static_cast<std::uint8_t>(i * i / 7);
    return image;
}

// After the start marker: an APP1 segment with an orientation, in both byte orders.
Bytes with_orientation(const Bytes& jpeg, bool big, std::uint8_t orientation) {
    Bytes tiff = big ? Bytes{'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0}
                     : Bytes{'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0};
    tiff.insert(tiff.end(), {orientation, 0, 0, 0, 0, 0, 0, 0});
    Bytes out = {0xFF, 0xD8, 0xFF, 0xE1, 0, static_cast<std::uint8_t>(tiff.size() + 8)};
    out.insert(out.end(), {'E', 'x', 'i', 'f', 0, 0});
    out.insert(out.end(), tiff.begin(), tiff.end());
    out.insert(out.end(), jpeg.begin() + 2, jpeg.end());
    return out;
}

}  // namespace

// Progressive, gray, CMYK and others come from pil_seeds.py where Pillow is installed.
std::vector<Bytes> seeds() {
    const Bytes small = io::encode_jpeg(picture(17, 9), 80);
    return {small,
            io::encode_jpeg(picture(1, 1), 1),
            io::encode_jpeg(picture(64, 48), 30),
            io::encode_jpeg(picture(40, 3), 100),
            with_orientation(small, true, 6),
            with_orientation(small, false, 1)};
}

std::vector<std::string> dictionary() {
    std::vector<std::string> words = {"Exif\0\0MM", "Exif\0\0II"};
    for (int marker = 0xC0; marker <= 0xFE; ++marker)
        words.push_back(std::string("\xFF") + static_cast<char>(marker));
    return words;
}

}  // namespace deeplab::fuzz
