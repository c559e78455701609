// Our pixels against PIL's: tests/golden/make_pixels.py made the fixtures. Limits are the
// project's promise (resizing within 1 of 255, blurring within 2, all else identical); that today
// not a single value differs is asserted as well.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <tuple>

#include "deeplab/base/files.h"
#include "deeplab/data/loader.h"
#include "deeplab/io/value.h"
#include "harness/source_dir.h"

namespace deeplab::data {
namespace {

using Bytes = std::vector<std::uint8_t>;

// --- the script's picture() and labels() ---

std::uint32_t scrambled(std::int64_t index) {
    return static_cast<std::uint32_t>(static_cast<std::uint64_t>(index) * 2654435761u) >> 24;
}

io::Image picture(std::int64_t width, std::int64_t height) {
    io::Image image{width, height, Bytes(static_cast<std::size_t>(3 * width * height))};
    for (std::int64_t y = 0; y < height; ++y) {
        for (std::int64_t x = 0; x < width; ++x) {
            for (std::int64_t c = 0; c < 3; ++c) {
                const std::int64_t i = (y * width + x) * 3 + c;
                const std::int64_t ramps = x * 300 / width + y * 200 / height + 40 * c;
                image.pixels[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(
                    ramps + (scrambled(i) & 31));
            }
        }
    }
    return image;
}

io::Mask labels(std::int64_t width, std::int64_t height) {
    io::Mask mask{width, height, Bytes(static_cast<std::size_t>(width * height))};
    for (std::int64_t y = 0; y < height; ++y) {
        for (std::int64_t x = 0; x < width; ++x) {
            const std::int64_t i = y * width + x;
            const std::int64_t patch = x * 9 / width * 3 + y * 7 / height * 5 + (scrambled(i) >> 6);
            mask.labels[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(
                (x + 2 * y) % 17 == 0 ? 255 : patch % 21);
        }
    }
    return mask;
}

// --- the fixtures ---

// One case, or the whole file.
class Fixture {
public:
    explicit Fixture(const io::Value& value) : object_(*value.get_if<io::Object>()) {}

    const io::Value& at(const char* name) const {
        const io::Value* value = object_.find(name);
        if (value == nullptr) throw std::runtime_error(std::string("no ") + name);
        return *value;
    }
    std::vector<Fixture> cases(const char* name) const {
        std::vector<Fixture> out;
        for (const io::Value& value : *at(name).get_if<io::Array>()) out.emplace_back(value);
        return out;
    }
    std::int64_t integer(const char* name) const { return *at(name).get_if<std::int64_t>(); }
    std::uint32_t crc(const char* name) const { return static_cast<std::uint32_t>(integer(name)); }
    std::string text(const char* name) const { return *at(name).get_if<std::string>(); }
    double number(const char* name) const { return number(at(name)); }
    static double number(const io::Value& value) {
        const double* real = value.get_if<double>();
        return real != nullptr ? *real : static_cast<double>(*value.get_if<std::int64_t>());
    }
    std::vector<double> numbers(const char* name) const {
        std::vector<double> out;
        for (const io::Value& value : *at(name).get_if<io::Array>()) out.push_back(number(value));
        return out;
    }
    std::pair<std::int64_t, std::int64_t> size(const char* name) const {
        const std::vector<double> n = numbers(name);
        return {static_cast<std::int64_t>(n.at(0)), static_cast<std::int64_t>(n.at(1))};
    }

private:
    io::Object object_;
};

class Pixels : public ::testing::Test {
protected:
    Bytes bytes(const Fixture& fixture, const char* name) const {
        const auto [offset, count] = fixture.size(name);
        const auto begin = blob_.begin() + offset;
        return Bytes(begin, begin + count);
    }

    const std::filesystem::path dir_ = testing::source_dir() / "tests/golden/pixels";
    const Fixture file_{io::parse_json(read_text(dir_ / "pixels.json"), "pixels.json")};
    const Bytes blob_ = read_bytes(dir_ / "pixels.bin");
};

// How many values differ; the largest difference must not exceed `limit`.
std::int64_t differing(const Bytes& ours, const Bytes& theirs, int limit) {
    EXPECT_EQ(ours.size(), theirs.size());
    std::int64_t count = 0;
    int largest = 0;
    for (std::size_t i = 0; i < std::min(ours.size(), theirs.size()); ++i) {
        const int difference = std::abs(int{ours[i]} - int{theirs[i]});
        largest = std::max(largest, difference);
        count += difference != 0;
    }
    EXPECT_LE(largest, limit);
    return count;
}

TEST_F(Pixels, ResizingIsPils) {
    std::int64_t values = 0, different = 0;
    for (const Fixture& f : file_.cases("resize")) {
        const auto [w, h] = f.size("from");
        const auto [width, height] = f.size("to");
        SCOPED_TRACE(::testing::Message() << w << "x" << h << " to " << width << "x" << height);
        const Bytes ours = resize_bilinear(picture(w, h), width, height).pixels;
        different += differing(ours, bytes(f, "image"), 1);
        values += std::ssize(ours);
        EXPECT_EQ(resize_nearest(labels(w, h), width, height).labels, bytes(f, "mask"));
    }
    EXPECT_GT(values, 100000);
    EXPECT_EQ(different, 0) << "of " << values << " values: within the limit, but no longer equal";
}

TEST_F(Pixels, ResizingToTheSizesOfTrainingIsPils) {
    for (const Fixture& f : file_.cases("resize_large")) {
        const auto [w, h] = f.size("from");
        const auto [width, height] = f.size("to");
        SCOPED_TRACE(::testing::Message() << w << "x" << h << " to " << width << "x" << height);
        EXPECT_EQ(crc32(resize_bilinear(picture(w, h), width, height).pixels),
                  f.crc("image_crc32"));
        EXPECT_EQ(crc32(resize_nearest(labels(w, h), width, height).labels), f.crc("mask_crc32"));
    }
}

TEST_F(Pixels, BlurringIsPils) {
    std::int64_t values = 0, different = 0;
    for (const Fixture& f : file_.cases("blur")) {
        const auto [w, h] = f.size("size");
        SCOPED_TRACE(::testing::Message() << w << "x" << h << ", radius " << f.number("radius"));
        const Bytes ours = gaussian_blur(picture(w, h), static_cast<float>(f.number("radius")))
                               .pixels;
        different += differing(ours, bytes(f, "image"), 2);
        values += std::ssize(ours);
    }
    EXPECT_GT(values, 20000);
    EXPECT_EQ(different, 0) << "of " << values << " values: within the limit, but no longer equal";
    for (const Fixture& f : file_.cases("blur_large")) {
        const auto [w, h] = f.size("size");
        EXPECT_EQ(
            crc32(gaussian_blur(picture(w, h), static_cast<float>(f.number("radius"))).pixels),
            f.crc("image_crc32"))
            << "radius " << f.number("radius");
    }
}

TEST_F(Pixels, NormalisationIsNumpys) {
    io::Image every{256, 1, {}};
    for (int v = 0; v < 256; ++v)
        every.pixels.insert(every.pixels.end(), 3, static_cast<std::uint8_t>(v));
    std::vector<float> planes(3 * 256);
    normalise(every, Normalisation{}, planes.data());
    const Bytes wanted = bytes(Fixture(file_.at("normalise")), "values");
    ASSERT_EQ(wanted.size(), planes.size() * sizeof(float));
    EXPECT_EQ(std::memcmp(planes.data(), wanted.data(), wanted.size()), 0);
}

Augmentation augmentation_of(const Fixture& f) {
    Augmentation a;
    if (const auto* side = f.at("crop").get_if<std::int64_t>()) {
        a.crop = *side;
    } else {
        std::tie(a.crop.height, a.crop.width) = f.size("crop");
    }
    a.resize = f.text("resize") == "factor" ? Augmentation::Resize::factor
                                            : Augmentation::Resize::short_edge;
    a.range_low = f.numbers("range").at(0);
    a.range_high = f.numbers("range").at(1);
    a.step = f.number("step");
    a.flip = f.number("flip");
    a.blur = f.number("blur");
    a.pad_label = f.text("pad_label") == "ignore" ? Augmentation::PadLabel::ignore
                                                  : Augmentation::PadLabel::background;
    for (std::size_t c = 0; c < 3; ++c)
        a.pad_color[c] = static_cast<std::uint8_t>(f.numbers("pad_color").at(c));
    return a;
}

// The sample with its values as bytes again, interleaved.
Bytes interleaved(const Sample& sample) {
    const std::size_t n = sample.labels.size();
    Bytes out(3 * n);
    for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t c = 0; c < 3; ++c)
            out[3 * i + c] = static_cast<std::uint8_t>(std::lround(sample.image[c * n + i]));
    }
    return out;
}

// Calls check(case, image bytes, sample) for every case of a list.
template <class Check>
void for_each_sample(const std::vector<Fixture>& cases, const Check& check) {
    constexpr Normalisation as_bytes{{0, 0, 0}, {1 / 255.0f, 1 / 255.0f, 1 / 255.0f}};
    for (const Fixture& f : cases) {
        const auto [w, h] = f.size("size");
        const auto [epoch, sample] = f.size("key");
        const math::SampleKey key{static_cast<std::uint32_t>(epoch),
                                  static_cast<std::uint32_t>(sample)};
        SCOPED_TRACE(::testing::Message()
                     << w << "x" << h << ", " << f.text("resize") << ", sample " << sample
                     << ", padding " << f.text("pad_label"));
        const io::Image image = picture(w, h);
        const io::Mask mask = labels(w, h);
        const Augmentation a = augmentation_of(f);
        const auto seed = static_cast<std::uint64_t>(f.integer("seed"));
        const Sample plain = augment(image, mask, a, as_bytes, 255, seed, key);
        const Sample normal = augment(image, mask, a, Normalisation{}, 255, seed, key);
        check(f, interleaved(plain), plain.labels);
        EXPECT_EQ(normal.valid_pixels, f.integer("valid"));
        const auto* floats = reinterpret_cast<const std::uint8_t*>(normal.image.data());
        EXPECT_EQ(crc32({floats, normal.image.size() * sizeof(float)}), f.crc("planes_crc32"));
    }
}

TEST_F(Pixels, TheWholePipelineIsPils) {
    for_each_sample(file_.cases("pipeline"),
                    [&](const Fixture& f, const Bytes& image, const Bytes& mask) {
                        EXPECT_EQ(differing(image, bytes(f, "image"), 2), 0);
                        EXPECT_EQ(mask, bytes(f, "mask"));
                    });
}

TEST_F(Pixels, TheWholePipelineIsPilsAtTheCropOfTrainingAndForOblongCrops) {
    for (const char* list : {"pipeline_large", "pipeline_oblong"}) {
        for_each_sample(file_.cases(list),
                        [&](const Fixture& f, const Bytes& image, const Bytes& mask) {
                            EXPECT_EQ(crc32(image), f.crc("image_crc32"));
                            EXPECT_EQ(crc32(mask), f.crc("mask_crc32"));
                        });
    }
}

// JPEG: as long as PIL and we use the same library (libjpeg-turbo 2 or later).
TEST_F(Pixels, DecodingIsPils) {
    for (const Fixture& f : file_.cases("images")) {
        SCOPED_TRACE(f.text("name"));
        const io::Image image = io::decode_image(bytes(f, "file"), f.text("name"));
        EXPECT_EQ(std::pair(image.width, image.height), f.size("size"));
        EXPECT_EQ(differing(image.pixels, bytes(f, "image"), 0), 0);
    }
    for (const Fixture& f : file_.cases("masks")) {
        SCOPED_TRACE(f.text("name"));
        const io::Mask mask = io::decode_mask(bytes(f, "file"), f.text("name"));
        EXPECT_EQ(std::pair(mask.width, mask.height), f.size("size"));
        EXPECT_EQ(mask.labels, bytes(f, "mask"));
    }
}

}  // namespace
}  // namespace deeplab::data
