#pragma once
// Decoded samples with their crops, and the crops that the host makes of them.

#include <cstdint>
#include <vector>

#include "deeplab/data/loader.h"
#include "deeplab/exec/backend.h"

namespace deeplab::testing {

const data::CropSize crop{33, 49};
constexpr int ignore = 255;

// Samples of the sizes that a step's number decides, and both ways to bring them.
struct Samples {
    std::vector<data::LabelledImage> decoded;
    std::vector<data::CropWords> words;
    std::vector<float> images;
    std::vector<std::uint8_t> labels;
    std::vector<math::SampleKey> ids;
    double valid = 0;

    Samples(std::uint32_t count, std::uint32_t number) {
        for (std::uint32_t i = 0; i < count; ++i)
            add(40 + 17 * number + 3 * i, 30 + 11 * ((number + i) % 3), {number, i});
    }
    // Of a split, whose samples keep their sizes and pixels from epoch to epoch.
    Samples(const std::vector<std::uint32_t>& members, std::uint32_t epoch) {
        for (const std::uint32_t member : members)
            add(split_width(member), split_height, {epoch, member});
    }
    static constexpr std::int64_t split_height = 41;
    static std::int64_t split_width(std::uint32_t member) { return 43 + 10 * member; }

    void add(std::int64_t width, std::int64_t height, math::SampleKey key) {
        data::Augmentation augmentation;
        augmentation.crop = crop;
        augmentation.range_low = 20;
        augmentation.range_high = 60;
        const data::LabelledImage d = decode(width, height);
        words.push_back(data::crop_words(d.image, d.mask, augmentation, {}, ignore, 3, key));
        const data::Sample s = data::augment(d.image, d.mask, augmentation, {}, ignore, 3, key);
        images.insert(images.end(), s.image.begin(), s.image.end());
        labels.insert(labels.end(), s.labels.begin(), s.labels.end());
        ids.push_back({key.epoch, key.sample});
        valid += static_cast<double>(words.back().valid_pixels);
        decoded.push_back(d);
    }
    static data::LabelledImage decode(std::int64_t width, std::int64_t height) {
        data::LabelledImage d{"", {width, height, {}}, {width, height, {}}};
        for (std::int64_t p = 0; p < width * height; ++p) {
            const std::int64_t truth = (p / width / 8 + p % width / 8) % 5;
            d.mask.labels.push_back(static_cast<std::uint8_t>(p % 11 == 0 ? ignore : truth));
            for (std::int64_t c = 0; c < 3; ++c)
                d.image.pixels.push_back(static_cast<std::uint8_t>(50 * truth + (p + c) % 13));
        }
        return d;
    }
    std::vector<exec::DecodedSample> decoded_samples() const {
        std::vector<exec::DecodedSample> all;
        for (std::size_t i = 0; i < decoded.size(); ++i)
            all.push_back({decoded[i].image.pixels, decoded[i].mask.labels, words[i].words});
        return all;
    }
    exec::MicroBatch step() const {
        exec::MicroBatch s;
        s.samples = ids;
        s.learning_rate = 0.01;
        s.valid_pixels = valid;
        return s;
    }
};

}  // namespace deeplab::testing
