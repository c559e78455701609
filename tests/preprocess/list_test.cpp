// Lists as people have them: what is clear is taken, else the line and the file that is there are
// named.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "list.h"
#include "own_folder.h"

namespace fs = std::filesystem;

namespace deeplab::preprocess {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Strings = std::vector<std::string>;

class List : public deeplab::testing::OwnFolder {};

std::string utf16(const std::string& ascii, bool big) {
    std::string out;
    for (const char c : ascii) out += big ? std::string{'\0', c} : std::string{c, '\0'};
    return out;
}

TEST_F(List, EveryEncodingAndLineEndGivesTheSameIds) {
    for (const char* id : {"p0", "p1", "p2"}) pair(id);
    const std::string text = "p0\r\np1\r\np2\r\n";
    for (const std::string& form :
         {std::string("p0\np1\np2\n"), text, std::string("p0\rp1\rp2"), "\xEF\xBB\xBF" + text,
          "\xFF\xFE" + utf16(text, false), "\xFE\xFF" + utf16(text, true), utf16(text, false),
          utf16(text, true), std::string("p0 \n\n\tp1\n\xEF\xBB\xBFp2\xC2\xA0\n")}) {
        list(form);
        packed();
        EXPECT_EQ(ids(), (Strings{"p0", "p1", "p2"})) << form;
    }
    list(std::string("p0\0p1\n\n\n\n\n\n\n", 13));
    EXPECT_THAT(packed(3), HasSubstr("no text: it has zero bytes"));
    list("\xFF\xFEp");
    EXPECT_THAT(packed(3), HasSubstr("odd number of bytes"));
}

TEST_F(List, NumbersLinesAsAnEditorDoes) {
    pair("p0");
    list("\xEF\xBB\xBFp0\r\n\r\np0\r\n");
    EXPECT_THAT(packed(3), AllOf(HasSubstr("train.txt:3"), HasSubstr("lines 1 and 3")));
}

TEST_F(List, IdsAreUtf8) {
    const std::string utf8 = "m\xC3\xBCller", latin1 = "m\xFCller";
    EXPECT_TRUE(is_utf8(utf8));
    for (const char* bad : {"m\xFCller", "\xC3", "\xC0\xAF", "\xED\xA0\x80", "\xF5\x80\x80\x80"})
        EXPECT_FALSE(is_utf8(bad)) << printable(bad);
    pair(utf8);
    list(utf8 + "\n");
    packed();
    EXPECT_EQ(ids(), Strings{utf8});
    list(latin1 + "\n");  // the list alone is of Windows
    packed();
    EXPECT_EQ(ids(), Strings{utf8});
    fs::rename(options.images / (utf8 + ".png"), options.images / (latin1 + ".png"));
    fs::rename(options.masks / (utf8 + ".png"), options.masks / (latin1 + ".png"));
    EXPECT_THAT(packed(3),
                AllOf(HasSubstr("m\\xfcller\" is not UTF-8"), HasSubstr("rename the file")));
    list("\xE4hnlich\n");  // and no such file
    EXPECT_THAT(packed(3), HasSubstr("save the list in UTF-8"));
}

TEST_F(List, BlanksBelongToAName) {
    pair("my photo 1");
    pair("a, b");
    list("my photo 1\n\"a, b\"\n");
    packed();
    EXPECT_EQ(ids(), (Strings{"my photo 1", "a, b"}));
    fs::remove(options.images / "my photo 1.png");
    EXPECT_THAT(packed(3), AllOf(HasSubstr("my photo 1.jpg"), HasSubstr("image is missing")));
    options.skip_missing = true;
    packed();
    EXPECT_EQ(ids(), Strings{"a, b"});
}

TEST_F(List, EndingsMayStandThereAndBeInCapitals) {
    for (const char* id : {"p0", "p1", "p2", "p3"}) pair(id);
    fs::rename(options.images / "p1.png", options.images / "p1.Png");
    fs::rename(options.masks / "p1.png", options.masks / "p1.PNG");
    list("p0.png\np1\np2.jpg\n./p3\n# a remark, no id\n");
    packed();
    EXPECT_EQ(ids(), (Strings{"p0", "p1", "p2", "p3"}));
    list("p0\np0.png\n");
    EXPECT_THAT(packed(3), HasSubstr("listed twice, in lines 1 and 2"));
    pair("#5");
    list("#5\n");
    packed();
    EXPECT_EQ(ids(), Strings{"#5"});
}

TEST_F(List, AMaskIsNeverTakenForItsImage) {
    image("p0.JPG");
    fs::rename(options.images / "p0.JPG", options.masks / "p0.JPG");
    gray_mask("p0.png", {0, 1, 2});
    options.images = options.masks;
    list("p0\n");
    packed();
    EXPECT_EQ(labels(0).labels, stripes({0, 1, 2}).labels);
    fs::remove(options.masks / "p0.JPG");
    EXPECT_THAT(packed(3), HasSubstr("image and mask are one file"));
}

TEST_F(List, TwoColumnsMeanTheFilesThatTheyName) {
    for (const char* id : {"p0", "p1", "night/p0", "night/p1"}) image(std::string(id) + ".png");
    gray_mask("p0.png", {0, 1});
    gray_mask("p1.png", {0, 1});
    for (const char* name : {"night/p0.png", "night/p1.png", "p0_gt.png"}) gray_mask(name, {1, 2});
    for (const char* text :
         {"night/p0.png night/p0.png\nnight/p1.png night/p1.png\n",
          "images/night/p0.png masks/night/p0.png\n/images/night/p1.png /masks/night/p1.png\n",
          "night/p0.png,night/p0.png\nnight/p1.png;\tnight/p1.png\n",
          "\"night/p0.png\" \"night/p0.png\"\nnight\\p1.png night\\p1.png\n",
          "night/p0 night/p0\nnight/p1 night/p1\n"}) {
        list(text);
        packed();
        EXPECT_EQ(ids(), (Strings{"night/p0", "night/p1"})) << text;
        EXPECT_EQ(labels(0).labels, stripes({1, 2}).labels) << text;
    }
    list(cat((options.images / "night/p0.png").string(), " ",
             (options.masks / "p0_gt.png").string(), "\n"));
    packed();
    EXPECT_EQ(ids(), Strings{"night/p0"});
    list("p0.png p0_gt.png\n");
    packed();
    EXPECT_EQ(ids(), Strings{"p0"});
    EXPECT_EQ(labels(0).labels, stripes({1, 2}).labels);
}

TEST_F(List, FoldersOfColumnsAreNeverDropped) {
    pair("p0");
    list("night/p0.png night/p0.png\n");
    EXPECT_THAT(packed(3), AllOf(HasSubstr("night/p0.png"), HasSubstr("image is missing"),
                                 HasSubstr("\"p0.png\" is there")));
    list("/data/old/images/p0.png /data/old/masks/p0.png\n");
    EXPECT_THAT(packed(3), HasSubstr("image is missing"));
    fs::create_directories(dir / "other/images");
    fs::copy_file(options.images / "p0.png", dir / "other/images/p0.png");
    list(cat((dir / "other/images/p0.png").string(), " p0.png\n"));
    EXPECT_THAT(packed(3), HasSubstr("leads out of the folder"));
    list("../images/p0\n");
    EXPECT_THAT(packed(3), HasSubstr("leads out of the folder"));
}

TEST_F(List, LinesOfOtherListsAreExplained) {
    pair("p0");
    fs::rename(options.masks / "p0.png", options.masks / "m0.png");
    list("m0.png p0.png\n");
    EXPECT_THAT(packed(3), HasSubstr("the image stands first"));
    list("p0 -1\n");
    EXPECT_THAT(packed(3), HasSubstr("ImageSets/Main"));
    list("p0 once more\n");
    EXPECT_THAT(packed(3), HasSubstr("not an id: \"p0 once more\""));
}

TEST_F(List, TheFileThatIsThereIsNamed) {
    const auto missing = [&](const std::string& line) {
        list(line + "\n");
        return packed(3);
    };
    pair("p0");
    fs::rename(options.images / "p0.png", options.images / "p0.tif");
    EXPECT_THAT(missing("p0"), AllOf(HasSubstr("image is missing"), HasSubstr("\"p0.tif\"")));
    pair("Street_7");
    EXPECT_THAT(missing("street_7"), HasSubstr("\"Street_7.png\" is there"));
    EXPECT_THAT(missing("Street_07"), HasSubstr("\"Street_7.png\" is there"));
    image("a.png");
    gray_mask("a_mask.png", {0, 1});
    EXPECT_THAT(missing("a"), AllOf(HasSubstr("mask is missing"), HasSubstr("\"a_mask.png\""),
                                    HasSubstr("two columns, IMAGE MASK")));
    image("b.png");
    gray_mask("b.png", {0, 1});
    fs::rename(options.masks / "b.png", options.masks / "b.jpg");
    EXPECT_THAT(missing("b"), AllOf(HasSubstr("mask is missing"), HasSubstr("\"b.jpg\"")));
    pair("sub/c");
    EXPECT_THAT(missing("c"), HasSubstr("\"sub/c.png\" is there"));
    image("d.png");
    fs::create_symlink("/nowhere/d.png", options.masks / "d.png");
    EXPECT_THAT(missing("d"), AllOf(HasSubstr("mask is missing"), HasSubstr("/nowhere/d.png")));
    pair("mu\xCC\x88ller");  // of macOS
    EXPECT_THAT(missing("m\xC3\xBCller"), AllOf(HasSubstr("mu\xCC\x88ller.png\" is there"),
                                                HasSubstr("accents as separate characters")));
    EXPECT_THAT(missing("nothing like it"), Not(HasSubstr("is there")));
    EXPECT_THAT(missing("p1"), Not(HasSubstr("is there"))) << "p0 is another picture";
    EXPECT_THAT(missing("Street_8"), Not(HasSubstr("is there")));
    EXPECT_THAT(missing("Stret_7"), HasSubstr("\"Street_7.png\" is there"));
}

// The ids of val.txt are held out whatever form the list has, and whether or not files are there.
TEST(VocLists, WhatValHoldsOutIsNeverTrainedOn) {
    const deeplab::testing::TempDir dir;
    deeplab::testing::VocFolder voc(dir.path());
    for (const char* id : {"s0", "s1", "s2", "s3"}) voc.add(id, 1);
    deeplab::testing::put(voc.root / "SegmentationClassAug" / "._s2.png", {1});  // of macOS
    const fs::path val = voc.root / "ImageSets/Segmentation/val.txt";
    const auto comm = comm::make_self();
    PackOptions options;
    options.voc = dir.path();
    options.split = "train_aug";
    options.out = dir / "shards";
    for (const std::string& text :
         {std::string("\xEF\xBB\xBFs0\r\ns1\r\n"), "\xFF\xFE" + utf16("s0\ns1\n", false),
          std::string("s0.jpg\ns1.png\n"), std::string("# held out\ns0\ngone\ns1\n"),
          std::string(
              "/JPEGImages/s0.jpg /SegmentationClass/s0.png\nJPEGImages/s1.jpg,s1.png\n")}) {
        write_atomically(val, text);
        options.force = true;
        ASSERT_EQ(pack(options, *comm), 0) << text;
        EXPECT_EQ(data::ShardSet(options.out, "train_aug").ids(), (Strings{"s2", "s3"})) << text;
    }
    write_atomically(val, "s0\ns1 and more\n");
    ::testing::internal::CaptureStderr();
    EXPECT_EQ(pack(options, *comm), 3);
    EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("val.txt:2"));
}

}  // namespace
}  // namespace deeplab::preprocess
