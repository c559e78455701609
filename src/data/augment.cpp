#include "augment.h"

#include <algorithm>
#include <cmath>

#include "deeplab/base/error.h"
#include "deeplab/math/augment.h"
#include "resize.h"

namespace deeplab::data {

AugmentationPlan plan_augmentation(const Augmentation& augmentation, std::int64_t width,
                                   std::int64_t height, std::uint64_t seed, math::SampleKey key) {
    const math::AugmentationDraws draws = math::augmentation_draws(seed, key);
    math::Size size{width, height};
    switch (augmentation.resize) {
        case Augmentation::Resize::none: break;
        case Augmentation::Resize::short_edge: {
            const auto low = static_cast<std::int64_t>(std::ceil(augmentation.range_low));
            const auto high = static_cast<std::int64_t>(std::floor(augmentation.range_high));
            expects(1 <= low && low <= high, "the range of short edges holds a positive integer");
            size = math::short_edge_size(width, height, math::draw_edge(draws.size, low, high));
            break;
        }
        case Augmentation::Resize::factor: {
            expects(0 < augmentation.range_low && augmentation.range_low <= augmentation.range_high,
                    "the range of factors is positive and in order");
            const double factor = math::draw_factor(draws.size, augmentation.range_low,
                                                    augmentation.range_high, augmentation.step);
            size = math::factor_size(width, height, factor);
            break;
        }
    }
    AugmentationPlan plan;
    plan.flip = static_cast<double>(math::uniform(draws.flip)) < augmentation.flip;
    plan.width = size.width;
    plan.height = size.height;
    if (augmentation.random_crop) {
        plan.left = math::draw_crop(draws.left, size.width, augmentation.crop);
        plan.top = math::draw_crop(draws.top, size.height, augmentation.crop);
    } else {
        plan.left = math::centre_crop(size.width, augmentation.crop);
        plan.top = math::centre_crop(size.height, augmentation.crop);
    }
    const bool blur = static_cast<double>(math::uniform(draws.blur)) < augmentation.blur;
    plan.blur_radius = blur ? math::uniform(draws.radius) : 0.0f;
    return plan;
}

std::int64_t augment_into(const io::Image& image, const io::Mask& mask,
                          const Augmentation& augmentation, const Normalisation& normalisation,
                          int ignore, std::uint64_t seed, math::SampleKey key, float* planes,
                          std::uint8_t* labels, AugmentScratch& scratch) {
    expects(image.width == mask.width && image.height == mask.height,
            "image and mask have one size");
    expects(augmentation.crop > 0, "the crop has pixels");
    const std::int64_t crop = augmentation.crop;
    const AugmentationPlan plan = plan_augmentation(augmentation, image.width, image.height, seed,
                                                    key);
    const ResizeRegion region{plan.flip,
                              plan.width,
                              plan.height,
                              plan.left,
                              plan.top,
                              std::min(crop, plan.width - plan.left),
                              std::min(crop, plan.height - plan.top)};

    StageClock& clock = scratch.clock;
    io::Image& pixels = scratch.crop;
    pixels.width = pixels.height = crop;
    pixels.pixels.resize(static_cast<std::size_t>(3 * crop * crop));
    const bool padded = region.columns < crop || region.rows < crop;
    if (padded) {
        for (std::int64_t i = 0; i < crop * crop; ++i) {
            std::copy(augmentation.pad_color.begin(), augmentation.pad_color.end(),
                      pixels.pixels.begin() + 3 * i);
        }
        const bool as_background = augmentation.pad_label == Augmentation::PadLabel::background;
        expects(as_background || (0 <= ignore && ignore <= 255), "the ignore label is a byte");
        std::fill_n(labels, crop * crop, static_cast<std::uint8_t>(as_background ? 0 : ignore));
    }
    clock.mark(Stage::rest);
    resize_bilinear(image, region, pixels.pixels.data(), crop, scratch.resize);
    clock.mark(Stage::resize_image);
    resize_nearest(mask, region, labels, crop, scratch.resize);
    clock.mark(Stage::resize_mask);
    gaussian_blur(pixels, plan.blur_radius, scratch.blur);
    clock.mark(Stage::blur);
    normalise(pixels, normalisation, planes);
    clock.mark(Stage::normalise);
    return crop * crop - std::count_if(labels, labels + crop * crop,
                                       [ignore](std::uint8_t v) { return v == ignore; });
}

Sample augment(const io::Image& image, const io::Mask& mask, const Augmentation& augmentation,
               const Normalisation& normalisation, int ignore, std::uint64_t seed,
               math::SampleKey key) {
    expects(augmentation.crop > 0, "the crop has pixels");
    const auto pixels = static_cast<std::size_t>(augmentation.crop * augmentation.crop);
    Sample sample{std::vector<float>(3 * pixels), std::vector<std::uint8_t>(pixels), 0};
    AugmentScratch scratch;
    sample.valid_pixels = augment_into(image, mask, augmentation, normalisation, ignore, seed, key,
                                       sample.image.data(), sample.labels.data(), scratch);
    return sample;
}

void normalise(const io::Image& image, const Normalisation& normalisation, float* planes) {
    std::array<std::array<float, 256>, 3> table;
    for (std::size_t c = 0; c < 3; ++c) {
        for (std::size_t v = 0; v < 256; ++v) {
            table[c][v] = math::normalised(static_cast<std::uint8_t>(v), normalisation.mean[c],
                                           normalisation.std[c]);
        }
    }
    const std::int64_t n = image.width * image.height;
    const std::uint8_t* p = image.pixels.data();
    for (std::int64_t i = 0; i < n; ++i) {
        planes[i] = table[0][p[3 * i]];
        planes[n + i] = table[1][p[3 * i + 1]];
        planes[2 * n + i] = table[2][p[3 * i + 2]];
    }
}

}  // namespace deeplab::data
