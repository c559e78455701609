// Crops for a device to make.

#include <algorithm>
#include <cstring>

#include "augment.h"
#include "deeplab/base/error.h"
#include "deeplab/math/crop.h"

namespace deeplab::data {
namespace {

math::CropHeader header_of(const io::Image& image, const AugmentationPlan& plan,
                           const Augmentation& augmentation, const Normalisation& normalisation,
                           int ignore) {
    math::CropHeader header{};
    const ResizeRegion region = crop_region(plan, augmentation.crop);
    header.width = static_cast<std::int32_t>(image.width);
    header.height = static_cast<std::int32_t>(image.height);
    header.columns = static_cast<std::int32_t>(region.columns);
    header.rows = static_cast<std::int32_t>(region.rows);
    header.flip = plan.flip ? 1 : 0;
    if (region.columns < augmentation.crop.width || region.rows < augmentation.crop.height)
        header.pad_label = pad_label(augmentation, ignore);
    header.blur_radius = -1;
    if (plan.blur_radius > 0) {
        const math::ExtendedBox box = math::gaussian_box(plan.blur_radius);
        header.blur_radius = box.radius;
        header.blur_inner = box.inner;
        header.blur_outer = box.outer;
    }
    for (std::size_t c = 0; c < 3; ++c) {
        header.pad_color[c] = augmentation.pad_color[c];
        header.mean[c] = normalisation.mean[c];
        header.std[c] = normalisation.std[c];
    }
    return header;
}

// Each distinct row of labels is counted once.
std::int64_t count_valid(const io::Mask& mask, const std::vector<std::int32_t>& columns,
                         const std::vector<std::int32_t>& rows, int ignore) {
    std::int64_t valid = 0, of_row = 0;
    std::int32_t above = -1;
    for (const std::int32_t row : rows) {
        if (row != above) {
            const std::uint8_t* labels = mask.labels.data() + row * mask.width;
            of_row = std::count_if(
                columns.begin(), columns.end(),
                [labels, ignore](std::int32_t x) { return labels[x] != ignore; });
            above = row;
        }
        valid += of_row;
    }
    return valid;
}

}  // namespace

CropWords crop_words(const io::Image& image, const io::Mask& mask, const Augmentation& augmentation,
                     const Normalisation& normalisation, int ignore, std::uint64_t seed,
                     math::SampleKey key) {
    expects(image.width == mask.width && image.height == mask.height,
            "image and mask have one size");
    expects(augmentation.crop.height > 0 && augmentation.crop.width > 0, "the crop has pixels");
    const AugmentationPlan plan = plan_augmentation(augmentation, image.width, image.height, seed,
                                                    key);
    const ResizeRegion region = crop_region(plan, augmentation.crop);
    math::CropHeader header = header_of(image, plan, augmentation, normalisation, ignore);
    AxisWeights across, down;
    axis_weights(image.width, region.width, region.left, region.columns, across);
    axis_weights(image.height, region.height, region.top, region.rows, down);
    header.taps_across = static_cast<std::int32_t>(across.taps);
    header.taps_down = static_cast<std::int32_t>(down.taps);
    std::vector<std::int32_t> columns, rows;
    nearest_pixels(mask.width, region.width, region.left, region.columns, region.flip, columns);
    nearest_pixels(mask.height, region.height, region.top, region.rows, false, rows);

    CropWords crop;
    crop.words.resize(static_cast<std::size_t>(math::crop_header_words));
    std::memcpy(crop.words.data(), &header, sizeof header);
    for (const auto* table :
         {&across.first, &across.weights, &down.first, &down.weights, &columns, &rows})
        crop.words.insert(crop.words.end(), table->begin(), table->end());
    ensures(static_cast<std::int64_t>(crop.words.size()) == math::crop_tables(header).end,
            "the tables lie where a kernel looks for them");
    crop.valid_pixels = count_valid(mask, columns, rows, ignore);
    const std::int64_t outside = augmentation.crop.pixels() - region.columns * region.rows;
    if (header.pad_label != ignore) crop.valid_pixels += outside;
    return crop;
}

}  // namespace deeplab::data
