// Masks that are drawn from COCO's annotations: which pixel gets which label, which images are
// packed, and what the manifest says of both.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "coco_folder.h"
#include "deeplab/data/category_map.h"
#include "harness/source_dir.h"
#include "region.h"

namespace deeplab::preprocess {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class CocoPack : public deeplab::testing::CocoFolder {
protected:
    // A large apple, a pear on it, a small apple on both; in no order of size.
    void three_on_each_other() {
        picture(4);
        annotate(30, 4, 7, box(8, 4, 16, 12), ", \"area\": 64");
        annotate(20, 4, 1, box(2, 2, 12, 14), ", \"area\": 120");
        annotate(10, 4, 1, box(10, 8, 14, 10), ", \"area\": 8");
    }
    // Labels of: the large apple, large apple and pear, all three, pear, pear and small apple.
    std::string places() const {
        const io::Mask mask = labels();
        std::string text;
        for (const auto& [x, y] : {std::pair{3, 3}, {9, 5}, {10, 8}, {15, 5}, {13, 9}})
            text += cat(at(mask, x, y), " ");
        return text;
    }
};

TEST_F(CocoPack, TheThreeFormsOfAShapeGiveTheSameLabels) {
    std::vector<std::int64_t> counts = {3 * height + 2, 5, height - 5, 5, height - 5, 5};
    counts.push_back(width * height - (5 * height + 7));
    std::string list;
    for (const std::int64_t n : counts) list += cat(list.empty() ? "" : ", ", n);
    for (int id = 1; id <= 3; ++id) picture(id);
    annotate(1, 1, 7, box(3, 2, 6, 7), ", \"area\": 15");
    annotate(2, 2, 7, cat("{\"counts\": [", list, "], \"size\": [20, 24]}"));
    annotate(3, 3, 7,
             cat("{\"size\": [20.0, 24], \"counts\": \"", coco::compressed_counts(counts), "\"}"));
    packed();
    const io::Mask mask = labels(0);
    EXPECT_EQ(std::count(mask.labels.begin(), mask.labels.end(), 2), 15);
    EXPECT_EQ(at(mask, 3, 2), 2);
    EXPECT_EQ(at(mask, 5, 6), 2);
    EXPECT_EQ(at(mask, 6, 6), 0);
    EXPECT_EQ(labels(1).labels, mask.labels);
    EXPECT_EQ(labels(2).labels, mask.labels);
    EXPECT_EQ(manifest().class_pixels, (std::vector<std::int64_t>{3 * (480 - 15), 0, 45}));
    EXPECT_EQ(verify(options.out, *comm), 0);
}

TEST_F(CocoPack, ImagesStandByTheirIdAndAreCalledByTheirFile) {
    for (const int id : {40, 7, 300}) {
        picture(id);
        annotate(id, id, 1, box(0, 0, 4, 4));
    }
    options.encoding = data::Encoding::raw;
    packed();
    EXPECT_EQ(ids(), (std::vector<std::string>{"p7", "p40", "p300"}));
    data::ShardSet set(options.out, split);
    const data::Record record = set.read(0, true);
    EXPECT_EQ(record.image, io::decode_image(read_bytes(options.images / "p7.jpg"), "p7").pixels);
    EXPECT_EQ(std::count(record.mask.begin(), record.mask.end(), 1), 16);
}

TEST_F(CocoPack, EachPolicySaysWhoseAPixelOfSeveralIs) {
    three_on_each_other();
    const std::map<coco::Overlap, std::string> expected = {
        {coco::Overlap::small_on_top, "1 2 1 2 1 "},
        {coco::Overlap::first, "1 2 2 2 2 "},
        {coco::Overlap::last, "1 1 1 2 1 "},
        {coco::Overlap::ignore, "1 255 255 2 255 "}};
    for (const auto& [overlap, wanted] : expected) {
        options.coco.overlap = overlap;
        const std::string text = packed();
        EXPECT_EQ(places(), wanted) << coco::name(overlap);
        EXPECT_THAT(read_text(options.out / "fruit.json"),
                    HasSubstr(cat("\"overlap\": \"", coco::name(overlap), "\"")));
        // Large apple and pear share 4 x 8 pixels; the small apple lies on the pear.
        EXPECT_EQ(told("pixels.shared"), 32 + 8 - 4);
        EXPECT_EQ(told("pixels.contested"), 36);
        EXPECT_THAT(text, HasSubstr("pixels of several annotations: 36, of several classes: 36"));
    }
    EXPECT_EQ(manifest().ignore_pixels, 36);
}

TEST_F(CocoPack, PixelsOfTwoAnnotationsOfOneClassAreSharedAndNotContested) {
    picture(1);
    annotate(1, 1, 1, box(0, 0, 4, 4));
    annotate(2, 1, 1, box(2, 0, 6, 4));
    packed();
    EXPECT_EQ(told("pixels.shared"), 8);
    EXPECT_EQ(told("pixels.contested"), 0);
    EXPECT_EQ(manifest().class_pixels[1], 24);
    options.coco.overlap = coco::Overlap::ignore;  // as torchvision's loader: by annotation
    packed();
    EXPECT_EQ(manifest().class_pixels[1], 16);
    EXPECT_EQ(manifest().ignore_pixels, 8);
}

TEST_F(CocoPack, EqualSizesAreDrawnByTheirId) {
    picture(1);
    annotate(9, 1, 7, box(0, 0, 4, 4));
    annotate(5, 1, 1, box(0, 0, 4, 4));
    packed();
    EXPECT_EQ(at(labels(), 0, 0), 2);
}

TEST_F(CocoPack, ACrowdIsIgnoredWhereNothingElseLies) {
    picture(1);
    annotate(1, 1, 1, box(0, 0, 4, 4));
    annotate(2, 1, 1, box(2, 0, 8, 4), ", \"iscrowd\": 1");
    packed();
    EXPECT_EQ(at(labels(), 3, 3), 1);
    EXPECT_EQ(at(labels(), 4, 3), 255);
    EXPECT_EQ(at(labels(), 8, 3), 0);
    EXPECT_EQ(told("pixels.crowd"), 16);
    EXPECT_EQ(told("pixels.shared"), 0);
    options.coco.draw_crowds = true;
    packed();
    EXPECT_EQ(at(labels(), 4, 3), 1);
    EXPECT_EQ(manifest().ignore_pixels, 0);
    EXPECT_EQ(told("pixels.shared"), 8);
}

TEST_F(CocoPack, OtherCategoriesAreTheGroundAndIgnoreLabelsAreIgnored) {
    picture(1);
    annotate(1, 1, 9, box(0, 0, 4, 4));
    annotate(2, 1, 7, box(3, 0, 8, 4));
    packed();
    EXPECT_EQ(at(labels(), 0, 0), 0);
    EXPECT_EQ(at(labels(), 3, 0), 2);
    map(cat("ignore_labels = [\"plum\"]\n", deeplab::testing::kFruitMap));
    packed();
    EXPECT_EQ(at(labels(), 0, 0), 255);
    EXPECT_EQ(at(labels(), 3, 0), 2);
    EXPECT_EQ(at(labels(), 9, 0), 0);
}

TEST_F(CocoPack, WithoutAGroundClassWhatNothingCoversIsIgnored) {
    map("[[class]]\nname = \"one\"\nlabels = [1, 9]\n[[class]]\nname = \"two\"\nlabels = [7]\n");
    picture(1);
    annotate(1, 1, 1, box(0, 0, 4, 4));
    annotate(2, 1, 7, box(4, 0, 8, 4));
    annotate(3, 1, 9, box(8, 0, 12, 4));
    packed();
    EXPECT_EQ(manifest().class_pixels, (std::vector<std::int64_t>{32, 16}));
    EXPECT_EQ(at(labels(), 20, 10), 255);
}

TEST_F(CocoPack, MorePixelsThanTheLimitAreNeeded) {
    for (int id = 1; id <= 3; ++id) picture(id);
    annotate(1, 1, 1, box(0, 0, 4, 4));  // 16
    annotate(2, 2, 1, box(0, 0, 4, 4));  // 20 with two of a pear's, whose rest it covers
    annotate(3, 2, 7, box(0, 0, 4, 5));
    annotate(4, 3, 7, box(0, 0, 5, 5));  // 25, of which 10 are another crowd's
    annotate(5, 3, 1, box(3, 0, 9, 5), ", \"iscrowd\": 1");
    options.coco.min_pixels = 16;
    packed();
    EXPECT_EQ(ids(), (std::vector<std::string>{"p2", "p3"}));
    EXPECT_EQ(told("dropped.min_pixels"), 1);
    options.coco.min_pixels = 20;
    const std::string text = packed();
    EXPECT_EQ(ids(), (std::vector<std::string>{"p3"}));
    EXPECT_EQ(told("dropped.min_pixels"), 2);
    EXPECT_EQ(manifest().records, 1);
    EXPECT_THAT(text, HasSubstr("2 at most 20 labelled pixels"));
    options.coco.min_pixels = 25;
    EXPECT_THAT(packed(3), HasSubstr("no image of the file is left to be packed"));
}

TEST_F(CocoPack, AreasOfTheFileAreAddedUp) {
    for (int id = 1; id <= 2; ++id) picture(id);
    annotate(1, 1, 1, box(0, 0, 4, 4), ", \"area\": 15.5");
    annotate(2, 1, 7, box(8, 0, 12, 4), ", \"area\": 15.5");
    annotate(3, 1, 9, box(8, 0, 12, 4), ", \"area\": 9000");  // no category of the map
    annotate(4, 2, 1, box(0, 0, 4, 4), ", \"area\": 31.5");
    options.coco.min_area = 31;
    packed();
    EXPECT_EQ(ids(), (std::vector<std::string>{"p2"}));
    EXPECT_EQ(told("dropped.min_area"), 1);
    EXPECT_EQ(told("dropped.min_pixels"), 0);
}

TEST_F(CocoPack, ImagesWithoutAnnotationAreLeftOutOrKept) {
    for (int id = 1; id <= 3; ++id) picture(id);
    annotate(1, 2, 9, box(0, 0, 4, 4));
    annotate(2, 3, 1, box(0, 0, 4, 4));
    options.coco.min_pixels = 3;
    packed();
    EXPECT_EQ(ids(), (std::vector<std::string>{"p3"}));
    EXPECT_EQ(told("dropped.without_annotation"), 1);
    EXPECT_EQ(told("dropped.without_category"), 1);
    EXPECT_EQ(told("images"), 3);
    options.coco.keep_empty = true;
    packed();
    EXPECT_EQ(ids(), (std::vector<std::string>{"p1", "p2", "p3"}));
    EXPECT_EQ(told("dropped.without_annotation"), 0);
    EXPECT_EQ(manifest().class_images, (std::vector<std::int64_t>{3, 1, 0}));
}

TEST_F(CocoPack, WhatCoversNoPixelIsToldAndCounted) {
    picture(1);
    annotate(1, 1, 1, box(0, 0, 4, 4), ", \"area\": 20");
    annotate(77, 1, 1, "[[5, 5, 5.1, 5, 5.1, 5.1]]");
    annotate(78, 1, 1, box(100, 100, 110, 110));
    const std::string text = packed();
    EXPECT_THAT(text, HasSubstr("2 of 3 annotations cover no pixel, with the ids 77, 78"));
    EXPECT_THAT(text, HasSubstr("farthest from its area is annotation 1: it covers 16 pixels, the "
                                "file says 20.0 (20.0 % off)"));
    EXPECT_EQ(told("annotations.empty"), 2);
    EXPECT_EQ(told("annotations.drawn"), 3);
}

TEST_F(CocoPack, GrayImagesAreCounted) {
    entry(1, "gray.png");
    deeplab::testing::put(
        options.images / "gray.png",
        deeplab::testing::encode_gray_png(deeplab::testing::test_mask(width, height, 1)));
    picture(2);
    annotate(1, 1, 1, box(0, 0, 4, 4));
    annotate(2, 2, 1, box(0, 0, 4, 4));
    EXPECT_THAT(packed(), HasSubstr("1 images have no colour"));
    EXPECT_EQ(told("gray_images"), 1);
}

TEST_F(CocoPack, BadShapesOfOtherCategoriesDoNotStopIt) {
    picture(1);
    annotate(1, 1, 1, box(0, 0, 4, 4));
    annotate(2, 1, 9, "[[1, 2, 3, 4]]");
    EXPECT_THAT(packed(), HasSubstr("1 annotations of categories that have no class have shapes "
                                    "that cannot be drawn"));
}

TEST_F(CocoPack, MissingImagesCanBeSkipped) {
    picture(1);
    entry(2, "p2.jpg");
    annotate(1, 1, 1, box(0, 0, 4, 4));
    annotate(2, 2, 1, box(0, 0, 4, 4));
    EXPECT_THAT(packed(3), AllOf(HasSubstr("image is missing"), HasSubstr("p2.jpg")));
    EXPECT_TRUE(nothing_written());
    options.skip_missing = true;
    packed();
    EXPECT_EQ(ids(), (std::vector<std::string>{"p1"}));
    EXPECT_EQ(manifest().skipped, 1);
}

TEST_F(CocoPack, ImagesOfValMustNotBeTrainedOn) {
    picture(1);
    picture(2);
    annotate(1, 1, 1, box(0, 0, 4, 4));
    annotate(2, 2, 1, box(0, 0, 4, 4));
    options.split = "val2017";
    packed();
    options.split = "train2017";
    const std::string text = packed_beside(3);
    EXPECT_THAT(text, AllOf(HasSubstr("2 problems"), HasSubstr("val2017.json"),
                            HasSubstr("split val2017 has it too")));
    EXPECT_FALSE(std::filesystem::exists(options.out / "train2017.json"));
    options.split = "trainval";
    packed_beside(0);
}

TEST(CocoMap, TheShippedMapHasVocsClasses) {
    const data::CategoryMap map = data::load_category_map(testing::source_dir() /
                                                          "jobs/configs/coco_voc21.toml");
    const data::ClassTable voc = data::voc_classes();
    ASSERT_EQ(map.classes.classes.size(), 21u);
    for (std::size_t c = 0; c < 21; ++c) {
        EXPECT_EQ(map.classes.classes[c].name, voc.classes[c].name);
        EXPECT_EQ(map.classes.classes[c].color, voc.classes[c].color);
        EXPECT_EQ(map.labels[c].size(), c == 0 ? 0u : 1u);
    }
    EXPECT_EQ(map.classes.ignore, 255);
    EXPECT_EQ(map.unlabelled(), 0);
    EXPECT_EQ(map.labels[14].front().name, "motorcycle");
    EXPECT_EQ(map.labels[18].front().name, "couch");
}

}  // namespace
}  // namespace deeplab::preprocess
