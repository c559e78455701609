// Masks whose values are not the classes' places: several values of one class, values that are
// ignored, 8 and 16 bits.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "own_folder.h"

namespace deeplab::preprocess {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class LabelMap : public deeplab::testing::OwnFolder {
protected:
    LabelMap() {
        image("p0.png");
        list("p0\n");
        classes(
            "ignore_labels = [0, 1]\n[[class]]\nname = \"road\"\nlabels = [7, 8]\n"
            "[[class]]\nname = \"sky\"\nlabels = [1000, 23]\n");
    }
    std::string manifest_text() const { return read_text(options.out / "train.json"); }
    data::Record record() const { return data::ShardSet(options.out, "train").read(0); }
};

TEST_F(LabelMap, SeveralValuesAreOneClass) {
    gray_mask("p0.png", {0, 7, 8, 23});
    packed();
    EXPECT_EQ(labels(0).labels, stripes({255, 0, 0, 1}).labels);
    const data::Manifest m = manifest();
    EXPECT_EQ(m.class_pixels, (std::vector<std::int64_t>{72, 36}));
    EXPECT_EQ(m.ignore_pixels, 36);
    EXPECT_EQ(m.classes.classes[0].labels, (std::vector<int>{7, 8}));
    EXPECT_EQ(m.classes.classes[1].labels, (std::vector<int>{1000, 23}));
    EXPECT_EQ(verify(options.out, *comm), 0);
    options.encoding = data::Encoding::raw;
    packed();
    EXPECT_EQ(record().mask, stripes({255, 0, 0, 1}).labels);
}

TEST_F(LabelMap, SixteenBitsAreTakenLikeEight) {
    wide_mask("p0.png", {1, 8, 1000, 23});
    packed();
    EXPECT_EQ(labels(0).labels, stripes({255, 0, 1, 1}).labels);
    EXPECT_EQ(verify(options.out, *comm), 0);
    // Shards hold bytes, whatever the masks are.
    classes("[[class]]\nname = \"a\"\n[[class]]\nname = \"b\"\n");
    wide_mask("p0.png", {0, 1, 255});
    packed();
    EXPECT_EQ(io::read_info(record().mask, "mask").bit_depth, 8);
    EXPECT_EQ(labels(0).labels, stripes({0, 1, 255}).labels);
}

TEST_F(LabelMap, ValuesOutsideTheMapAreNamed) {
    gray_mask("p0.png", {7, 9, 255, 200});
    EXPECT_THAT(packed(3),
                AllOf(HasSubstr("label 9 in 36 pixels, first at x 6, y 0, and 1 more label, is "
                                "neither a class nor ignored"),
                      HasSubstr("labels that no class has: 9 (36 pixels), 200 (36 pixels)"),
                      HasSubstr("ignore_labels = [9, …]")));
    EXPECT_FALSE(std::filesystem::exists(options.out / "train.json"));
    wide_mask("p0.png", {7, 7, 7, 40000});
    EXPECT_THAT(packed(3), HasSubstr("label 40000 in 36 pixels, first at x 18, y 0 is neither"));
}

TEST_F(LabelMap, WithoutAMapMasksAndManifestAreAsEver) {
    classes("[[class]]\nname = \"a\"\n[[class]]\nname = \"b\"\nlabel = 1\n");
    gray_mask("p0.png", {0, 1, 255});
    packed(2);  // one class has a label, the other none
    classes("[[class]]\nname = \"a\"\nlabel = 0\n[[class]]\nname = \"b\"\nlabel = 1\n");
    packed();
    EXPECT_EQ(record().mask, read_bytes(options.masks / "p0.png"));
    EXPECT_THAT(manifest_text(), Not(HasSubstr("\"labels\"")));
}

TEST_F(LabelMap, DamagedLabelsOfAManifestAreNamed) {
    gray_mask("p0.png", {7, 23});
    packed();
    std::string text = manifest_text();
    const std::size_t at = text.find("1000");
    ASSERT_NE(at, std::string::npos) << text;
    write_atomically(options.out / "train.json", text.replace(at, 4, "65536"));
    try {
        manifest();
        ADD_FAILURE() << "taken";
    } catch (const DataError& error) {
        EXPECT_THAT(error.what(), HasSubstr("\"labels\" must be integers in 0..65535"));
    }
}

}  // namespace
}  // namespace deeplab::preprocess
