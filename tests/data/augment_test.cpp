#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <set>

#include "deeplab/base/error.h"
#include "deeplab/data/loader.h"
#include "deeplab/math/augment.h"
#include "harness/pictures.h"

namespace deeplab::data {
namespace {

using testing::noise_image;
using testing::noise_mask;

// Nothing but the crop.
Augmentation plain(const CropSize& crop) {
    Augmentation a;
    a.crop = crop;
    a.resize = Augmentation::Resize::none;
    a.flip = a.blur = 0;
    return a;
}

// Values 0 … 255 as they are.
constexpr Normalisation as_bytes{{0, 0, 0}, {1 / 255.0f, 1 / 255.0f, 1 / 255.0f}};

int byte_at(const Sample& s, const CropSize& crop, std::int64_t c, std::int64_t y, std::int64_t x) {
    const std::int64_t at = (c * crop.height + y) * crop.width + x;
    return static_cast<int>(std::lround(s.image[static_cast<std::size_t>(at)]));
}

int pixel(const io::Image& image, std::int64_t c, std::int64_t y, std::int64_t x) {
    return image.pixels[static_cast<std::size_t>((y * image.width + x) * 3 + c)];
}

TEST(Resize, TheSameSizeIsTheIdentity) {
    const io::Image image = noise_image(53, 37);
    const io::Mask mask = noise_mask(53, 37);
    EXPECT_EQ(resize_bilinear(image, 53, 37).pixels, image.pixels);
    EXPECT_EQ(resize_nearest(mask, 53, 37).labels, mask.labels);
}

// The separable filter in double precision over the whole image, without intermediate rounding.
double reference_bilinear(const io::Image& image, std::int64_t width, std::int64_t height,
                          std::int64_t c, std::int64_t y, std::int64_t x) {
    const auto weight = [](double at, double centre, double support) {
        return std::max(0.0, 1.0 - std::abs(at + 0.5 - centre) / support);
    };
    const double sx = static_cast<double>(image.width) / static_cast<double>(width);
    const double sy = static_cast<double>(image.height) / static_cast<double>(height);
    const double cx = (static_cast<double>(x) + 0.5) * sx, cy = (static_cast<double>(y) + 0.5) * sy;
    double sum = 0, total = 0;
    for (std::int64_t j = 0; j < image.height; ++j) {
        const double wy = weight(static_cast<double>(j), cy, std::max(1.0, sy));
        if (wy == 0) continue;
        for (std::int64_t i = 0; i < image.width; ++i) {
            const double w = wy * weight(static_cast<double>(i), cx, std::max(1.0, sx));
            sum += w * pixel(image, c, j, i);
            total += w;
        }
    }
    return sum / total;
}

TEST(Resize, BilinearFollowsTheFilterUpAndDown) {
    const io::Image image = noise_image(31, 23);
    for (const auto& [width, height] :
         {std::pair{62, 47}, {31, 40}, {17, 11}, {20, 60}, {5, 3}, {1, 1}, {200, 1}}) {
        const io::Image out = resize_bilinear(image, width, height);
        for (std::int64_t y = 0; y < height; ++y) {
            for (std::int64_t x = 0; x < width; ++x) {
                for (std::int64_t c = 0; c < 3; ++c) {
                    // Two roundings to 8 bits of half a unit each.
                    ASSERT_NEAR(pixel(out, c, y, x),
                                reference_bilinear(image, width, height, c, y, x), 1.001)
                        << width << "x" << height << " at " << x << "," << y;
                }
            }
        }
    }
}

TEST(Resize, NearestTakesTheCentre) {
    const io::Mask mask = noise_mask(31, 23);
    const io::Mask out = resize_nearest(mask, 71, 10);
    for (std::int64_t y = 0; y < 10; ++y) {
        for (std::int64_t x = 0; x < 71; ++x) {
            // (2x+1)*31/142 and (2y+1)*23/20 are never whole: no ties.
            const std::int64_t from = ((2 * y + 1) * 23 / 20) * 31 + (2 * x + 1) * 31 / 142;
            ASSERT_EQ(out.labels[static_cast<std::size_t>(y * 71 + x)],
                      mask.labels[static_cast<std::size_t>(from)]);
        }
    }
}

TEST(Blur, NothingAtRadiusZeroAndOnFlatImages) {
    const io::Image image = noise_image(20, 13);
    EXPECT_EQ(gaussian_blur(image, 0).pixels, image.pixels);
    io::Image flat = image;
    std::fill(flat.pixels.begin(), flat.pixels.end(), std::uint8_t{77});
    for (const float radius : {0.3f, 1.0f, 2.5f, 40.0f})
        EXPECT_EQ(gaussian_blur(flat, radius).pixels, flat.pixels);
}

// A white point in the middle of black becomes the Gaussian, within what six roundings and the box
// approximation leave.
TEST(Blur, APointBecomesAGaussian) {
    constexpr std::int64_t n = 31, middle = 15;
    io::Image image{n, n, std::vector<std::uint8_t>(n * n * 3, 0)};
    for (std::size_t c = 0; c < 3; ++c) image.pixels[(middle * n + middle) * 3 + c] = 255;
    for (const double sigma : {1.6, 2.0, 3.0}) {
        const io::Image out = gaussian_blur(image, static_cast<float>(sigma));
        for (std::int64_t y = 0; y < n; ++y) {
            for (std::int64_t x = 0; x < n; ++x) {
                const double d2 = static_cast<double>((y - middle) * (y - middle) +
                                                      (x - middle) * (x - middle));
                const double wanted = 255 * std::exp(-d2 / (2 * sigma * sigma)) /
                                      (2 * 3.14159265 * sigma * sigma);
                ASSERT_NEAR(pixel(out, 1, y, x), wanted, 2.5) << sigma << " at " << x << "," << y;
            }
        }
    }
}

TEST(Blur, RowsAndColumnsAreTreatedAlike) {
    const io::Image image = noise_image(19, 19);
    io::Image turned = image;
    const auto transpose = [](const io::Image& from, io::Image& to) {
        for (std::int64_t y = 0; y < 19; ++y) {
            for (std::int64_t x = 0; x < 19; ++x) {
                for (std::int64_t c = 0; c < 3; ++c) {
                    to.pixels[static_cast<std::size_t>((x * 19 + y) * 3 + c)] =
                        from.pixels[static_cast<std::size_t>((y * 19 + x) * 3 + c)];
                }
            }
        }
    };
    transpose(image, turned);
    const io::Image a = gaussian_blur(image, 3.0f), b = gaussian_blur(turned, 3.0f);
    io::Image back = b;
    transpose(b, back);
    for (std::size_t i = 0; i < a.pixels.size(); ++i) ASSERT_NEAR(a.pixels[i], back.pixels[i], 2);
}

TEST(Augment, WithoutAugmentationTheCropIsTheInput) {
    const io::Image image = noise_image(40, 40);
    const io::Mask mask = noise_mask(40, 40);
    const Sample s = augment(image, mask, plain(40), Normalisation{}, 255, 1, {0, 0});
    EXPECT_EQ(s.labels, mask.labels);
    EXPECT_EQ(s.valid_pixels, 1600);
    const Normalisation n;
    for (std::int64_t c = 0; c < 3; ++c) {
        for (std::int64_t i = 0; i < 1600; ++i) {
            const auto channel = static_cast<std::size_t>(c);
            const float wanted = (static_cast<float>(
                                      image.pixels[static_cast<std::size_t>(3 * i + c)]) /
                                      255.0f -
                                  n.mean[channel]) /
                                 n.std[channel];
            ASSERT_FLOAT_EQ(s.image[static_cast<std::size_t>(c * 1600 + i)], wanted);
        }
    }
}

TEST(Augment, AFlipIsTheExactMirrorAtAnySize) {
    const io::Image image = noise_image(45, 33);
    const io::Mask mask = noise_mask(45, 33);
    io::Image mirrored = image;
    io::Mask mirrored_mask = mask;
    for (std::int64_t y = 0; y < 33; ++y) {
        for (std::int64_t x = 0; x < 45; ++x) {
            const auto to = static_cast<std::size_t>(y * 45 + x),
                       from = static_cast<std::size_t>(y * 45 + 44 - x);
            mirrored_mask.labels[to] = mask.labels[from];
            for (std::size_t c = 0; c < 3; ++c)
                mirrored.pixels[3 * to + c] = image.pixels[3 * from + c];
        }
    }
    Augmentation flipped = plain(45);
    flipped.flip = 1;
    const Sample same = augment(image, mask, flipped, as_bytes, 255, 1, {0, 0});
    EXPECT_EQ(same.labels,
              augment(mirrored, mirrored_mask, plain(45), as_bytes, 255, 1, {0, 0}).labels);

    Augmentation both = flipped;
    both.resize = Augmentation::Resize::short_edge;
    both.range_low = 20;
    both.range_high = 80;
    both.blur = 0.5;
    Augmentation resized = both;
    resized.flip = 0;
    for (std::uint32_t i = 0; i < 20; ++i) {
        const Sample a = augment(image, mask, both, as_bytes, 255, 1, {0, i});
        const Sample b = augment(mirrored, mirrored_mask, resized, as_bytes, 255, 1, {0, i});
        ASSERT_EQ(a.image, b.image);
        ASSERT_EQ(a.labels, b.labels);
    }
}

// Cutting the wanted part out of the source must not change a pixel: compare with resizing
// everything.
void expect_the_crop_of_the_resized_image(const CropSize& crop) {
    const io::Image image = noise_image(60, 44);
    const io::Mask mask = noise_mask(60, 44);
    Augmentation a = plain(crop);
    a.resize = Augmentation::Resize::short_edge;
    std::set<std::int64_t> lefts, tops;
    for (const std::int64_t edge : {21, 22, 43, 44, 45, 63, 90}) {
        a.range_low = a.range_high = static_cast<double>(edge);
        const std::int64_t width = 60 * edge / 44;
        const io::Image whole = resize_bilinear(image, width, edge);
        const io::Mask labels = resize_nearest(mask, width, edge);
        for (std::uint32_t i = 0; i < 10; ++i) {
            const math::AugmentationDraws draws = math::augmentation_draws(9, {3, i});
            const std::int64_t left = math::draw_crop(draws.left, width, crop.width),
                               top = math::draw_crop(draws.top, edge, crop.height);
            lefts.insert(left);
            tops.insert(top);
            const Sample s = augment(image, mask, a, as_bytes, 255, 9, {3, i});
            for (std::int64_t y = 0; y < crop.height; ++y) {
                for (std::int64_t x = 0; x < crop.width; ++x) {
                    const bool inside = left + x < width && top + y < edge;
                    const auto at = static_cast<std::size_t>((top + y) * width + left + x);
                    ASSERT_EQ(s.labels[static_cast<std::size_t>(y * crop.width + x)],
                              inside ? labels.labels[at] : 0);
                    for (std::int64_t c = 0; c < 3; ++c) {
                        ASSERT_EQ(byte_at(s, crop, c, y, x),
                                  inside ? pixel(whole, c, top + y, left + x) : 0)
                            << "edge " << edge << " at " << x << "," << y;
                    }
                }
            }
        }
    }
    EXPECT_GT(lefts.size(), 10u);
    EXPECT_GT(tops.size(), 10u);
}

TEST(Augment, TheCropIsThatOfTheResizedImage) {
    for (const CropSize& crop : {CropSize(40), CropSize(30, 52), CropSize(52, 30)}) {
        SCOPED_TRACE(::testing::Message() << crop.height << " high, " << crop.width << " wide");
        expect_the_crop_of_the_resized_image(crop);
    }
}

TEST(Augment, PaddingIsBackgroundOrIgnored) {
    const io::Image image = noise_image(10, 6);
    const io::Mask mask = noise_mask(10, 6);
    Augmentation a = plain({9, 16});
    a.pad_color = {10, 20, 30};
    for (const auto pad : {Augmentation::PadLabel::background, Augmentation::PadLabel::ignore}) {
        a.pad_label = pad;
        const bool background = pad == Augmentation::PadLabel::background;
        const Sample s = augment(image, mask, a, as_bytes, 255, 1, {0, 0});
        EXPECT_EQ(s.valid_pixels, background ? 9 * 16 : 6 * 10);
        for (std::int64_t y = 0; y < 9; ++y) {
            for (std::int64_t x = 0; x < 16; ++x) {
                const bool inside = y < 6 && x < 10;
                const int label = s.labels[static_cast<std::size_t>(y * 16 + x)];
                ASSERT_EQ(label, inside       ? mask.labels[static_cast<std::size_t>(y * 10 + x)]
                                 : background ? 0
                                              : 255);
                ASSERT_EQ(byte_at(s, {9, 16}, 2, y, x), inside ? pixel(image, 2, y, x) : 30);
            }
        }
    }
}

TEST(Augment, TheCentreCropIsTheCentre) {
    const io::Image image = noise_image(20, 14);
    const io::Mask mask = noise_mask(20, 14);
    Augmentation a = plain(10);
    a.random_crop = false;
    const Sample s = augment(image, mask, a, as_bytes, 255, 1, {0, 0});
    EXPECT_EQ(byte_at(s, 10, 0, 0, 0), pixel(image, 0, 2, 5));
    EXPECT_EQ(byte_at(s, 10, 0, 9, 9), pixel(image, 0, 11, 14));
    EXPECT_EQ(s.labels[0], mask.labels[2 * 20 + 5]);
    a.crop = {4, 16};
    const Sample wide = augment(image, mask, a, as_bytes, 255, 1, {0, 0});
    EXPECT_EQ(byte_at(wide, a.crop, 0, 0, 0), pixel(image, 0, 5, 2));
    EXPECT_EQ(byte_at(wide, a.crop, 0, 3, 15), pixel(image, 0, 8, 17));
}

TEST(Augment, BlurComesAfterTheCropAndSparesTheLabels) {
    const io::Image image = noise_image(30, 30);
    const io::Mask mask = noise_mask(30, 30);
    Augmentation a = plain(12);
    const Sample sharp = augment(image, mask, a, as_bytes, 255, 4, {0, 5});
    a.blur = 1;
    const Sample blurred = augment(image, mask, a, as_bytes, 255, 4, {0, 5});
    EXPECT_EQ(sharp.labels, blurred.labels);
    io::Image cut{12, 12, std::vector<std::uint8_t>(12 * 12 * 3)};
    for (std::int64_t y = 0; y < 12; ++y) {
        for (std::int64_t x = 0; x < 12; ++x) {
            for (std::int64_t c = 0; c < 3; ++c) {
                cut.pixels[static_cast<std::size_t>(
                    (y * 12 + x) * 3 + c)] = static_cast<std::uint8_t>(byte_at(sharp, 12, c, y, x));
            }
        }
    }
    const float radius = math::uniform(math::augmentation_draws(4, {0, 5}).radius);
    const io::Image wanted = gaussian_blur(cut, radius);
    EXPECT_NE(wanted.pixels, cut.pixels);
    for (std::int64_t y = 0; y < 12; ++y) {
        for (std::int64_t x = 0; x < 12; ++x)
            ASSERT_EQ(byte_at(blurred, 12, 1, y, x), pixel(wanted, 1, y, x));
    }
}

TEST(Augment, SamplesDifferAndRepeat) {
    const io::Image image = noise_image(50, 40);
    const io::Mask mask = noise_mask(50, 40);
    Augmentation a;
    a.crop = 24;
    a.range_low = 20;
    a.range_high = 60;
    const Sample first = augment(image, mask, a, Normalisation{}, 255, 1, {0, 0});
    EXPECT_EQ(first.image, augment(image, mask, a, Normalisation{}, 255, 1, {0, 0}).image);
    EXPECT_NE(first.image, augment(image, mask, a, Normalisation{}, 255, 2, {0, 0}).image);
    EXPECT_NE(first.image, augment(image, mask, a, Normalisation{}, 255, 1, {1, 0}).image);
    EXPECT_NE(first.image, augment(image, mask, a, Normalisation{}, 255, 1, {0, 1}).image);
}

TEST(Augment, CountsTheValidPixelsOfTheCrop) {
    const io::Image image = noise_image(20, 20);
    io::Mask mask = noise_mask(20, 20);
    for (std::size_t i = 0; i < 100; ++i) mask.labels[4 * i] = 255;
    EXPECT_EQ(augment(image, mask, plain(20), Normalisation{}, 255, 1, {0, 0}).valid_pixels, 300);
    std::fill(mask.labels.begin(), mask.labels.end(), std::uint8_t{255});
    EXPECT_EQ(augment(image, mask, plain(20), Normalisation{}, 255, 1, {0, 0}).valid_pixels, 0);
}

TEST(Augment, ExtremeShapesWork) {
    Augmentation a;
    a.crop = 33;
    a.range_low = 1;
    a.range_high = 40;
    for (const auto& [width, height] : {std::pair{1, 1}, {200, 1}, {1, 200}, {2, 3}}) {
        const io::Image image = noise_image(width, height);
        const io::Mask mask = noise_mask(width, height);
        for (std::uint32_t i = 0; i < 20; ++i) {
            const Sample s = augment(image, mask, a, Normalisation{}, 255, 1, {0, i});
            EXPECT_EQ(s.valid_pixels, 33 * 33);
        }
    }
}

TEST(Augment, ImageAndMaskMustAgree) {
    EXPECT_THROW(
        augment(noise_image(4, 4), noise_mask(4, 5), plain(4), Normalisation{}, 255, 1, {0, 0}),
        LogicError);
}

}  // namespace
}  // namespace deeplab::data
