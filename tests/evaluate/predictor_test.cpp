#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/evaluate/evaluator.h"
#include "harness/compare.h"
#include "harness/pictures.h"
#include "sampling_backend.h"

namespace deeplab::evaluate {
namespace {

const model::ModelConfig network{.backbone = "resnet18", .num_classes = 3};
// Logits are then v/255 - 0.5 times 16: far enough apart for a softmax that is not flat.
const data::Normalisation normalisation{.mean = {0.5f, 0.5f, 0.5f},
                                        .std = {0.0625f, 0.0625f, 0.0625f}};

io::Image mirror(const io::Image& image) {
    io::Image out = image;
    for (std::int64_t i = 0; i < image.width * image.height; ++i) {
        const std::int64_t x = i % image.width, from = i - x + image.width - 1 - x;
        for (std::int64_t c = 0; c < 3; ++c) {
            out.pixels[static_cast<std::size_t>(i * 3 + c)] = image.pixels[static_cast<std::size_t>(
                from * 3 + c)];
        }
    }
    return out;
}

std::vector<float> mirror(std::vector<float> rows, std::int64_t width) {
    for (auto row = rows.begin(); row != rows.end(); row += width) std::reverse(row, row + width);
    return rows;
}

std::vector<double> softmax(const std::vector<double>& logits, std::size_t pixels) {
    std::vector<double> out(logits.size());
    for (std::size_t i = 0; i < pixels; ++i) {
        double sum = 0;
        for (std::size_t at = i; at < out.size(); at += pixels)
            sum += out[at] = std::exp(logits[at]);
        for (std::size_t at = i; at < out.size(); at += pixels) out[at] /= sum;
    }
    return out;
}

double clamped(const std::vector<double>& plane, std::int64_t width, std::int64_t height, double x,
               double y) {
    const auto at = [&](double px, double py) {
        const auto ix = static_cast<std::int64_t>(
            std::clamp(px, 0.0, static_cast<double>(width - 1)));
        const auto iy = static_cast<std::int64_t>(
            std::clamp(py, 0.0, static_cast<double>(height - 1)));
        return plane[static_cast<std::size_t>(iy * width + ix)];
    };
    const double x0 = std::floor(x), y0 = std::floor(y), tx = x - x0, ty = y - y0;
    return (1 - ty) * ((1 - tx) * at(x0, y0) + tx * at(x0 + 1, y0)) +
           ty * ((1 - tx) * at(x0, y0 + 1) + tx * at(x0 + 1, y0 + 1));
}

// The logits as they must come out, in double precision: normalise, pad with zeros, sample every
// fourth, interpolate.
std::vector<double> reference_logits(const io::Image& image) {
    const auto grid_side = [](std::int64_t size) {
        return (std::max<std::int64_t>(size, 17) - 1 + 15) / 16 * 4 + 1;
    };
    const std::int64_t gw = grid_side(image.width), gh = grid_side(image.height);
    std::vector<double> out;
    for (std::int64_t c = 0; c < 3; ++c) {
        std::vector<double> grid;
        for (std::int64_t i = 0; i < gw * gh; ++i) {
            const std::int64_t x = i % gw * 4, y = i / gw * 4;
            const bool inside = x < image.width && y < image.height;
            grid.push_back(
                inside ? (image.pixels[static_cast<std::size_t>((y * image.width + x) * 3 + c)] /
                              255.0 -
                          0.5) *
                             16
                       : 0.0);
        }
        for (std::int64_t i = 0; i < image.width * image.height; ++i) {
            out.push_back(clamped(grid, gw, gh, static_cast<double>(i % image.width) / 4,
                                  static_cast<double>(i / image.width) / 4));
        }
    }
    return out;
}

struct Case {
    std::int64_t width, height;
};
// Smaller than the network's smallest input, aligned (16k+1), one short of it, one more, long and
// thin.
class Sizes : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Predictor, Sizes,
                         ::testing::Values(Case{1, 1}, Case{33, 17}, Case{32, 48}, Case{34, 18},
                                           Case{101, 3}),
                         [](const auto& sizes) {
                             return std::to_string(sizes.param.width) + "x" +
                                    std::to_string(sizes.param.height);
                         });

TEST_P(Sizes, ImageStandsInTheUpperLeftOfAMeanPixelBorder) {
    testing::SamplingBackend backend;
    Predictor predictor(backend, network, {.normalisation = normalisation});
    const io::Image image = testing::noise_image(GetParam().width, GetParam().height, 1);
    const std::vector<double> expected = reference_logits(image);
    EXPECT_LT(testing::largest_difference(predictor.logits(image), expected), 1e-4);
    const auto pixels = static_cast<std::size_t>(image.width * image.height);
    EXPECT_LT(testing::largest_difference(predictor.scores(image), softmax(expected, pixels)),
              1e-5);
}

TEST_P(Sizes, PredictionIsTheArgMaxOfTheScores) {
    testing::SamplingBackend backend;
    Predictor predictor(backend, network, {.normalisation = normalisation});
    const io::Image image = testing::noise_image(GetParam().width, GetParam().height, 2);
    const io::Mask mask = predictor.predict(image);
    EXPECT_EQ(mask.width, image.width);
    EXPECT_EQ(mask.height, image.height);
    EXPECT_EQ(mask.labels, arg_max(predictor.logits(image), 3, image.height, image.width).labels);
    Predictor flipping(backend, network, {.flip = true, .normalisation = normalisation});
    EXPECT_EQ(flipping.predict(image).labels,
              arg_max(flipping.scores(image), 3, image.height, image.width).labels);
}

TEST(Predictor, SmallestClassWinsATie) {
    EXPECT_EQ(arg_max(std::vector<float>{1, 0, 1, 2, 0, 2}, 3, 1, 2).labels,
              (std::vector<std::uint8_t>{0, 1}));
    testing::SamplingBackend backend;
    Predictor predictor(backend, network, {.normalisation = normalisation});
    io::Image grey = testing::noise_image(20, 20, 3);
    std::fill(grey.pixels.begin(), grey.pixels.end(), std::uint8_t{90});
    EXPECT_EQ(predictor.predict(grey).labels, std::vector<std::uint8_t>(400, 0));
}

TEST(Predictor, FlipAveragesAndIsSymmetric) {
    testing::SamplingBackend backend;
    const io::Image image = testing::noise_image(38, 21, 4), mirrored = mirror(image);
    Predictor plain(backend, network, {.normalisation = normalisation});
    Predictor flipping(backend, network, {.flip = true, .normalisation = normalisation});
    const std::vector<float> one = plain.scores(image),
                             other = mirror(plain.scores(mirrored), image.width);
    ASSERT_GT(testing::largest_difference(one, other), 0.1)
        << "padding stands on one side: the two must differ";
    std::vector<double> average;
    for (std::size_t i = 0; i < one.size(); ++i) average.push_back((one[i] + other[i]) / 2.0);
    EXPECT_LT(testing::largest_difference(flipping.scores(image), average), 1e-5);
    EXPECT_LT(testing::largest_difference(mirror(flipping.scores(mirrored), image.width), average),
              1e-5);
}

TEST(Predictor, ScoresOfAllScalesAreAveragedAtTheImagesSize) {
    testing::SamplingBackend backend;
    const io::Image image = testing::noise_image(45, 31, 5);
    const std::vector<double> scales = {0.5, 1, 1.75};
    Predictor plain(backend, network, {.normalisation = normalisation});
    std::vector<double> expected(static_cast<std::size_t>(3 * 45 * 31), 0.0);
    for (const double scale : scales) {
        const auto w = static_cast<std::int64_t>(std::round(45 * scale)),
                   h = static_cast<std::int64_t>(std::round(31 * scale));
        const std::vector<float> scores = plain.scores(data::resize_bilinear(image, w, h));
        for (std::size_t c = 0; c < 3; ++c) {
            const auto plane = scores.begin() + static_cast<std::ptrdiff_t>(c) * w * h;
            const std::vector<double> values(plane, plane + w * h);
            for (std::int64_t i = 0; i < 45 * 31; ++i) {
                // Half-pixel centres; below the first centre its value.
                const double x = std::max(
                    0.0, (static_cast<double>(i % 45) + 0.5) * static_cast<double>(w) / 45 - 0.5);
                const double y = std::max(
                    0.0, (static_cast<double>(i / 45) + 0.5) * static_cast<double>(h) / 31 - 0.5);
                expected[c * 45 * 31 + static_cast<std::size_t>(i)] += clamped(values, w, h, x, y) /
                                                                       3;
            }
        }
    }
    Predictor multi(backend, network, {.scales = scales, .normalisation = normalisation});
    const std::vector<float> scores = multi.scores(image);
    EXPECT_LT(testing::largest_difference(scores, expected), 1e-4);
    for (std::size_t i = 0; i < 45 * 31; ++i)
        ASSERT_NEAR(scores[i] + scores[i + 45 * 31] + scores[i + 2 * 45 * 31], 1, 1e-5);
}

TEST(Predictor, CompilesASizeOnceAndKeepsFewOfThem) {
    testing::SamplingBackend backend;
    {
        Predictor predictor(backend, network, {.normalisation = normalisation});
        for (int i = 0; i < 3; ++i)
            predictor.predict(testing::noise_image(40 + i, 30, 6));  // all padded to 49 x 33
        EXPECT_EQ(backend.compiled, 1);
        for (std::int64_t i = 0; i < 60; ++i) {
            predictor.predict(testing::noise_image(17 + 16 * i, 17, 6));
            predictor.predict(testing::noise_image(40, 30, 6));  // used all the time: stays
        }
        EXPECT_EQ(backend.compiled, 61);
        EXPECT_LE(backend.alive, 36);
    }
    EXPECT_EQ(backend.alive, 0);
}

TEST(Predictor, NamesTheLargestSizeThatFits) {
    testing::SamplingBackend backend;
    backend.largest_area = 65 * 65;
    Predictor predictor(backend, network, {.normalisation = normalisation});
    try {
        predictor.predict(testing::noise_image(200, 100, 7));
        FAIL() << "200 x 100 is more than fits";
    } catch (const DeviceError& error) {
        // 209 x 113 padded; of its shape 81 x 49 fits, 97 x 65 does not.
        EXPECT_NE(std::string(error.what()).find("81x49"), std::string::npos) << error.what();
    }
    EXPECT_EQ(predictor.predict(testing::noise_image(81, 49, 7)).labels.size(), 81u * 49);

    backend.largest_area = 0;  // nothing fits: then it is not the size, and the device's own words
                               // are better
    Predictor broken(backend, network, {.normalisation = normalisation});
    try {
        broken.predict(testing::noise_image(200, 100, 7));
        FAIL();
    } catch (const DeviceError& error) {
        EXPECT_STREQ(error.what(), "out of memory");
    }
}

TEST(Predictor, RefusesScalesThatMakeNoSense) {
    testing::SamplingBackend backend;
    for (const std::vector<double>& scales : {std::vector<double>{}, {1, 0}, {-1}, {1e9}, {NAN}}) {
        EXPECT_THROW(
            Predictor(backend, network, {.scales = scales, .normalisation = normalisation}),
            UsageError);
    }
}

}  // namespace
}  // namespace deeplab::evaluate
