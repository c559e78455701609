// What a file of COCO's instances may not have: each kind is one line of the table, with the file,
// the entry and the reason, and nothing is written.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coco_folder.h"
#include "deeplab/data/category_map.h"
#include "instances.h"

namespace deeplab::preprocess {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

class CocoRefusal : public deeplab::testing::CocoFolder {
protected:
    CocoRefusal() {
        picture(1);
        annotate(1, 1, 1, box(0, 0, 8, 8));
    }

    // The file is refused with this one line alone.
    void refused(const std::string& record, const std::string& reason) {
        const std::string text = packed(3);
        EXPECT_THAT(text, HasSubstr("1 problems in split fruit"));
        EXPECT_THAT(text, HasSubstr(cat("\n  ", record, " ")));
        EXPECT_THAT(text, HasSubstr(reason));
        EXPECT_THAT(text, HasSubstr(options.coco.file.string()));
        EXPECT_TRUE(nothing_written());
    }
    // An annotation 5 with this segmentation.
    void shape_refused(const std::string& segmentation, const std::string& reason) {
        const auto before = annotations;
        annotate(5, 1, 7, segmentation);
        refused("annotation 5", reason);
        annotations = before;
    }
    std::string data_error() { return packed_as_it_is(3); }
    std::string usage_error() { return packed(2); }
};

TEST_F(CocoRefusal, TheSameFileWithoutAFlawIsPacked) {
    packed();
    EXPECT_EQ(ids(), (std::vector<std::string>{"p1"}));
}

TEST_F(CocoRefusal, IdsThatStandTwice) {
    annotate(1, 1, 7, box(0, 0, 4, 4));
    refused("annotation 1", "its id stands several times");
    annotations.pop_back();
    entry(1, "other.jpg");
    refused("image 1", "its id stands several times");
    images.pop_back();
    categories.push_back("{\"id\": 9, \"name\": \"grape\"}");
    refused("category 9", "its id stands several times");
}

TEST_F(CocoRefusal, ImagesAndCategoriesThatTheFileDoesNotHave) {
    annotate(5, 99, 1, box(0, 0, 4, 4));
    refused("annotation 5", "its image_id 99 is no image of the file");
    annotations.pop_back();
    annotate(6, 1, 8, box(0, 0, 4, 4));
    refused("annotation 6", "its category_id 8 is no category of the file");
}

TEST_F(CocoRefusal, PolygonsThatAreNone) {
    shape_refused("[[1, 2, 3, 4]]", "polygon 1 has 4 numbers, which some readers take for a box");
    shape_refused("[[1, 2, 3, 4, 5, 6], [1, 2]]", "polygon 2 has 2 numbers: it needs 6 or more");
    shape_refused("[[]]", "polygon 1 has 0 numbers: it needs 6 or more");
    shape_refused("[[1, 2, 3, 4, 5, 6, 7]]", "polygon 1 has 7 numbers: x and y alternate");
    shape_refused("[[1, 2, 3, 4, 5, 1e9]]", "coordinate 1e+09 of polygon 1 is beyond 2^20 pixels");
    shape_refused("[[1, 2, 3, -1048577, 5, 6]]", "is beyond 2^20 pixels");
    shape_refused("[]", "its segmentation is an empty list");
    shape_refused("[1, 2, 3, 4, 5, 6]", "a number stands where a list of polygons was expected");
    shape_refused("[[1, 2, \"3\", 4, 5, 6]]", "a text stands in its segmentation");
    shape_refused("[[1, 2, [3], 4, 5, 6]]", "a list stands in its segmentation");
    shape_refused("[{\"counts\": [1], \"size\": [1, 1]}]", "a table stands in its segmentation");
    shape_refused("null", "its segmentation is null");
    shape_refused("\"abc\"", "its segmentation is a text");
    packed();  // the largest that is taken
    annotate(5, 1, 7, "[[0, 0, 1048576, 0, -1048576, 1048576]]");
    packed();
}

TEST_F(CocoRefusal, RunLengthsThatAreNone) {
    shape_refused("{\"counts\": [10, 469], \"size\": [20, 24]}",
                  "its run lengths end after 479 of 480 pixels of the image");
    shape_refused("{\"counts\": [10, 471], \"size\": [20, 24]}",
                  "its run lengths go beyond the 480 pixels of the image");
    shape_refused("{\"counts\": [10, -5, 475], \"size\": [20, 24]}",
                  "run 2 of its counts is negative");
    shape_refused("{\"counts\": [10, 470], \"size\": [24, 20]}",
                  "its run lengths are those of a picture of 20x24, the image is 24x20");
    shape_refused("{\"counts\": [10, 470]}", "its segmentation has no size = [height, width]");
    shape_refused("{\"counts\": [10, 470], \"size\": [20]}", "has no size = [height, width]");
    shape_refused("{\"size\": [20, 24]}", "its segmentation has no counts");
    shape_refused("{\"counts\": [10.5, 469.5], \"size\": [20, 24]}",
                  "10.5 stands where whole numbers are expected");
    shape_refused("{\"counts\": [10, 470], \"counts\": [480], \"size\": [20, 24]}",
                  "its counts stand twice");
    shape_refused("{\"counts\": \"P\", \"size\": [20, 24]}", "the text of its counts is cut off");
    shape_refused("{\"counts\": \"0 0\", \"size\": [20, 24]}",
                  "character 2 of its counts is none that they have");
    shape_refused("{\"counts\": \"32O\", \"size\": [20, 24]}", "run 3 of its counts is negative");
    shape_refused("{\"counts\": \"\", \"size\": [20, 24]}", "end after 0 of 480 pixels");
    shape_refused("{\"counts\": null, \"size\": [20, 24]}", "null stands in its segmentation");
    shape_refused("{\"counts\": [99999999999999], \"size\": [20, 24]}",
                  "a number of its counts is too large");
}

TEST_F(CocoRefusal, MembersThatAreMissingOrOfAnotherType) {
    const auto annotation = [&](const std::string& text, const std::string& record,
                                const std::string& reason) {
        annotations.push_back(text);
        refused(record, reason);
        annotations.pop_back();
    };
    annotation("{\"id\": 5, \"image_id\": 1, \"category_id\": 1}", "annotation 5",
               "it has no segmentation");
    annotation("{\"image_id\": 1, \"category_id\": 1}", "annotations[1]", "it has no \"id\"");
    annotation("{\"id\": 5, \"category_id\": 1}", "annotation 5", "it has no \"image_id\"");
    annotation("{\"id\": \"x\", \"image_id\": 1}", "annotations[1]", "\"id\" is a text");
    annotation("{\"id\": 5, \"id\": 6}", "annotation 6", "\"id\" stands twice");
    annotation("{\"id\": 5, \"iscrowd\": 2}", "annotation 5", "\"iscrowd\" is neither 0 nor 1");
    annotation("{\"id\": 5, \"area\": -1}", "annotation 5", "\"area\" is negative");
    annotation("{\"id\": 5, \"image_id\": 1.5}", "annotation 5",
               "\"image_id\" is not a whole number");
    annotation("{\"id\": 5, \"image_id\": [1]}", "annotation 5", "\"image_id\" is a list");
    annotation("7", "annotations[1]", "it is a number, not a table");
    annotation("[7]", "annotations[1]", "it is a list, not a table");
    images.push_back("{\"id\": 2, \"file_name\": \"a.jpg\", \"width\": 24}");
    refused("image 2", "it has no \"height\"");
    images.pop_back();
    categories.push_back("{\"id\": 12}");
    refused("category 12", "it has no \"name\"");
    categories.pop_back();
    options.coco.min_area = 1;
    refused("annotation 1", "it has no \"area\", which --min-area adds up");
}

TEST_F(CocoRefusal, ImagesThatCannotBeMeant) {
    const auto image = [&](const std::string& name, std::int64_t w, const std::string& reason) {
        entry(2, name, w);
        refused("image 2", reason);
        images.pop_back();
    };
    image("", width, "its file_name is empty");
    image("a\\u0000b.jpg", width, "has control characters");
    image("/p1.jpg", width, "leads out of the folder --images");
    image("x/../../p1.jpg", width, "leads out of the folder --images");
    image("p7.tif", width, "ends neither with .jpg nor with .png");
    image("p1.png", width, "is that of image 1 too, but for the ending");
    image("p7.jpg", 0, "its size 0x20 is none that a picture has");
    image("p7.jpg", 40000, "its size 40000x20 is none that a picture has");
}

TEST_F(CocoRefusal, PicturesThatDoNotFitTheFile) {
    const auto path = options.images / "p1.jpg";
    const auto good = read_bytes(path);
    const auto refused_picture = [&](const std::vector<unsigned char>& bytes,
                                     const std::string& reason) {
        deeplab::testing::put(path, bytes);
        const std::string text = packed(3);
        EXPECT_THAT(text,
                    AllOf(HasSubstr("1 problems"), HasSubstr(path.string()), HasSubstr(reason)));
        EXPECT_TRUE(nothing_written());
    };
    refused_picture(io::encode_jpeg(deeplab::testing::test_image(height, width, 1), 90),
                    "the image is 20x24, the file of annotations says 24x20");
    refused_picture(deeplab::testing::turned_by_exif(good), "EXIF orientation 6");
    refused_picture({good.begin(), good.begin() + 200}, "damaged JPEG");
    refused_picture(deeplab::testing::cmyk_jpeg(), "a CMYK JPEG");
    std::filesystem::remove(path);
    EXPECT_THAT(packed(3), AllOf(HasSubstr("image is missing"), HasSubstr("p1.jpg")));
    EXPECT_TRUE(nothing_written());
}

TEST_F(CocoRefusal, FilesThatAreNoInstances) {
    const auto refused_file = [&](const std::string& text, const std::string& reason) {
        write_atomically(options.coco.file, text);
        EXPECT_THAT(data_error(), AllOf(HasSubstr(reason), HasSubstr("instances_fruit.json")));
        EXPECT_TRUE(nothing_written());
    };
    refused_file("", "not valid JSON");
    refused_file("[]", "the file is a list");
    refused_file("7", "the file is a number");
    refused_file("{\"images\": [], \"annotations\": []}", "the file has no list \"categories\"");
    refused_file("{\"images\": {}}", "\"images\" is no list");
    refused_file("{\"images\": null}", "\"images\" is null");
    refused_file("{\"images\": [], \"images\": []}", "the list \"images\" stands twice");
    std::string text = json();
    refused_file(text.substr(0, text.size() / 2), "not valid JSON");
    text.replace(text.find("[[0"), 3, "[[NaN");
    refused_file(text, "invalid literal near ");
    refused_file("\x1f\x8b\x08 zip", "gzip");
}

TEST_F(CocoRefusal, MapsThatDoNotFitTheFile) {
    const auto refused_map = [&](const std::string& toml, const std::string& record,
                                 const std::string& reason) {
        map(toml);
        const std::string text = packed(3);
        EXPECT_THAT(text, AllOf(HasSubstr("1 problems"), HasSubstr("map.toml:"), HasSubstr(record),
                                HasSubstr(reason)));
        EXPECT_TRUE(nothing_written());
    };
    const std::string ground = "[[class]]\nname = \"ground\"\n[[class]]\nname = \"one\"\n";
    refused_map(ground + "labels = [1, \"appel\"]", "category \"appel\"",
                "is not in the file of --coco; \"apple\" is there");
    refused_map(ground + "labels = [1, 2]", "category 2", "is not in the file of --coco");
    refused_map(ground + "labels = [1, \"apple\"]", "category \"apple\"", "the map lists it twice");
    categories.push_back("{\"id\": 12, \"name\": \"apple\"}");
    refused_map(ground + "labels = [\"apple\"]", "category \"apple\"",
                "several categories have this name, with the ids 1 and 12: name it by its id");
}

TEST_F(CocoRefusal, MapsThatAreNone) {
    const auto refused_map = [&](const std::string& toml, const std::string& reason) {
        map(toml);
        EXPECT_THAT(usage_error(), AllOf(HasSubstr(reason), HasSubstr("map.toml")));
    };
    const std::string two = "[[class]]\nname = \"ground\"\n[[class]]\nname = \"one\"\n";
    refused_map(two, "class \"one\" lists no category");
    refused_map(two + "label = 1", "unknown key \"label\"");
    refused_map(two + "labels = 1", "\"labels\" must be a list of categories' names or ids");
    refused_map(two + "labels = [1.5]", "\"labels\" must be a list of categories' names or ids");
    refused_map("ignore = 1\n" + two + "labels = [1]", "\"ignore\" must be one value");
    refused_map("ignore = [254, 255]\n" + two + "labels = [1]", "\"ignore\" must be one value");
    refused_map("ignore_colors = [[1, 2, 3]]\n" + two, "unknown key \"ignore_colors\"");
}

TEST_F(CocoRefusal, OptionsThatContradictEachOther) {
    options.voc = dir.path();
    EXPECT_THAT(usage_error(), HasSubstr("they name two sources"));
    options.voc.clear();
    options.classes = options.coco.map;
    EXPECT_THAT(usage_error(), HasSubstr("give --map instead"));
    options.classes.clear();
    options.coco.map.clear();
    EXPECT_THAT(usage_error(), HasSubstr("--map FILE is missing"));
    options.images.clear();
    EXPECT_THAT(usage_error(), HasSubstr("--images DIR is missing"));
}

TEST_F(CocoRefusal, AllKindsStandInOneTable) {
    annotate(5, 1, 7, "[[1, 2, 3, 4]]");
    annotate(6, 99, 1, box(0, 0, 4, 4));
    entry(2, "p2.jpg", 30);
    entry(3, "p3.jpg");
    for (const int id : {2, 3}) annotate(10 + id, id, 1, box(0, 0, 8, 8));
    deeplab::testing::put(options.images / "p2.jpg", read_bytes(options.images / "p1.jpg"));
    const std::string text = packed(3);
    EXPECT_THAT(text,
                AllOf(HasSubstr("4 problems"), HasSubstr("annotation 5"), HasSubstr("annotation 6"),
                      HasSubstr("says 30x20"), HasSubstr("image is missing")));
    EXPECT_TRUE(nothing_written());
}

TEST_F(CocoRefusal, AFloodOfProblemsIsCutOff) {
    for (int i = 0; i < 12000; ++i) annotations.push_back("{}");
    const std::string text = packed(3);
    EXPECT_THAT(text, AllOf(HasSubstr("10000 problems"), HasSubstr("and 9950 more")));
}

}  // namespace
}  // namespace deeplab::preprocess
