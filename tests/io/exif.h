#pragma once
// The orientation in a JPEG's EXIF tag.

#include <cstdint>
#include <vector>

namespace deeplab::testing {

// A TIFF structure with one directory of one entry: the orientation.
inline std::vector<std::uint8_t> orientation_tiff(int orientation, bool big) {
    const auto value = static_cast<std::uint8_t>(orientation);
    std::vector<std::uint8_t> tiff = big ? std::vector<std::uint8_t>{'M',  'M',  0, 42, 0,
                                                                     0,    0,    8, 0,  1,
                                                                     0x01, 0x12, 0, 3,  0,
                                                                     0,    0,    1, 0,  value}
                                         : std::vector<std::uint8_t>{
                                               'I',  'I',  42, 0, 8, 0, 0, 0, 1,     0,
                                               0x12, 0x01, 3,  0, 1, 0, 0, 0, value, 0};
    tiff.insert(tiff.end(), 6, 0);  // the value's second half, no other directory
    return tiff;
}

// The JPEG with this in an APP1 segment behind its start marker.
inline std::vector<std::uint8_t> with_exif(const std::vector<std::uint8_t>& jpeg,
                                           const std::vector<std::uint8_t>& tiff) {
    std::vector<std::uint8_t> out(jpeg.begin(), jpeg.begin() + 2);
    const std::size_t length = 2 + 6 + tiff.size();
    out.insert(out.end(), {0xFF, 0xE1, static_cast<std::uint8_t>(length >> 8),
                           static_cast<std::uint8_t>(length & 0xFF), 'E', 'x', 'i', 'f', 0, 0});
    out.insert(out.end(), tiff.begin(), tiff.end());
    out.insert(out.end(), jpeg.begin() + 2, jpeg.end());
    return out;
}

}  // namespace deeplab::testing
