// What polygons and run lengths cover. The expected values are pycocotools';
// tests/golden/coco_oracle.py compares at random.

#include "region.h"

#include <gtest/gtest.h>

#include <string>

#include "deeplab/base/error.h"
#include "shape.h"

namespace deeplab::preprocess::coco {
namespace {

std::vector<GridPoint> grid(const std::vector<double>& xy) {
    std::vector<GridPoint> out;
    for (std::size_t i = 0; i < xy.size(); i += 2)
        out.push_back({to_grid(xy[i]), to_grid(xy[i + 1])});
    return out;
}

Region square(double low, double high, std::int64_t side = 20) {
    return polygon(grid({low, low, high, low, high, high, low, high}), side, side);
}

// Rows of '#' and '.'.
std::string drawn(const Region& region, std::int64_t width, std::int64_t height) {
    std::string text(static_cast<std::size_t>((width + 1) * height), '.');
    for (std::int64_t y = 0; y < height; ++y)
        text[static_cast<std::size_t>(y * (width + 1) + width)] = '\n';
    for (const Run& run : region)
        for (std::int64_t p = run.first; p < run.end; ++p)
            text[static_cast<std::size_t>(p % height * (width + 1) + p / height)] = '#';
    return text;
}

TEST(CocoPolygon, SquaresCoverWhatPycocotoolsSays) {
    EXPECT_EQ(pixels(square(0, 9)), 81);
    EXPECT_EQ(pixels(square(0, 10)), 100);
    EXPECT_EQ(square(0, 9, 20).front(), (coco::Run{0, 9}));
    // .5 to 9.5: pixels 1 to 9; 2.6 to 7.6: 3 to 7; 2.4 to 7.4: 2 to 6.
    EXPECT_EQ(pixels(square(0.5, 9.5)), 81);
    EXPECT_EQ(square(0.5, 9.5).front(), (coco::Run{21, 30}));
    EXPECT_EQ(pixels(square(2.6, 7.6)), 25);
    EXPECT_EQ(square(2.6, 7.6).front(), (coco::Run{63, 68}));
    EXPECT_EQ(pixels(square(2.4, 7.4)), 25);
    EXPECT_EQ(square(2.4, 7.4).front(), (coco::Run{42, 47}));
}

TEST(CocoPolygon, DirectionDoesNotMatterAndASecondTurnTakesAway) {
    const std::vector<double> there = {1, 2, 13.4, 3.2, 9, 15.7, 2.2, 11};
    std::vector<double> back;
    for (std::size_t i = there.size(); i > 0; i -= 2) {
        back.push_back(there[i - 2]);
        back.push_back(there[i - 1]);
    }
    const Region once = polygon(grid(there), 20, 20);
    EXPECT_GT(pixels(once), 50);
    EXPECT_EQ(polygon(grid(back), 20, 20), once);
    std::vector<double> twice = there;
    twice.insert(twice.end(), there.begin(), there.end());
    EXPECT_TRUE(polygon(grid(twice), 20, 20).empty());
}

TEST(CocoPolygon, ABowTieIsTwoTriangles) {
    const Region bow = polygon(grid({0, 0, 10, 10, 10, 0, 0, 10}), 10, 10);
    EXPECT_EQ(pixels(bow), 50);
}

TEST(CocoPolygon, WhatLiesOutsideIsCutOff) {
    EXPECT_TRUE(polygon(grid({30, 30, 40, 30, 40, 40}), 20, 20).empty());
    EXPECT_TRUE(polygon(grid({-30, -30, -40, -30, -40, -40}), 20, 20).empty());
    EXPECT_EQ(pixels(square(-5, 4)), 16);
    EXPECT_EQ(pixels(square(15, 500)), 25);
    EXPECT_EQ(pixels(square(-kMostCoordinate, kMostCoordinate)), 400);
}

// Slanted edges, one of them along y, on fifths and between them; drawn by pycocotools 2.0.11.
TEST(CocoPolygon, ASlantedShapeIsDrawnPixelByPixel) {
    EXPECT_EQ(drawn(polygon(grid({1.2, 0.7, 6.9, 2.4, 5.5, 7.3, 2.05, 5.95}), 8, 8), 8, 8),
              "........\n"
              ".###....\n"
              ".######.\n"
              "..#####.\n"
              "..####..\n"
              "..####..\n"
              "...###..\n"
              "........\n");
}

TEST(CocoRegion, AUnionHasEveryPixelOnce) {
    EXPECT_EQ(united({{10, 20}, {0, 5}, {15, 25}, {5, 7}, {30, 31}}),
              (Region{{0, 7}, {10, 25}, {30, 31}}));
    Bytes shape;
    put_polygons(shape,
                 std::vector{grid({0, 0, 6, 0, 6, 6, 0, 6}), grid({3, 3, 9, 3, 9, 9, 3, 9})});
    EXPECT_EQ(pixels(region_of(shape, 20, 20)), 36 + 36 - 9);
}

TEST(CocoRegion, CountsAlternateFromTheGround) {
    EXPECT_EQ(of_counts(std::vector<std::int64_t>{3, 2, 0, 4, 1}), (Region{{3, 9}}));
    EXPECT_EQ(of_counts(std::vector<std::int64_t>{0, 2, 5, 0, 1, 1}), (Region{{0, 2}, {8, 9}}));
    EXPECT_EQ(counts_of({{3, 9}}, 10), (std::vector<std::int64_t>{3, 6, 1}));
    EXPECT_EQ(counts_of({{0, 10}}, 10), (std::vector<std::int64_t>{0, 10}));
    EXPECT_EQ(counts_of({}, 10), (std::vector<std::int64_t>{10}));
}

// Texts that pycocotools 2.0.11 wrote.
TEST(CocoRegion, CompressedCountsAreReadAndWritten) {
    const std::vector<std::pair<std::string, std::vector<std::int64_t>>> cases = {
        {"325", {3, 2, 5}},
        {"0:", {0, 10}},
        {"d0", {20}},
        {"51X6n0jI2R5Wn0mJ", {5, 1, 200, 31, 2, 33, 164, 1000, 1}},
        {"0`0a0O`0bo0POPPOoQW10", {0, 16, 17, 15, 33, 1025, 1, 1, 40000, 1}},
    };
    for (const auto& [text, counts] : cases) {
        EXPECT_EQ(parse_counts(text), counts) << text;
        EXPECT_EQ(compressed_counts(counts), text);
    }
}

std::string refusal(const std::string& text) {
    try {
        parse_counts(text);
    } catch (const DataError& error) {
        return error.what();
    }
    return "taken";
}

TEST(CocoRegion, TextsThatAreNoCountsAreRefused) {
    EXPECT_EQ(refusal("3P"), "the text of its counts is cut off");
    EXPECT_EQ(refusal("3!1"), "character 2 of its counts is none that they have");
    EXPECT_EQ(refusal("3q1"), "character 2 of its counts is none that they have");
    EXPECT_EQ(refusal("32O"), "run 3 of its counts is negative");
    EXPECT_EQ(refusal("PPPPPPPPPPPP1"), "a number of its counts is too large");
}

TEST(CocoShape, TheBytesKeepTheRegion) {
    Bytes shape(7, 0xEE);  // another shape stands before
    put_counts(shape, 4, 5, std::vector<std::int64_t>{7, 200 - 191, 4});
    const auto own = std::span(shape).subspan(7);
    EXPECT_EQ(region_of(own, 4, 5), (Region{{7, 16}}));
    EXPECT_EQ(misfit(own, 4, 5), "");
    EXPECT_EQ(misfit(own, 5, 4), "its run lengths are those of a picture of 4x5, the image is 5x4");
    Bytes brief, over;
    put_counts(brief, 4, 5, std::vector<std::int64_t>{7, 12});
    put_counts(over, 4, 5, std::vector<std::int64_t>{7, 14});
    EXPECT_EQ(misfit(brief, 4, 5), "its run lengths end after 19 of 20 pixels of the image");
    EXPECT_EQ(misfit(over, 4, 5), "its run lengths go beyond the 20 pixels of the image");
    Bytes far;
    const auto corners = grid({-kMostCoordinate, 0.3, kMostCoordinate, -7.5, 3, kMostCoordinate});
    put_polygons(far, std::vector<std::vector<GridPoint>>{corners});
    EXPECT_EQ(region_of(far, 50, 40), polygon(corners, 50, 40));
}

}  // namespace
}  // namespace deeplab::preprocess::coco
