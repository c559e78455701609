// Names that go on behind the id, and folders below folders: data sets as they come.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "own_folder.h"

namespace deeplab::preprocess {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using Ids = std::vector<std::string>;

class Suffix : public deeplab::testing::OwnFolder {
protected:
    Suffix() {
        options.list.clear();
        options.split = "train";
    }
    // As Cityscapes: images with one suffix, four files beside each other for a mask.
    void city(const std::string& id) {
        image(id + "_leftImg8bit.png");
        gray_mask(id + "_gtFine_labelIds.png", {0, 1, 2});
        gray_mask(id + "_gtFine_instanceIds.png", {9});
        palette_mask(id + "_gtFine_color.png", {0}, {{1, 2, 3}});
        options.image_suffix = "_leftImg8bit.png";
        options.mask_suffix = "_gtFine_labelIds.png";
    }
    Ids packed_ids() const { return data::ShardSet(options.out, "train").ids(); }
    io::Mask stored(std::int64_t i) const {
        return io::decode_mask(data::ShardSet(options.out, "train").read(i).mask, "mask");
    }
};

TEST_F(Suffix, FoldersBelowAreTakenInTheOrderOfIds) {
    for (const char* id : {"bonn/bonn_1", "aachen/aachen_2", "aachen/aachen_10"}) city(id);
    write_atomically(options.images / "aachen" / "notes.txt", "no picture");
    image(".hidden/x_leftImg8bit.png");
    image("aachen/.x_leftImg8bit.png");
    fs::create_directory_symlink("..", options.images / "aachen" / "up");  // has no end
    EXPECT_THAT(packed(), HasSubstr("all pictures below "));
    EXPECT_EQ(packed_ids(), (Ids{"aachen/aachen_10", "aachen/aachen_2", "bonn/bonn_1"}));
    EXPECT_EQ(stored(0).labels, stripes({0, 1, 2}).labels);
    EXPECT_EQ(verify(options.out, *comm), 0);
}

TEST_F(Suffix, AListNamesIdsOrFiles) {
    for (const char* id : {"aachen/a", "bonn/b", "bonn/c"}) city(id);
    options.list = dir / "train.txt";
    list("bonn/b\naachen/a_leftImg8bit.png\n" + options.images.string() +
         "/bonn/c_leftImg8bit.png bonn/c_gtFine_labelIds.png\n");
    packed();
    EXPECT_EQ(packed_ids(), (Ids{"bonn/b", "aachen/a", "bonn/c"}));
    for (int i = 0; i < 3; ++i) EXPECT_EQ(stored(i).labels, stripes({0, 1, 2}).labels);
}

TEST_F(Suffix, TheEndingMayBeLeftOut) {
    place(options.images / "p0_rgb.jpg",
          io::encode_jpeg(deeplab::testing::test_image(width, height, 1), 90));
    place(options.images / "p1_rgb.PNG",
          io::encode_png(deeplab::testing::test_image(width, height, 2)));
    for (const char* name : {"p0_label.png", "p1_label.png"}) gray_mask(name, {0, 1, 2});
    options.image_suffix = "_rgb";
    options.mask_suffix = "_label";
    packed();
    EXPECT_EQ(packed_ids(), (Ids{"p0", "p1"}));
}

TEST_F(Suffix, ImagesAndMasksMayShareAFolder) {
    options.masks = options.images;
    for (const char* id : {"p0", "p1"}) {
        image(cat(id, ".png"));
        gray_mask(cat(id, "_mask.png"), {0, 1, 2});
    }
    options.mask_suffix = "_mask.png";
    packed();
    EXPECT_EQ(packed_ids(), (Ids{"p0", "p1"}));
    // Or one lie below the other.
    fs::remove_all(options.images);
    image("p0.png");
    options.masks = options.images / "masks";
    options.mask_suffix.clear();
    gray_mask("p0.png", {0, 1, 2});
    packed();
    EXPECT_EQ(packed_ids(), (Ids{"p0"}));
}

TEST_F(Suffix, FilesWithoutTheirPartnerAreNamed) {
    for (const char* id : {"aachen/a", "aachen/b", "bonn/c"}) city(id);
    fs::remove(options.masks / "aachen/b_gtFine_labelIds.png");
    fs::remove(options.images / "bonn/c_leftImg8bit.png");
    EXPECT_THAT(packed(3), AllOf(HasSubstr("2 problems"),
                                 ContainsRegex("aachen/b_gtFine_labelIds.png +mask is missing"),
                                 ContainsRegex("bonn/c_leftImg8bit.png +image is missing"),
                                 HasSubstr("--mask-suffix name what stands behind the id")));
    EXPECT_FALSE(fs::exists(options.out / "train.json"));
    options.skip_missing = true;
    packed();
    EXPECT_EQ(packed_ids(), (Ids{"aachen/a"}));
    EXPECT_EQ(data::load_manifest(options.out, "train").skipped, 2);
    // A mask of the same name in another folder is none of this image's.
    options.skip_missing = false;
    fs::rename(options.images / "aachen", options.images / "masks");
    gray_mask("a_gtFine_labelIds.png", {0, 1, 2});
    fs::remove_all(options.masks / "aachen");
    EXPECT_THAT(packed(3), ContainsRegex("masks/masks/a_gtFine_labelIds.png +mask is missing"));
}

TEST_F(Suffix, AWrongSuffixIsSaid) {
    city("aachen/a");
    options.mask_suffix = "_gtFine_labelId.png";
    EXPECT_THAT(packed(3), HasSubstr("a_gtFine_labelId.png  mask is missing; "
                                     "\"aachen/a_gtFine_labelIds.png\" is there"));
    options.image_suffix = "_left.png";
    EXPECT_THAT(packed(3), AllOf(HasSubstr("no image is called *_left.png (" +
                                           options.images.string() + ", and below) — "),
                                 HasSubstr("check --images and --image-suffix")));
}

TEST_F(Suffix, OptionsThatDoNotGoTogether) {
    city("aachen/a");
    options.mask_suffix = "/labels.png";
    EXPECT_THAT(packed(2), HasSubstr("--mask-suffix \"/labels.png\" has a slash — it is the end "
                                     "of a file's name — put folders into"));
    options.mask_suffix = "_gtFine_labelIds.png";
    options.split.clear();
    EXPECT_THAT(packed(2), HasSubstr("--list and --split are missing — the split needs a name"));
    options.split = "train";
    options.voc = dir.path();
    EXPECT_THAT(packed(2), HasSubstr("--image-suffix together with --voc — "));
    options.voc.clear();
    options.coco.file = dir / "instances.json";
    EXPECT_THAT(packed(2), HasSubstr("--image-suffix together with --coco — "));
}

}  // namespace
}  // namespace deeplab::preprocess
