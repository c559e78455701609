#include "augment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "deeplab/data/loader.h"
#include "deeplab/math/crop.h"
#include "device.h"
#include "harness/pictures.h"

namespace deeplab::testing {
namespace {

constexpr int ignore = 255;

struct Decoded {
    io::Image image;
    io::Mask mask;
};
Decoded noise(std::int64_t width, std::int64_t height, std::uint64_t seed) {
    return {noise_image(width, height, seed),
            noise_mask(width, height, {.first = 0, .last = 20, .ignored = 12}, seed)};
}

struct Case {
    const char* name;
    data::Augmentation augmentation;
    std::vector<std::pair<std::int64_t, std::int64_t>> sizes;  // of the decoded samples
};

data::Augmentation augmentation(data::CropSize crop, data::Augmentation::Resize resize, double low,
                                double high, double blur) {
    data::Augmentation a;
    a.crop = crop;
    a.resize = resize;
    a.range_low = low;
    a.range_high = high;
    a.step = 0;
    a.blur = blur;
    a.pad_color = {124, 116, 104};
    return a;
}

using Resize = data::Augmentation::Resize;

class AugmentKernels : public ::testing::TestWithParam<std::tuple<Case, DType>> {
protected:
    // Memory of the device, of exactly its size.
    struct OnDevice {
        DeviceArray<std::uint8_t> pixels, labels;
        DeviceArray<std::int32_t> words;
    };

    static void expect_the_hosts_crops(const Case& c, DType type, std::uint64_t seed) {
        const auto [height, width] = c.augmentation.crop;
        const std::int64_t area = height * width, count = std::ssize(c.sizes);
        std::vector<OnDevice> samples;
        std::vector<data::Sample> expected;
        DeviceArray<cuda::CropSource> sources(c.sizes.size());
        for (std::size_t i = 0; i < c.sizes.size(); ++i) {
            const Decoded d = noise(c.sizes[i].first, c.sizes[i].second, seed + i);
            const math::SampleKey key{static_cast<std::uint32_t>(seed),
                                      static_cast<std::uint32_t>(i)};
            const data::Normalisation norm;
            const data::CropWords crop_words = data::crop_words(d.image, d.mask, c.augmentation,
                                                                norm, ignore, 5, key);
            expected.push_back(
                data::augment(d.image, d.mask, c.augmentation, norm, ignore, 5, key));
            EXPECT_EQ(crop_words.valid_pixels, expected.back().valid_pixels);
            samples.push_back({DeviceArray<std::uint8_t>(d.image.pixels),
                               DeviceArray<std::uint8_t>(d.mask.labels),
                               DeviceArray<std::int32_t>(crop_words.words)});
            sources.data()[i] = {samples.back().pixels.data(), samples.back().labels.data(),
                                 samples.back().words.data()};
        }
        const DeviceTensor images({count, 3, height, width}, type);
        const DeviceArray<std::uint8_t> labels(static_cast<std::size_t>(count * area));
        const DeviceArray<std::uint8_t> scratch(
            static_cast<std::size_t>(cuda::augment_scratch_bytes(images.view().shape)));
        cuda::augment(no_stream, sources.data(), images.view(), labels.data(), scratch.data());

        const reference::Tensor got = images.values();
        const std::vector<std::uint8_t> got_labels = labels.values();
        for (std::int64_t n = 0; n < count; ++n) {
            const data::Sample& sample = expected[static_cast<std::size_t>(n)];
            std::int64_t wrong = 0;
            for (std::int64_t i = 0; i < 3 * area; ++i) {
                const double value = got.data[static_cast<std::size_t>(3 * n * area + i)];
                const auto host = static_cast<double>(sample.image[static_cast<std::size_t>(i)]);
                if (value != round_to(type, host)) ++wrong;
            }
            EXPECT_EQ(wrong, 0) << "values of sample " << n;
            EXPECT_TRUE(std::equal(sample.labels.begin(), sample.labels.end(),
                                   got_labels.begin() + n * area))
                << "labels of sample " << n;
        }
    }
};

TEST_P(AugmentKernels, MakeTheHostsCropsBitByBit) {
    const auto& [c, type] = GetParam();
    for (const std::uint64_t seed : {1, 2, 3}) expect_the_hosts_crops(c, type, 10 * seed);
}

data::Augmentation ignoring(data::Augmentation a) {
    a.pad_label = data::Augmentation::PadLabel::ignore;
    return a;
}

INSTANTIATE_TEST_SUITE_P(
    Cases, AugmentKernels,
    ::testing::Combine(
        ::testing::Values(
            Case{"larger", augmentation(65, Resize::factor, 1, 3, 0.5), {{50, 37}, {41, 60}}},
            Case{"smaller",
                 augmentation(33, Resize::factor, 0.1, 1, 0.5),
                 {{200, 137}, {99, 301}, {57, 57}}},
            Case{"padded",
                 ignoring(augmentation(49, Resize::short_edge, 5, 60, 1)),
                 {{30, 20}, {17, 41}, {40, 9}}},
            Case{"as it is", augmentation(35, Resize::none, 1, 1, 1), {{35, 35}, {20, 70}}},
            Case{"one row or column",
                 augmentation(33, Resize::factor, 0.2, 2, 1),
                 {{61, 1}, {1, 61}, {1, 1}}},
            Case{"wider than a block", augmentation(301, Resize::factor, 0.5, 2, 0.5), {{310, 90}}},
            Case{"taller than a strip", augmentation(801, Resize::none, 1, 1, 1), {{40, 30}}},
            Case{"wide",
                 augmentation({37, 81}, Resize::factor, 0.5, 2, 0.5),
                 {{90, 60}, {50, 97}, {60, 20}}},
            Case{"tall",
                 augmentation({81, 37}, Resize::factor, 0.5, 2, 0.5),
                 {{60, 90}, {97, 50}, {20, 60}}},
            Case{"wide and padded",
                 ignoring(augmentation({33, 70}, Resize::short_edge, 5, 60, 1)),
                 {{30, 20}, {17, 41}}},
            Case{"wider than a block, low",
                 augmentation({35, 801}, Resize::factor, 1, 2, 1),
                 {{700, 30}, {40, 30}}},
            Case{"taller than a strip, narrow",
                 augmentation({801, 35}, Resize::factor, 1, 2, 1),
                 {{30, 700}, {40, 30}}}),
        ::testing::Values(DType::f32, DType::bf16)),
    [](const auto& param) {
        std::string name = std::get<0>(param.param).name;
        std::erase(name, ',');
        std::replace(name.begin(), name.end(), ' ', '_');
        return name + (std::get<1>(param.param) == DType::f32 ? "_f32" : "_bf16");
    });

// The draws above must include what the cases are for.
TEST(CropWords, TellWhetherASampleIsMirroredAndBlurred) {
    const Decoded d = noise(40, 30, 1);
    bool seen[2][2] = {};
    for (std::uint32_t i = 0; i < 64; ++i) {
        const data::CropWords crop = data::crop_words(
            d.image, d.mask, augmentation(33, Resize::factor, 1, 2, 0.5), {}, ignore, 5, {1, i});
        math::CropHeader header;
        std::memcpy(&header, crop.words.data(), sizeof header);
        seen[header.flip][header.blur_radius >= 0 ? 1 : 0] = true;
    }
    EXPECT_TRUE(seen[0][0] && seen[0][1] && seen[1][0] && seen[1][1]);
}

}  // namespace
}  // namespace deeplab::testing
