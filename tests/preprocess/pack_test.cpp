#include "pack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "deeplab/base/error.h"
#include "harness/temp_dir.h"
#include "record.h"
#include "voc_folder.h"

namespace fs = std::filesystem;

namespace deeplab::preprocess {
namespace {

using deeplab::testing::TempDir;
using deeplab::testing::VocFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

class Pack : public ::testing::Test {
protected:
    Pack() : voc(dir.path()) {
        options.voc = dir.path();
        options.split = "val";
        options.out = dir / "shards";
    }

    int run() { return pack(options, *comm); }

    // What pack prints of bad records.
    std::string findings(int expected_code = 3) {
        ::testing::internal::CaptureStderr();
        const int code = run();
        const std::string text = ::testing::internal::GetCapturedStderr();
        EXPECT_EQ(code, expected_code) << text;
        return text;
    }

    std::string usage_error() {
        try {
            run();
        } catch (const UsageError& error) {
            return error.what();
        }
        return "no UsageError";
    }

    bool nothing_written() const {
        return !fs::exists(options.out) ||
               fs::directory_iterator(options.out) == fs::directory_iterator();
    }

    TempDir dir;
    VocFolder voc;
    PackOptions options;
    std::unique_ptr<comm::Communicator> comm = comm::make_self();
};

TEST_F(Pack, KeepsListOrderAndTheFilesOwnBytes) {
    const std::vector<std::string> ids = voc.fill(11);
    ASSERT_FALSE(std::is_sorted(ids.begin(), ids.end()));
    options.shards = 3;
    ASSERT_EQ(run(), 0);
    data::ShardSet set(options.out, "val");
    EXPECT_EQ(set.manifest().shards.size(), 3u);
    EXPECT_EQ(set.ids(), ids);
    std::vector<std::int64_t> pixels(21);
    std::int64_t ignored = 0;
    for (std::size_t i = 0; i < ids.size(); ++i) {
        const data::Record record = set.read(static_cast<std::int64_t>(i), true);
        EXPECT_EQ(record.image, read_bytes(voc.image(ids[i])));
        EXPECT_EQ(record.mask, read_bytes(voc.mask(ids[i])));
        const io::Mask mask = io::decode_mask(record.mask, record.id);
        EXPECT_EQ(record.width, mask.width);
        for (const std::uint8_t label : mask.labels) label == 255 ? ++ignored : ++pixels[label];
    }
    EXPECT_EQ(set.manifest().class_pixels, pixels);
    EXPECT_EQ(set.manifest().ignore_pixels, ignored);
    EXPECT_EQ(set.manifest().class_images[0], 11);
    EXPECT_EQ(verify(options.out, *comm), 0);
}

TEST_F(Pack, FindsTheVocFolderFromEachLevel) {
    const auto ids = voc.fill(3);
    for (const fs::path& given : {dir.path(), dir / "VOCdevkit", voc.root}) {
        options.voc = given;
        options.force = true;
        ASSERT_EQ(run(), 0) << given;
        EXPECT_EQ(data::ShardSet(options.out, "val").ids(), ids);
    }
    options.voc = dir / "nowhere";
    EXPECT_THAT(usage_error(), AllOf(HasSubstr("nowhere"), HasSubstr("JPEGImages")));
}

TEST_F(Pack, PaletteAndGrayscaleMasksGiveTheSameLabels) {
    const auto ids = voc.fill(4);
    ASSERT_EQ(run(), 0);
    std::vector<io::Mask> labels;
    for (const std::string& id : ids) {
        labels.push_back(io::decode_mask(read_bytes(voc.mask(id)), id));
        const auto gray = deeplab::testing::encode_gray_png(labels.back());
        ASSERT_FALSE(io::read_info(gray, id).palette);
        deeplab::testing::put(voc.mask(id), gray);
    }
    const data::Manifest palette = data::load_manifest(options.out, "val");
    options.out = dir / "gray";
    ASSERT_EQ(run(), 0);
    data::ShardSet set(options.out, "val");
    EXPECT_EQ(set.manifest().class_pixels, palette.class_pixels);
    for (std::size_t i = 0; i < ids.size(); ++i) {
        const data::Record record = set.read(static_cast<std::int64_t>(i), true);
        EXPECT_EQ(data::decode(record, data::Encoding::source, record.id).mask.labels,
                  labels[i].labels);
    }
}

TEST_F(Pack, ColourMasksBecomeLabelsAndUnlistedColoursAreNamed) {
    voc.fill(1);
    const auto palette = data::voc_classes().palette();
    const io::Mask labels = io::decode_mask(read_bytes(voc.mask("p0_0")), "mask");
    io::Image painted{labels.width, labels.height, {}};
    for (const std::uint8_t label : labels.labels)
        painted.pixels.insert(painted.pixels.end(),
                              {palette[label].r, palette[label].g, palette[label].b});
    deeplab::testing::put(voc.mask("p0_0"), io::encode_png(painted));
    ASSERT_EQ(run(), 0);
    data::ShardSet set(options.out, "val");
    EXPECT_EQ(data::decode(set.read(0), data::Encoding::source, "p0_0").mask.labels, labels.labels);

    painted.pixels[3 * static_cast<std::size_t>(2 * labels.width + 5)] = 77;
    deeplab::testing::put(voc.mask("p0_0"), io::encode_png(painted));
    options.force = true;
    EXPECT_THAT(findings(),
                AllOf(HasSubstr("colour (77, "), HasSubstr("x 5, y 2"), HasSubstr("p0_0.png")));
    EXPECT_NO_THROW(set.read(0, true));  // what was packed before is still there
    EXPECT_EQ(verify(options.out, *comm), 0);
}

TEST_F(Pack, RawStoresPixels) {
    voc.fill(3);
    options.encoding = data::Encoding::raw;
    ASSERT_EQ(run(), 0);
    data::ShardSet set(options.out, "val");
    const data::Record record = set.read(1, true);
    EXPECT_EQ(record.image, io::decode_image(read_bytes(voc.image(record.id)), "image").pixels);
    EXPECT_EQ(record.mask, io::decode_mask(read_bytes(voc.mask(record.id)), "mask").labels);
    EXPECT_EQ(verify(options.out, *comm), 0);
}

TEST_F(Pack, TrainAugIsWhatHasAMaskAndIsNotInVal) {
    voc.fill(4);
    for (const char* id : {"x3", "x1", "x2"}) voc.add(id, 5);
    options.split = "train_aug";
    ::testing::internal::CaptureStderr();
    ASSERT_EQ(run(), 0);
    EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("minus val.txt"));
    EXPECT_EQ(data::ShardSet(options.out, "train_aug").ids(),
              (std::vector<std::string>{"x1", "x2", "x3"}));
    voc.list("train_aug", {"x3", "x1"});  // an existing list wins
    options.force = true;
    ASSERT_EQ(run(), 0);
    EXPECT_EQ(data::ShardSet(options.out, "train_aug").ids(),
              (std::vector<std::string>{"x3", "x1"}));
    options.split = "trainval";
    EXPECT_THAT(usage_error(),
                AllOf(HasSubstr("no list \"trainval\""), HasSubstr("train_aug, val")));
}

TEST_F(Pack, MasksDefaultToAugmentedAndCanBeChosen) {
    voc.fill(1);
    io::Mask other = io::decode_mask(read_bytes(voc.mask("p0_0")), "mask");
    std::fill(other.labels.begin(), other.labels.end(), std::uint8_t{7});
    const auto bytes = io::encode_palette_png(other, data::voc_classes().palette());
    deeplab::testing::put(voc.root / "SegmentationClass" / "p0_0.png", bytes);
    options.masks = "SegmentationClass";
    ASSERT_EQ(run(), 0);
    EXPECT_EQ(data::ShardSet(options.out, "val").read(0).mask, bytes);
    options.masks.clear();
    options.force = true;
    ASSERT_EQ(run(), 0);
    EXPECT_EQ(data::ShardSet(options.out, "val").read(0).mask, read_bytes(voc.mask("p0_0")));
    fs::remove_all(voc.root / "SegmentationClassAug");
    ASSERT_EQ(run(), 0);
    EXPECT_EQ(data::ShardSet(options.out, "val").read(0).mask, bytes);
}

TEST_F(Pack, OtherLayoutsAndListsOfTwoColumns) {
    voc.fill(3);
    options.voc.clear();
    options.split.clear();
    options.images = voc.root / "JPEGImages";
    options.masks = voc.root / "SegmentationClassAug";
    options.list = dir / "mine.txt";
    write_atomically(options.list,
                     "/JPEGImages/p0_1.jpg /SegmentationClassAug/p0_1.png\r\np1_2\n\np2_0\n");
    voc.add("p0_1", 1);
    voc.add("p1_2", 2);
    voc.add("p2_0", 3);
    ASSERT_EQ(run(), 0);
    EXPECT_EQ(data::ShardSet(options.out, "mine").ids(),
              (std::vector<std::string>{"p0_1", "p1_2", "p2_0"}));
    options.voc = voc.root;
    EXPECT_THAT(usage_error(), HasSubstr("two sources"));
}

TEST_F(Pack, AllBadRecordsAreListedAndNothingIsWritten) {
    const auto ids = voc.fill(10);
    const auto palette = data::voc_classes().palette();
    deeplab::testing::put(voc.mask(ids[0]),
                          io::encode_palette_png(deeplab::testing::test_mask(9, 9, 1), palette));
    io::Mask mask = io::decode_mask(read_bytes(voc.mask(ids[1])), "mask");
    mask.labels[static_cast<std::size_t>(mask.width) + 4] = 21;
    deeplab::testing::put(voc.mask(ids[1]), io::encode_palette_png(mask, palette));
    fs::remove(voc.image(ids[2]));
    fs::remove(voc.mask(ids[3]));
    fs::resize_file(voc.image(ids[4]), fs::file_size(voc.image(ids[4])) * 2 / 3);
    fs::resize_file(voc.mask(ids[5]), fs::file_size(voc.mask(ids[5])) - 20);
    write_atomically(voc.image(ids[6]), "not a picture");
    std::vector<std::string> list = ids;
    list.push_back(ids[9]);
    voc.list("val", list);
    const std::string text = findings();
    EXPECT_THAT(text, AllOf(HasSubstr("8 problems"), HasSubstr("its mask 9x9"),
                            HasSubstr("label 21 in 1 pixels, first at x 4, y 1")));
    EXPECT_THAT(text, AllOf(HasSubstr("image is missing"), HasSubstr("mask is missing"),
                            HasSubstr("damaged JPEG")));
    EXPECT_THAT(text, AllOf(HasSubstr("damaged PNG"), HasSubstr("neither JPEG nor PNG"),
                            HasSubstr("lines 10 and 11")));
    for (int i = 0; i <= 6; ++i) EXPECT_THAT(text, HasSubstr(ids[static_cast<std::size_t>(i)]));
    EXPECT_EQ(text.find(ids[7]), std::string::npos);
    EXPECT_TRUE(nothing_written());
}

TEST_F(Pack, KindsOfPicturesThatCannotBeUsedAreNamed) {
    const auto ids = voc.fill(6);
    const auto mask_of = [&](std::size_t i) {
        return io::decode_mask(read_bytes(voc.mask(ids[i])), ids[i]);
    };
    deeplab::testing::put(voc.image(ids[0]),
                          deeplab::testing::turned_by_exif(read_bytes(voc.image(ids[0]))));
    deeplab::testing::put(voc.image(ids[1]), deeplab::testing::cmyk_jpeg());
    fs::remove(voc.image(ids[2]));
    deeplab::testing::put(voc.root / "JPEGImages" / (ids[2] + ".png"),
                          deeplab::testing::encode_gray_png(mask_of(2), 16));
    deeplab::testing::put(voc.mask(ids[3]), deeplab::testing::encode_gray_png(mask_of(3), 16));
    const io::Mask size = mask_of(4);
    deeplab::testing::put(voc.mask(ids[4]),
                          io::encode_png(deeplab::testing::test_image(size.width, size.height, 1)));
    options.classes = dir / "classes.toml";
    std::string classes = "ignore = 255\n";
    for (int c = 0; c < 21; ++c) classes += cat("[[class]]\nname = \"c", c, "\"\n");
    write_atomically(options.classes, classes);
    const std::string text = findings();
    EXPECT_THAT(text, AllOf(HasSubstr("4 problems"), HasSubstr("EXIF orientation 6"),
                            HasSubstr("a CMYK JPEG")));
    EXPECT_THAT(text, HasSubstr("an RGB mask, but class \"c0\" has no colour"));
    const std::size_t deep = text.find("16 bits");
    ASSERT_NE(deep, std::string::npos);
    EXPECT_EQ(text.find("16 bits", deep + 1), std::string::npos);  // the image, not the mask
    for (const std::size_t i : {0u, 1u, 2u, 4u}) EXPECT_THAT(text, HasSubstr(ids[i] + "."));
    for (const std::size_t i : {3u, 5u}) EXPECT_EQ(text.find(ids[i] + "."), std::string::npos);
    EXPECT_TRUE(nothing_written());
}

TEST_F(Pack, ATrainingListMustNotHoldIdsOfVal) {
    const auto ids = voc.fill(4);
    for (const char* id : {"x1", "x2"}) voc.add(id, 5);
    const std::vector<std::string> mixed = {"x1", ids[2], "x2"};
    voc.list("train_aug", mixed);
    options.split = "train_aug";
    const std::string text = findings();
    EXPECT_THAT(text, AllOf(HasSubstr("1 problems"), HasSubstr(ids[2]), HasSubstr("val.txt"),
                            HasSubstr("train_aug.txt")));
    EXPECT_TRUE(nothing_written());
    voc.list("trainval", mixed);  // says by its name that it holds both
    options.split = "trainval";
    EXPECT_EQ(run(), 0);
}

TEST_F(Pack, ALongTableIsCutShortAndWrittenWhole) {
    const auto ids = voc.fill(60);
    for (const std::string& id : ids) fs::remove(voc.image(id));
    const fs::path problems = options.out / "val.problems.txt";
    const std::string text = findings();
    EXPECT_THAT(text, AllOf(HasSubstr("60 problems"), HasSubstr("and 10 more"),
                            HasSubstr(problems.string())));
    EXPECT_EQ(text.find(ids[59]), std::string::npos);
    EXPECT_THAT(read_text(problems), HasSubstr(ids[59]));
    voc.add(ids[7], 1);
    options.skip_missing = true;
    ::testing::internal::CaptureStderr();
    ASSERT_EQ(run(), 0);
    EXPECT_THAT(::testing::internal::GetCapturedStderr(),
                AllOf(HasSubstr("skipped 59 of 60"), HasSubstr("and 9 more")));
    EXPECT_FALSE(fs::exists(problems));
    EXPECT_THAT(read_text(options.out / "val.skipped.txt"), HasSubstr(ids[59]));
    EXPECT_EQ(data::load_manifest(options.out, "val").skipped, 59);
}

TEST_F(Pack, MissingFilesCanBeSkippedButNotDamage) {
    const auto ids = voc.fill(6);
    fs::remove(voc.image(ids[1]));
    fs::remove(voc.mask(ids[4]));
    options.skip_missing = true;
    const std::string skipped = findings(0);
    EXPECT_THAT(skipped, AllOf(HasSubstr("skipped 2 of 6"), HasSubstr(ids[1] + ".jpg"),
                               HasSubstr(ids[4] + ".png")));
    data::ShardSet set(options.out, "val");
    EXPECT_EQ(set.ids(), (std::vector<std::string>{ids[0], ids[2], ids[3], ids[5]}));
    EXPECT_EQ(set.manifest().skipped, 2);
    EXPECT_EQ(verify(options.out, *comm), 0);
    write_atomically(voc.image(ids[0]), "");
    options.force = true;
    EXPECT_THAT(findings(), HasSubstr("1 problems"));
    for (const std::string& id : ids) fs::remove(voc.image(id));
    EXPECT_THROW(run(), DataError);
}

TEST_F(Pack, AFinishedSplitIsReplacedOnlyByForce) {
    voc.fill(4);
    options.shards = 2;
    ASSERT_EQ(run(), 0);
    EXPECT_THAT(usage_error(), HasSubstr("--force"));
    options.force = true;
    options.shards = 3;
    ASSERT_EQ(run(), 0);
    EXPECT_FALSE(fs::exists(options.out / "val-00000-of-00002.h5"));  // no stale shard stays
    EXPECT_EQ(verify(options.out, *comm), 0);
    options.shards = 5;
    EXPECT_THAT(usage_error(), HasSubstr("at most 4"));
    EXPECT_EQ(verify(options.out, *comm), 0);
}

TEST_F(Pack, EmptyAndUnsafeListsAreRefused) {
    voc.fill(1);
    voc.list("empty", {});
    options.split = "empty";
    EXPECT_THROW(run(), DataError);
    voc.list("unsafe", {"../../secret", "p0_0 x y"});
    options.split = "unsafe";
    EXPECT_THAT(findings(), AllOf(HasSubstr("leads out"), HasSubstr("not an id")));
    EXPECT_TRUE(nothing_written());
}

TEST_F(Pack, RealDataIsStoredByteForByte) {
    const char* folder = std::getenv("DEEPLAB_TEST_DATA");
    if (folder == nullptr) GTEST_SKIP() << "skipped: no data";
    options.voc = folder;
    ASSERT_EQ(run(), 0);
    data::ShardSet set(options.out, "val");
    EXPECT_EQ(set.manifest().classes.classes.size(), 21u);
    const fs::path root = fs::path(folder) / "VOCdevkit" / "VOC2012";
    for (const std::int64_t i : {std::int64_t{0}, set.size() / 2, set.size() - 1}) {
        const data::Record record = set.read(i, true);
        EXPECT_EQ(record.image, read_bytes(root / "JPEGImages" / (record.id + ".jpg")));
        EXPECT_EQ(record.mask, read_bytes(root / "SegmentationClassAug" / (record.id + ".png")));
    }
    EXPECT_EQ(verify(options.out, *comm), 0);
}

}  // namespace
}  // namespace deeplab::preprocess
