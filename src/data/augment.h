#pragma once
// One augmented sample, written where its batch wants it.

#include <cstdint>

#include "deeplab/data/loader.h"
#include "resize.h"
#include "stage_clock.h"

namespace deeplab::data {

// What a sample's random numbers decide, for an image of a given size.
struct AugmentationPlan {
    bool flip = false;
    std::int64_t width = 0, height = 0;  // after resizing
    std::int64_t left = 0, top = 0;      // of the crop
    float blur_radius = 0;               // 0: none
};

AugmentationPlan plan_augmentation(const Augmentation& augmentation, std::int64_t width,
                                   std::int64_t height, std::uint64_t seed, math::SampleKey key);

// The part of the resized image that the crop shows.
ResizeRegion crop_region(const AugmentationPlan& plan, const CropSize& crop);
// Of what lies outside of it.
std::uint8_t pad_label(const Augmentation& augmentation, int ignore);

struct BlurScratch {
    std::vector<std::uint8_t> image, from, to;
    std::vector<std::uint32_t> sums;
};
// In place.
void gaussian_blur(io::Image& image, float radius, BlurScratch& scratch);

// What a worker keeps from one sample to the next: fresh memory costs a page fault every 4 KiB.
struct AugmentScratch {
    StageClock clock;
    io::Image crop;
    ResizeScratch resize;
    BlurScratch blur;
};

// planes: (3, crop.height, crop.width); labels: (crop.height, crop.width). Returns the number of
// labels that are not `ignore`.
std::int64_t augment_into(const io::Image& image, const io::Mask& mask,
                          const Augmentation& augmentation, const Normalisation& normalisation,
                          int ignore, std::uint64_t seed, math::SampleKey key, float* planes,
                          std::uint8_t* labels, AugmentScratch& scratch);

}  // namespace deeplab::data
