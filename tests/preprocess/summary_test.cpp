// What a split is as a whole, where every record for itself is good.

#include "summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "own_folder.h"

namespace deeplab::preprocess {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr io::Rgb black{0, 0, 0}, red{128, 0, 0}, green{0, 128, 0}, gray{90, 90, 90};

class Summary : public deeplab::testing::OwnFolder {
protected:
    // Images p0, p1, … of the masks that were drawn, all listed.
    void images(int count) {
        std::string ids;
        for (int i = 0; i < count; ++i) {
            image(cat("p", i, ".png"), i);
            ids += cat("p", i, "\n");
        }
        list(ids);
    }
    static constexpr const char*
        two_classes = "[[class]]\nname = \"background\"\n[[class]]\nname = \"polyp\"\n";
};

TEST_F(Summary, CountsPixelsAndImagesOfEachClass) {
    gray_mask("p0.png", {0, 1, 2, 255});
    gray_mask("p1.png", {0, 0, 1, 0});
    images(2);
    const std::string text = packed();
    EXPECT_THAT(text, HasSubstr("classes of split train: 2 images, 288 pixels, 12.50 % ignored "
                                "(label 255)"));
    EXPECT_THAT(text, ContainsRegex("0  ground +144 +57.14 % +2\n"));
    EXPECT_THAT(text, ContainsRegex("1  one +72 +28.57 % +2\n"));
    EXPECT_THAT(text, ContainsRegex("2  two +36 +14.29 % +1\n"));
    EXPECT_THAT(text, Not(HasSubstr("warning")));
}

TEST_F(Summary, MasksOf0And255DoNotLoseTheirClass) {
    classes(two_classes);
    gray_mask("p0.png", {0, 255});
    images(1);
    EXPECT_THAT(packed(3), AllOf(HasSubstr("is of class \"background\""), HasSubstr("50.00 %"),
                                 HasSubstr("if 255 in the masks is class \"polyp\""),
                                 HasSubstr("label = 255")));
    EXPECT_FALSE(std::filesystem::exists(options.out / "train.json"));
    options.split = "val";  // may be meant so, but is not passed over
    EXPECT_THAT(packed(),
                HasSubstr("warning: 1 of 2 classes occur in no mask of split val: polyp"));
    // What the message says helps.
    options.split.clear();
    classes(
        "[[class]]\nname = \"background\"\nlabel = 0\n"
        "[[class]]\nname = \"polyp\"\nlabel = 255\n");
    EXPECT_THAT(packed(), Not(HasSubstr("warning")));
    EXPECT_EQ(labels(0).labels, stripes({0, 1}).labels);
    EXPECT_EQ(manifest().class_pixels, (std::vector<std::int64_t>{72, 72}));
    EXPECT_EQ(manifest().ignore_pixels, 0);
    EXPECT_EQ(verify(options.out, *comm), 0);
}

TEST_F(Summary, NothingToLearnIsRefused) {
    gray_mask("p0.png", {255});
    images(1);
    EXPECT_THAT(packed(3), HasSubstr("all 144 pixels of split train are ignored"));
    options.split = "val";
    EXPECT_THAT(packed(3), HasSubstr("nothing to learn or to judge"));
    gray_mask("p0.png", {1});
    EXPECT_THAT(packed(), HasSubstr("2 of 3 classes occur in no mask"));
    options.split = "train";
    EXPECT_THAT(packed(3), HasSubstr("is of class \"one\""));
    gray_mask("p0.png", {1, 2});  // two classes are enough
    EXPECT_THAT(packed(), HasSubstr("1 of 3 classes occur in no mask of split train: ground"));
}

TEST_F(Summary, ImagesWithoutALabelAndManyIgnoredPixelsAreTold) {
    gray_mask("p0.png", {0, 1, 2});
    gray_mask("p1.png", {255});
    gray_mask("p2.png", {255});
    images(3);
    EXPECT_THAT(packed(), AllOf(HasSubstr("66.67 % of the pixels of split train are ignored"),
                                HasSubstr("2 of 3 images of split train have no pixel with a "
                                          "label: p1, p2")));
    gray_mask("p1.png", {0, 255});
    gray_mask("p2.png", {0, 255});
    EXPECT_THAT(packed(), Not(HasSubstr("warning")));
}

TEST_F(Summary, ClassesTakenByDefaultAreTold) {
    gray_mask("p0.png", {0, 1, 2});
    images(1);
    options.classes.clear();
    EXPECT_THAT(packed(), AllOf(HasSubstr("classes: VOC's 21, as --classes was not given"),
                                HasSubstr("18 of 21 classes occur in no mask"),
                                HasSubstr("name them with --classes")));
}

TEST_F(Summary, ZeroMayBeIgnored) {
    classes("ignore = 0\n[[class]]\nname = \"wall\"\n[[class]]\nname = \"building\"\n");
    gray_mask("p0.png", {0, 1, 2});
    images(1);
    packed();
    EXPECT_EQ(labels(0).labels, stripes({255, 0, 1}).labels);
    EXPECT_EQ(manifest().class_pixels, (std::vector<std::int64_t>{48, 48}));
    EXPECT_EQ(manifest().ignore_pixels, 48);
    EXPECT_EQ(manifest().classes.ignore, 255);
    EXPECT_EQ(verify(options.out, *comm), 0);
    options.encoding = data::Encoding::raw;
    packed();
    EXPECT_EQ(data::ShardSet(options.out, "train").read(0).mask, stripes({255, 0, 1}).labels);
    // Without it the message says so.
    options.encoding = data::Encoding::source;
    classes("[[class]]\nname = \"wall\"\n[[class]]\nname = \"building\"\n");
    EXPECT_THAT(packed(3), AllOf(HasSubstr("labels that no class has: 2 (48 pixels)"),
                                 HasSubstr("write ignore = 0")));
}

TEST_F(Summary, PalettesThatContradictTheClassesAreRefused) {
    palette_mask("p0.png", {2, 0, 1}, {red, green, black});
    images(1);
    EXPECT_THAT(packed(3), AllOf(HasSubstr("index 0 has (128, 0, 0), the colour of 1 \"one\""),
                                 HasSubstr("index 1 has (0, 128, 0), the colour of 2 \"two\""),
                                 HasSubstr("index 2 has (0, 0, 0), the colour of 0 \"ground\"")));
    palette_mask("p0.png", {0, 1}, {black, green});  // one class of two is missing in this image
    EXPECT_THAT(packed(3), HasSubstr("index 1 has (0, 128, 0), the colour of 2 \"two\""));
    palette_mask("p0.png", {0, 1}, {black, {224, 224, 192}});  // VOC's border
    EXPECT_THAT(packed(3), HasSubstr("the colour of 255 ignored"));
    // Entries that no pixel has, and colours of no class, prove nothing.
    palette_mask("p0.png", {0, 1, 2}, {black, red, green, red});
    EXPECT_THAT(packed(), Not(HasSubstr("warning")));
    palette_mask("p0.png", {0, 1, 2}, {black, gray, green});
    EXPECT_THAT(packed(), HasSubstr("the palettes of 1 masks have other colours than the classes: "
                                    "index 1 has (90, 90, 90), class \"one\" (128, 0, 0)"));
    palette_mask("p0.png", {0, 1, 2}, {black, {1, 1, 1}, {2, 2, 2}});  // says nothing
    EXPECT_THAT(packed(), Not(HasSubstr("warning")));
}

TEST_F(Summary, AVoidColourOfOnesOwn) {
    classes(
        "[[class]]\nname = \"one\"\ncolor = [128, 0, 0]\n"
        "[[class]]\nname = \"two\"\ncolor = [0, 128, 0]\n");
    painted_mask("p0.png", {black, red, green, {224, 224, 192}});
    painted_mask("p1.png", {black, red, green, {10, 20, 30}});
    images(2);
    EXPECT_THAT(packed(3),
                AllOf(HasSubstr("colour (0, 0, 0) of pixel x 0, y 0 belongs to no class"),
                      HasSubstr("colour (0, 0, 0) of pixel x 0, y 0, and 1 more colour, belongs "
                                "to no class"),
                      HasSubstr("colours that no class has: [0, 0, 0] (72 pixels), [10, 20, 30] "
                                "(36 pixels)"),
                      HasSubstr("ignore_colors = [[0, 0, 0], [10, 20, 30]]")));
    classes(
        "ignore_colors = [[0, 0, 0], [10, 20, 30]]\n"
        "[[class]]\nname = \"one\"\ncolor = [128, 0, 0]\n"
        "[[class]]\nname = \"two\"\ncolor = [0, 128, 0]\n");
    packed();
    EXPECT_EQ(labels(0).labels, stripes({255, 0, 1, 255}).labels);
    EXPECT_EQ(labels(1).labels, stripes({255, 0, 1, 255}).labels);
    std::vector<io::Rgb> mixed;
    for (int i = 0; i < 24; ++i) mixed.push_back({static_cast<std::uint8_t>(100 + i), 0, 0});
    painted_mask("p0.png", mixed);
    EXPECT_THAT(packed(3), HasSubstr("resized smoothly or stored as JPEG"));
}

TEST_F(Summary, ClassIdsInThreeChannelsAreToldFromColours) {
    const auto told = HasSubstr("store it as gray, with one channel");
    painted_mask("p0.png", {black, {1, 1, 1}, {2, 2, 2}, {255, 255, 255}});
    images(1);
    EXPECT_THAT(packed(3), AllOf(told, Not(HasSubstr("colours that no class has"))));
    // Gray is the colour of something.
    painted_mask("p0.png", {black, {1, 1, 1}, red});
    EXPECT_THAT(packed(3), Not(told));
    painted_mask("p0.png", {black, {90, 90, 90}});
    EXPECT_THAT(packed(3), Not(told));
    classes("[[class]]\nname = \"ground\"\n[[class]]\nname = \"one\"\n");
    painted_mask("p0.png", {black, {1, 1, 1}});
    EXPECT_THAT(packed(3), told);
    painted_mask("p0.png", {black, {255, 255, 255}});
    EXPECT_THAT(packed(3), AllOf(HasSubstr("has no colour"), Not(told)));
}

TEST_F(Summary, CountsTheOtherLabelsWithoutAClass) {
    gray_mask("p0.png", {0, 1, 7});
    gray_mask("p1.png", {0, 7, 8, 9});
    images(2);
    EXPECT_THAT(packed(3),
                AllOf(HasSubstr("first at x 16, y 0 is neither a class nor ignored"),
                      HasSubstr("first at x 6, y 0, and 2 more labels, is neither a class")));
}

// Shards of an earlier packer may be of that kind.
TEST_F(Summary, VerifyRefusesASplitOfIgnoredPixels) {
    gray_mask("p0.png", {0, 1, 255});
    images(1);
    packed();
    data::Manifest m = manifest();
    data::Record record = data::ShardSet(options.out, "train").read(0);
    record.mask = deeplab::testing::encode_gray_png(stripes({255}));
    m.shards[0] = data::write_shard(options.out / m.shards[0].file, {record});
    m.class_pixels.assign(3, 0);
    m.class_images.assign(3, 0);
    m.ignore_pixels = width * height;
    data::save_manifest(options.out, m);
    ::testing::internal::CaptureStderr();
    EXPECT_EQ(verify(options.out, *comm), 3);
    EXPECT_THAT(::testing::internal::GetCapturedStderr(),
                AllOf(HasSubstr("1 problems"), HasSubstr("all 144 pixels of split train are "
                                                         "ignored")));
}

}  // namespace
}  // namespace deeplab::preprocess
