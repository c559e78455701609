#include "augment.h"

#include <algorithm>
#include <cmath>
#include <cstring>

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
        plan.left = math::draw_crop(draws.left, size.width, augmentation.crop.width);
        plan.top = math::draw_crop(draws.top, size.height, augmentation.crop.height);
    } else {
        plan.left = math::centre_crop(size.width, augmentation.crop.width);
        plan.top = math::centre_crop(size.height, augmentation.crop.height);
    }
    const bool blur = static_cast<double>(math::uniform(draws.blur)) < augmentation.blur;
    plan.blur_radius = blur ? math::uniform(draws.radius) : 0.0f;
    return plan;
}

ResizeRegion crop_region(const AugmentationPlan& plan, const CropSize& crop) {
    return {plan.flip,
            plan.width,
            plan.height,
            plan.left,
            plan.top,
            std::min(crop.width, plan.width - plan.left),
            std::min(crop.height, plan.height - plan.top)};
}

std::uint8_t pad_label(const Augmentation& augmentation, int ignore) {
    if (augmentation.pad_label == Augmentation::PadLabel::background) return 0;
    expects(0 <= ignore && ignore <= 255, "the ignore label is a byte");
    return static_cast<std::uint8_t>(ignore);
}

namespace {

// Fills what lies right of and below the resized image.
void pad(const ResizeRegion& region, const std::array<std::uint8_t, 3>& color, std::uint8_t label,
         io::Image& pixels, std::uint8_t* labels) {
    const std::int64_t width = pixels.width;
    for (std::int64_t y = 0; y < pixels.height; ++y) {
        const std::int64_t begin = y < region.rows ? region.columns : 0;
        std::uint8_t* row = pixels.pixels.data() + 3 * y * width;
        for (std::int64_t x = begin; x < width; ++x) {
            for (std::size_t c = 0; c < 3; ++c)
                row[3 * x + static_cast<std::int64_t>(c)] = color[c];
        }
        std::memset(labels + y * width + begin, label, static_cast<std::size_t>(width - begin));
    }
}

}  // namespace

std::int64_t augment_into(const io::Image& image, const io::Mask& mask,
                          const Augmentation& augmentation, const Normalisation& normalisation,
                          int ignore, std::uint64_t seed, math::SampleKey key, float* planes,
                          std::uint8_t* labels, AugmentScratch& scratch) {
    expects(image.width == mask.width && image.height == mask.height,
            "image and mask have one size");
    const CropSize& crop = augmentation.crop;
    expects(crop.height > 0 && crop.width > 0, "the crop has pixels");
    const AugmentationPlan plan = plan_augmentation(augmentation, image.width, image.height, seed,
                                                    key);
    const ResizeRegion region = crop_region(plan, crop);

    StageClock& clock = scratch.clock;
    io::Image& pixels = scratch.crop;
    pixels.width = crop.width;
    pixels.height = crop.height;
    pixels.pixels.resize(static_cast<std::size_t>(3 * crop.pixels()));
    if (region.columns < crop.width || region.rows < crop.height) {
        pad(region, augmentation.pad_color, pad_label(augmentation, ignore), pixels, labels);
    }
    clock.mark(Stage::rest);
    resize_bilinear(image, region, pixels.pixels.data(), crop.width, scratch.resize);
    clock.mark(Stage::resize_image);
    resize_nearest(mask, region, labels, crop.width, scratch.resize);
    clock.mark(Stage::resize_mask);
    gaussian_blur(pixels, plan.blur_radius, scratch.blur);
    clock.mark(Stage::blur);
    normalise(pixels, normalisation, planes);
    clock.mark(Stage::normalise);
    return std::count_if(labels, labels + crop.pixels(),
                         [ignore](std::uint8_t v) { return v != ignore; });
}

Sample augment(const io::Image& image, const io::Mask& mask, const Augmentation& augmentation,
               const Normalisation& normalisation, int ignore, std::uint64_t seed,
               math::SampleKey key) {
    expects(augmentation.crop.height > 0 && augmentation.crop.width > 0, "the crop has pixels");
    const auto pixels = static_cast<std::size_t>(augmentation.crop.pixels());
    Sample sample{std::vector<float>(3 * pixels), std::vector<std::uint8_t>(pixels), 0};
    AugmentScratch scratch;
    sample.valid_pixels = augment_into(image, mask, augmentation, normalisation, ignore, seed, key,
                                       sample.image.data(), sample.labels.data(), scratch);
    return sample;
}

void normalise(const io::Image& image, const Normalisation& normalisation,
               float* __restrict planes) {
    const std::int64_t n = image.width * image.height;
    const std::uint8_t* __restrict p = image.pixels.data();
    const auto [mean_r, mean_g, mean_b] = normalisation.mean;
    const auto [std_r, std_g, std_b] = normalisation.std;
    // Two divisions a value, as defined: in vectors they are twice as fast as looking values up.
    for (std::int64_t i = 0; i < n; ++i) {
        planes[i] = math::normalised(p[3 * i], mean_r, std_r);
        planes[n + i] = math::normalised(p[3 * i + 1], mean_g, std_g);
        planes[2 * n + i] = math::normalised(p[3 * i + 2], mean_b, std_b);
    }
}

}  // namespace deeplab::data
