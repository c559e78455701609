#include "deeplab/data/shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/io/features.h"
#include "deeplab/io/hdf5.h"
#include "harness/messages.h"
#include "harness/temp_dir.h"

namespace fs = std::filesystem;

namespace deeplab::data {
namespace {

using deeplab::testing::TempDir;
using ::testing::AllOf;
using ::testing::HasSubstr;

Record record(int i) {
    const std::int64_t width = 5 + i % 3, height = 4 + i % 2;
    io::Image image{width, height,
                    std::vector<std::uint8_t>(static_cast<std::size_t>(width * height * 3),
                                              std::uint8_t(9 * i))};
    io::Mask mask{
        width, height,
        std::vector<std::uint8_t>(static_cast<std::size_t>(width * height), std::uint8_t(i % 21))};
    return {cat("id_", i), width, height, io::encode_png(image),
            io::encode_palette_png(mask, voc_classes().palette())};
}

// 7 records in 3 shards; the counts are not looked at by ShardSet.
Manifest write_set(const fs::path& dir) {
    Manifest m;
    m.split = "val";
    m.classes = voc_classes();
    m.class_pixels.assign(21, 3);
    m.class_images.assign(21, 2);
    std::vector<std::string> ids;
    for (int s = 0, next = 0; s < 3; ++s) {
        std::vector<Record> records;
        for (const int end = 7 * (s + 1) / 3; next < end; ++next) {
            records.push_back(record(next));
            ids.push_back(records.back().id);
        }
        m.shards.push_back(write_shard(dir / shard_name("val", s, 3), records));
    }
    m.records = 7;
    m.list_hash = hash_ids(ids);
    save_manifest(dir, m);
    return m;
}

void flip_bit(const fs::path& file, std::int64_t at) {
    std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
    f.seekg(at);
    const char byte = static_cast<char>(f.get() ^ 0x10);
    f.seekp(at);
    f.put(byte);
}

std::int64_t find_bytes(const fs::path& file, const std::vector<std::uint8_t>& wanted) {
    const std::vector<unsigned char> all = read_bytes(file);
    return std::search(all.begin(), all.end(), wanted.begin(), wanted.end()) - all.begin();
}

TEST(ShardSet, ReadsRecordsInListOrderFromAnyShard) {
    const TempDir dir;
    write_set(dir.path());
    ShardSet set(dir.path(), "val");
    ASSERT_EQ(set.size(), 7);
    EXPECT_EQ(set.ids().size(), 7u);
    for (const int i : {6, 0, 3, 2, 5, 1, 4}) {
        const Record expected = record(i), found = set.read(i, true);
        EXPECT_EQ(found.id, expected.id);
        EXPECT_EQ(found.width, expected.width);
        EXPECT_EQ(found.height, expected.height);
        EXPECT_EQ(found.image, expected.image);
        EXPECT_EQ(found.mask, expected.mask);
        const LabelledImage decoded = decode(found, Encoding::source, found.id);
        EXPECT_EQ(decoded.mask.labels[0], i % 21);
        EXPECT_EQ(decoded.image.pixels[0], 9 * i);
    }
    set.verify_files({0, 1, 2});
    EXPECT_THROW(set.read(7), LogicError);
}

TEST(ShardSet, WritesTheSameBytesAgain) {
    const TempDir a, b;
    const Manifest first = write_set(a.path()), second = write_set(b.path());
    for (std::size_t s = 0; s < 3; ++s) {
        EXPECT_EQ(first.shards[s].crc32, second.shards[s].crc32);
        EXPECT_EQ(read_bytes(a.path() / first.shards[s].file),
                  read_bytes(b.path() / first.shards[s].file));
    }
    EXPECT_EQ(read_text(a / "val.json"), read_text(b / "val.json"));
}

TEST(ShardSet, ManySmallShardsDoNotHoldManyFiles) {
    const TempDir dir;
    Manifest m;
    m.split = "many";
    m.classes = voc_classes();
    m.class_pixels = m.class_images = std::vector<std::int64_t>(21);
    std::vector<std::string> ids;
    for (int s = 0; s < 70; ++s) {
        m.shards.push_back(write_shard(dir.path() / shard_name("many", s, 70), {record(s)}));
        ids.push_back(cat("id_", s));
    }
    m.records = 70;
    m.list_hash = hash_ids(ids);
    save_manifest(dir.path(), m);
    ShardSet set(dir.path(), "many");
    EXPECT_EQ(set.ids(), ids);
    EXPECT_EQ(set.read(0, true).id, "id_0");  // was closed to make room
    EXPECT_EQ(set.read(69, true).id, "id_69");
    std::size_t open = 0;
    for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
        std::error_code ignored;
        open += fs::read_symlink(entry.path(), ignored).string().find("many-") != std::string::npos
                    ? 1
                    : 0;
    }
    EXPECT_LE(open, 64u);
    EXPECT_GE(open, 1u);
}

TEST(ShardSet, FindsAFlippedBitOfAnImage) {
    const TempDir dir;
    const Manifest m = write_set(dir.path());
    const fs::path shard = dir.path() / m.shards[1].file;
    flip_bit(shard, find_bytes(shard, record(3).image) + 40);
    ShardSet set(dir.path(), "val");
    EXPECT_NO_THROW(set.read(2, true));
    const std::string message = testing::message_of<DataError>([&] { set.read(3, true); });
    EXPECT_THAT(message, HasSubstr("CRC-32"));
    EXPECT_THAT(message, HasSubstr("val-00001-of-00003.h5"));
    EXPECT_THAT(message, HasSubstr("id_3"));
    EXPECT_THAT(testing::message_of<DataError>([&] {
                    set.verify_files({0, 1, 2});
                }),
                HasSubstr("val-00001-of-00003.h5"));
}

TEST(ShardSet, FindsTruncationAndAMissingShard) {
    const TempDir dir;
    const Manifest m = write_set(dir.path());
    const fs::path shard = dir.path() / m.shards[2].file;
    fs::resize_file(shard, fs::file_size(shard) - 100);
    ShardSet set(dir.path(), "val");
    EXPECT_THAT(testing::message_of<DataError>([&] { set.read(6); }),
                HasSubstr("bytes, the manifest says"));
    EXPECT_THAT(testing::message_of<DataError>([&] { set.ids(); }),
                HasSubstr("val-00002-of-00003.h5"));
    fs::remove(shard);
    EXPECT_THAT(testing::message_of<DataError>([&] { set.verify_files({2}); }),
                HasSubstr("missing"));
    EXPECT_NO_THROW(set.read(0, true));
}

TEST(ShardSet, RefusesShardsOfAnotherList) {
    const TempDir dir;
    Manifest m = write_set(dir.path());
    m.list_hash ^= 1;
    save_manifest(dir.path(), m);
    ShardSet set(dir.path(), "val");
    EXPECT_THAT(testing::message_of<DataError>([&] { set.ids(); }), HasSubstr("list hash"));
}

// A shard written by another program may be a correct HDF5 file and still lie about itself.
TEST(ShardSet, RefusesOffsetsThatDoNotFit) {
    const std::vector<std::vector<std::int64_t>> wrong = {
        {0, 5, 4, 10}, {1, 4, 6, 10}, {0, 4, 6, 11}, {0, 4, 4, 10}};
    for (std::size_t k = 0; k <= wrong.size(); ++k) {
        const TempDir dir;
        const fs::path path = dir.path() / shard_name("val", 0, 1);
        {
            io::Hdf5Writer file(path);
            file.attribute("format", std::string("deeplab-shard"));
            file.attribute("format_version", std::int64_t{1});
            file.attribute("records", std::int64_t{3});
            const std::vector<std::int64_t> good = {0, 4, 6, 10}, four{4}, three{3}, sizes{3, 2},
                                            ten{10};
            const std::vector<std::uint8_t> bytes(10);
            const std::vector<std::int64_t> values(6, 1);
            file.write("image_offsets", k < wrong.size() ? wrong[k].data() : good.data(),
                       DType::i64, four);
            file.write("mask_offsets", good.data(), DType::i64, four);
            file.write("sizes", values.data(), DType::i64, sizes);
            file.write("crc32", values.data(), DType::i64, three);
            const std::vector<std::string> ids = {"a", "b", "c"};
            file.write_strings("ids", ids);
            file.write("images", bytes.data(), DType::u8, ten);
            file.write("masks", bytes.data(), DType::u8, ten);
            file.close();
        }
        Manifest m;
        m.split = "val";
        m.classes = voc_classes();
        m.class_pixels = m.class_images = std::vector<std::int64_t>(21);
        m.records = 3;
        m.shards = {{"val-00000-of-00001.h5", 3, static_cast<std::int64_t>(fs::file_size(path)),
                     file_crc32(path)}};
        save_manifest(dir.path(), m);
        ShardSet set(dir.path(), "val");
        if (k == wrong.size())
            EXPECT_EQ(set.read(1).image.size(), 2u);  // the same file with good offsets is fine
        else
            EXPECT_THAT(testing::message_of<DataError>([&] { set.read(1); }),
                        HasSubstr("image_offsets"))
                << k;
    }
}

TEST(Manifest, SurvivesTheRoundTrip) {
    const TempDir dir;
    const Manifest m = write_set(dir.path()), back = load_manifest(dir.path(), "val");
    EXPECT_EQ(back.records, 7);
    EXPECT_EQ(back.list_hash, m.list_hash);
    EXPECT_EQ(back.classes.classes.size(), 21u);
    EXPECT_EQ(back.classes.classes[15].name, "person");
    EXPECT_EQ(back.classes.classes[15].color, (io::Rgb{192, 128, 128}));
    EXPECT_EQ(back.class_pixels, m.class_pixels);
    EXPECT_EQ(back.class_images, m.class_images);
    EXPECT_EQ(back.shards[2].crc32, m.shards[2].crc32);
}

TEST(Manifest, EveryLossIsADataErrorNamingTheKey) {
    const TempDir dir;
    write_set(dir.path());
    const std::string text = read_text(dir / "val.json");
    const std::pair<std::string, std::string> edits[] = {
        {"\"records\": 7", "\"records\": 8"},
        {"\"records\": 7", "\"records\": \"7\""},
        {"\"list_hash\"", "\"list_bash\""},
        {"val-00001-of-00003.h5", "../val-00001-of-00003.h5"},
        {"\"ignore\": 255", "\"ignore\": 3"},
        {"\"records\": 7", "\"records\": 4294967296"},
        {"\"records\": 2", "\"records\": 2305843009213693951"},
        {"\"format_version\": 1", "\"format_version\": 2"},
        {"\"encoding\": \"source\"", "\"encoding\": \"zip\""},
        {"{", "["},
    };
    for (const auto& [from, to] : edits) {
        std::string edited = text;
        const std::size_t at = edited.find(from);
        ASSERT_NE(at, std::string::npos) << from;
        edited.replace(at, from.size(), to);
        write_atomically(dir / "val.json", edited);
        EXPECT_THAT(testing::message_of<DataError>([&] { load_manifest(dir.path(), "val"); }),
                    HasSubstr("val.json"))
            << to;
    }
    EXPECT_THAT(testing::message_of<DataError>([&] { load_manifest(dir.path(), "train"); }),
                HasSubstr("deeplab-pack"));
}

TEST(Manifest, OfANewerProgramIsReadUnlessItNeedsIt) {
    const TempDir dir;
    write_set(dir.path());
    const std::string text = read_text(dir / "val.json"), first = "\"format_version\": 1";
    const auto with = [&](const std::string& more) {
        std::string edited = text;
        write_atomically(dir / "val.json",
                         edited.replace(edited.find(first), first.size(), cat(first, ", ", more)));
    };
    with("\"something_new\": {\"a\": [1, 2]}, \"requires\": []");
    EXPECT_EQ(load_manifest(dir.path(), "val").records, 7);
    with("\"requires\": [\"something_new\"]");
    EXPECT_THROW(load_manifest(dir.path(), "val"), io::NewerFile);
    EXPECT_THAT(testing::message_of<DataError>([&] { load_manifest(dir.path(), "val"); }),
                AllOf(HasSubstr("val.json needs a program that knows \"something_new\""),
                      HasSubstr("use the version of deeplab-hpc that wrote it")));
    with("\"requires\": \"something_new\"");
    EXPECT_THAT(testing::message_of<DataError>([&] { load_manifest(dir.path(), "val"); }),
                HasSubstr("is no list of names"));
}

// Numbers that no table of a shard of that size can hold, and whose sum would not fit 64 bits.
TEST(Manifest, RefusesMoreRecordsThanItsShardsCanHold) {
    const TempDir dir;
    Manifest m = write_set(dir.path());
    const auto refusal = [&] {
        save_manifest(dir.path(), m);
        return testing::message_of<DataError>([&] { load_manifest(dir.path(), "val"); });
    };
    m.shards[0].records = m.shards[0].bytes;
    EXPECT_THAT(refusal(), HasSubstr("bytes cannot hold"));
    for (ShardInfo& shard : m.shards) {
        shard.bytes = INT64_MAX / 4;
        shard.records = shard.bytes / 40;
    }
    EXPECT_THAT(refusal(), HasSubstr("too many records"));
    m.records = INT64_MAX / 4;
    EXPECT_THAT(refusal(), HasSubstr("\"records\" = 2305843009213693951 is out of range"));
}

TEST(Classes, VocColoursAndPalette) {
    const ClassTable voc = voc_classes();
    ASSERT_EQ(voc.classes.size(), 21u);
    EXPECT_EQ(voc.classes[1].color, (io::Rgb{128, 0, 0}));
    EXPECT_EQ(voc.classes[20].color, (io::Rgb{0, 64, 128}));
    EXPECT_EQ(voc.palette()[255], (io::Rgb{224, 224, 192}));
}

TEST(Classes, FileIsReadAndErrorsNameTheLine) {
    const TempDir dir;
    const fs::path path = dir / "classes.toml";
    const auto load = [&](const std::string& text) -> std::string {
        write_atomically(path, text);
        try {
            const ClassTable t = load_classes(path);
            return cat(t.classes.size(), " ", t.ignore, " ", t.classes.back().name, " ",
                       int{t.classes.back().color.b}, " ", t.classes.back().has_color);
        } catch (const UsageError& error) {
            return error.what();
        }
    };
    EXPECT_EQ(
        load("ignore = 9\n[[class]]\nname = \"a\"\n[[class]]\nname = \"b\"\ncolor = [1, 2, 3]\n"),
        "2 9 b 3 1");
    EXPECT_EQ(load("[[class]]\nname = \"a\"\n[[class]]\nname = \"b\"\n"), "2 255 b 0 0");
    EXPECT_THAT(load("[[class]]\nname = \"a\"\ncolour = [1, 2, 3]\n"),
                HasSubstr("did you mean \"color\""));
    EXPECT_THAT(load("[[class]]\nname = \"a\"\ncolor = [1, 2, 300]\n"), HasSubstr("line 3"));
    EXPECT_THAT(load("ignore = 1\n[[class]]\nname = \"a\"\n[[class]]\nname = \"b\"\n"),
                HasSubstr("also the label"));
    EXPECT_THAT(load("[[class]]\nname = \"a\"\n[[class]]\nname = \"a\"\n"),
                HasSubstr("two classes"));
    EXPECT_THAT(load("[[class]]\ncolor = [1, 2, 3]\n"), HasSubstr("no name"));
    EXPECT_THAT(load("ignore = 255\n"), HasSubstr("no class"));
}

// How masks write the labels: values of each class, values and colours to be ignored.
TEST(Classes, FileSaysHowMasksWriteTheLabels) {
    const TempDir dir;
    const fs::path path = dir / "classes.toml";
    const std::string two = "[[class]]\nname = \"a\"\n[[class]]\nname = \"b\"\n";
    // "value:label …" of all values with a label, the stored ignore, the void colours.
    const auto load = [&](const std::string& text) -> std::string {
        write_atomically(path, text);
        try {
            const ClassFile file = load_class_file(path);
            std::string out = file.masks.plain() ? "plain" : "other";
            for (std::size_t v = 0; v < file.masks.labels.size(); ++v)
                if (file.masks.labels[v] != MaskValues::no_label)
                    out += cat(" ", v, ":", file.masks.labels[v]);
            return cat(out, " ignore ", file.classes.ignore, " ", file.masks.void_colors.size());
        } catch (const UsageError& error) {
            return error.what();
        }
    };
    EXPECT_EQ(load(two), "plain 0:0 1:1 255:255 ignore 255 1");
    EXPECT_EQ(load("ignore = 9\n" + two), "plain 0:0 1:1 9:9 ignore 9 1");
    EXPECT_EQ(load("ignore = 0\n" + two), "other 0:255 1:0 2:1 ignore 255 1");
    EXPECT_EQ(load("ignore = [0, 255]\n" + two), "other 0:255 1:0 2:1 255:255 ignore 255 1");
    EXPECT_EQ(load("ignore = [254, 255]\n" + two), "other 0:0 1:1 254:255 255:255 ignore 255 1");
    EXPECT_EQ(load("[[class]]\nname = \"a\"\nlabel = 0\n[[class]]\nname = \"b\"\nlabel = 255\n"),
              "other 0:0 255:1 ignore 255 1");
    EXPECT_EQ(load("ignore = 7\n[[class]]\nname = \"a\"\nlabel = 26\n"),
              "other 7:7 26:0 ignore 7 1");
    EXPECT_EQ(load("ignore_colors = [[0, 0, 0], [1, 2, 3]]\n" + two),
              "plain 0:0 1:1 255:255 ignore 255 3");
    EXPECT_THAT(load(two + "label = 4\n"), HasSubstr("\"a\" has no label, others have"));
    EXPECT_THAT(load("ignore = 1\n" + two),
                HasSubstr("ignore = 1 is also the label of class \"b\""));
    EXPECT_THAT(load("ignore = []\n" + two), HasSubstr("line 1"));
    EXPECT_THAT(load("ignore_colors = [1, 2, 3]\n" + two), HasSubstr("ignore_colors = [[r, g, b]"));
    EXPECT_THAT(load("ignore_colors = [[1, 2, 3]]\n[[class]]\nname = \"a\"\ncolor = [1, 2, 3]\n"),
                HasSubstr("is one of ignore_colors"));
    EXPECT_THAT(load("ignore = 255\n[[class]]\nname = \"a\"\nlabel = 255\n"),
                HasSubstr("also the label"));
    EXPECT_THAT(load("[[class]]\nname = \"a\"\nlabel = 3\n[[class]]\nname = \"b\"\nlabel = 3\n"),
                HasSubstr("have the same label 3"));
}

// Several values of masks make one class, others are ignored.
TEST(Classes, FileMapsLabelsToClasses) {
    const TempDir dir;
    const fs::path path = dir / "classes.toml";
    const auto load = [&](const std::string& top, const std::string& a, const std::string& b) {
        write_atomically(
            path, cat(top, "[[class]]\nname = \"a\"\n", a, "\n[[class]]\nname = \"b\"\n", b, "\n"));
        try {
            const ClassFile file = load_class_file(path);
            std::string out;
            for (std::size_t v = 0; v < file.masks.labels.size(); ++v)
                if (file.masks.labels[v] != MaskValues::no_label)
                    out += cat(v, ":", file.masks.labels[v], " ");
            for (const ClassInfo& info : file.classes.classes)
                for (const int label : info.labels) out += cat("| ", label, " ");
            return cat(out, "ignore ", file.classes.ignore);
        } catch (const UsageError& error) {
            return std::string(error.what());
        }
    };
    EXPECT_EQ(load("", "labels = [8, 7]", "label = 300"),
              "7:0 8:0 255:255 300:1 | 8 | 7 | 300 ignore 255");
    EXPECT_EQ(load("ignore_labels = [0, 65535]\n", "labels = [7]", "labels = [11]"),
              "0:255 7:0 11:1 255:255 65535:255 | 7 | 11 ignore 255");
    // Places as ever: nothing to come back to, even where other values are ignored.
    EXPECT_EQ(load("ignore_labels = [9]\n", "", ""), "0:0 1:1 9:255 255:255 ignore 255");
    EXPECT_EQ(load("", "labels = [0]", "label = 1"), "0:0 1:1 255:255 ignore 255");
    EXPECT_EQ(load("ignore = 0\n", "", ""), "0:255 1:0 2:1 | 1 | 2 ignore 255");
    EXPECT_EQ(load("ignore = 200\nignore_labels = [0]\n", "labels = [3]", "labels = [200, 4]"),
              cat("ignore = 200 is also the label of class \"b\" (", path.string(),
                  ", line 1) — labels have no meaning without a valid list of classes — choose a "
                  "value in 2..255, or give every class the value that it has in the masks: label "
                  "= …; with ignore = 0 classes count from 1"));
    EXPECT_EQ(load("", "labels = [7, 8]", "labels = [8]"),
              cat("\"a\" and \"b\" have the same label 8 (", path.string(),
                  ", line 4) — labels have no meaning without a valid list of classes — change "
                  "one"));
    EXPECT_EQ(load("ignore_labels = [1, 7]\n", "labels = [7]", "labels = [8]"),
              cat("ignore_labels: 7 is also the label of class \"a\" (", path.string(),
                  ", line 1) — labels have no meaning without a valid list of classes — a value is "
                  "either a class's or ignored: take it out of one list"));
    EXPECT_THAT(load("", "labels = [7, 7]", "labels = [8]"),
                HasSubstr("\"labels\" has 7 twice (" + path.string() + ", line 3)"));
    EXPECT_THAT(load("", "labels = []", "labels = [8]"),
                HasSubstr("\"labels\" must be a list of values of the masks"));
    EXPECT_THAT(load("", "labels = [-1]", "labels = [8]"),
                HasSubstr("\"labels\" must be integers in 0..65535"));
    EXPECT_THAT(load("", "label = 65536", "labels = [8]"),
                HasSubstr("\"label\" must be an integer in 0..65535"));
    EXPECT_THAT(load("", "labels = [\"car\"]", "labels = [8]"),
                HasSubstr("names of categories are for deeplab-pack --map"));
    EXPECT_THAT(load("", "label = 1\nlabels = [2]", "labels = [8]"),
                HasSubstr("class 0 has label and labels"));
    EXPECT_THAT(load("", "labels = [1]", ""), HasSubstr("\"b\" has no label, others have"));
    EXPECT_THAT(load("ignore_label = [9]\n", "", ""), HasSubstr("did you mean \"ignore_labels\""));
}

}  // namespace
}  // namespace deeplab::data
