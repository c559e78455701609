#include "shapes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "deeplab/base/error.h"
#include "harness/temp_dir.h"
#include "pack.h"
#include "voc_folder.h"

namespace fs = std::filesystem;

namespace deeplab::preprocess {
namespace {

using deeplab::testing::TempDir;

constexpr std::size_t kClasses = 4;

struct Pixels {
    std::vector<io::Image> images;
    std::vector<io::Mask> masks;
};

Pixels load(data::ShardSet& set) {
    Pixels out;
    for (std::int64_t i = 0; i < set.size(); ++i) {
        const data::Record record = set.read(i, true);
        data::LabelledImage decoded = data::decode(record, set.manifest().encoding, record.id);
        out.images.push_back(std::move(decoded.image));
        out.masks.push_back(std::move(decoded.mask));
    }
    return out;
}

// The best a classifier can do that looks at one pixel's colour, in bins of 16 levels a channel:
// the class most frequent in the bin. Returns its mean IoU on `val`.
double colour_miou(const Pixels& train, const Pixels& val) {
    std::vector<std::array<std::int64_t, kClasses>> bins(4096);
    const auto bin = [](const io::Image& image, std::size_t i) {
        const std::uint8_t* p = &image.pixels[3 * i];
        return static_cast<std::size_t>(p[0] >> 4 << 8 | p[1] >> 4 << 4 | p[2] >> 4);
    };
    for (std::size_t k = 0; k < train.images.size(); ++k)
        for (std::size_t i = 0; i < train.masks[k].labels.size(); ++i)
            if (train.masks[k].labels[i] < kClasses)
                ++bins[bin(train.images[k], i)][train.masks[k].labels[i]];
    std::array<std::array<double, kClasses>, kClasses> confusion{};
    for (std::size_t k = 0; k < val.images.size(); ++k)
        for (std::size_t i = 0; i < val.masks[k].labels.size(); ++i) {
            if (val.masks[k].labels[i] >= kClasses) continue;
            const auto& counts = bins[bin(val.images[k], i)];
            const auto guess = std::max_element(counts.begin(), counts.end()) - counts.begin();
            ++confusion[val.masks[k].labels[i]][static_cast<std::size_t>(guess)];
        }
    double sum = 0;
    for (std::size_t c = 0; c < kClasses; ++c) {
        double row = 0, column = 0;
        for (std::size_t d = 0; d < kClasses; ++d) {
            row += confusion[c][d];
            column += confusion[d][c];
        }
        sum += confusion[c][c] / (row + column - confusion[c][c]);
    }
    return sum / kClasses;
}

// The default data set, through files and the packer as in the quick start.
class Shapes : public ::testing::Test {
protected:
    static void SetUpTestSuite() {
        dir = new TempDir;
        ShapesOptions options;
        options.out = dir->path() / "data";
        make_shapes(options);
        const auto comm = comm::make_self();
        for (const char* split : {"train", "val"}) {
            PackOptions pack_options;
            pack_options.voc = options.out;
            pack_options.classes = options.out / "classes.toml";
            pack_options.split = split;
            pack_options.out = dir->path() / "shards";
            ASSERT_EQ(pack(pack_options, *comm), 0);
        }
    }
    static void TearDownTestSuite() {
        delete dir;
        dir = nullptr;
    }

    static Pixels split(const std::string& name) {
        data::ShardSet set(dir->path() / "shards", name);
        return load(set);
    }

    static TempDir* dir;
};
TempDir* Shapes::dir = nullptr;

TEST_F(Shapes, ColourAloneDoesNotSolveThem) {
    const double miou = colour_miou(split("train"), split("val"));
    RecordProperty("miou", cat(miou));
    EXPECT_LT(miou, 0.30);
    EXPECT_GT(miou, 0.05);  // the classifier does guess
}

// The same classifier on the same masks, but with a colour for each class: it can do better when
// colour tells.
TEST_F(Shapes, TheColourClassifierSolvesColouredClasses) {
    Pixels train = split("train"), val = split("val");
    for (Pixels* pixels : {&train, &val})
        for (std::size_t k = 0; k < pixels->images.size(); ++k)
            for (std::size_t i = 0; i < pixels->masks[k].labels.size(); ++i)
                pixels->images[k].pixels[3 * i] = static_cast<std::uint8_t>(
                    pixels->masks[k].labels[i] % 4 * 60);
    EXPECT_GT(colour_miou(train, val), 0.95);
}

TEST_F(Shapes, EveryClassHasItsShareOfPixels) {
    for (const char* name : {"train", "val"}) {
        const data::Manifest m = data::load_manifest(dir->path() / "shards", name);
        EXPECT_EQ(m.records, std::string(name) == "val" ? 48 : 256);
        ASSERT_EQ(m.classes.classes.size(), kClasses);
        EXPECT_EQ(m.classes.classes[2].name, "checker");
        double total = static_cast<double>(m.ignore_pixels);
        for (const std::int64_t pixels : m.class_pixels) total += static_cast<double>(pixels);
        for (std::size_t c = 0; c < kClasses; ++c) {
            EXPECT_GT(static_cast<double>(m.class_pixels[c]) / total, 0.14) << name << " " << c;
            EXPECT_LT(static_cast<double>(m.class_pixels[c]) / total, 0.42) << name << " " << c;
        }
        EXPECT_GT(static_cast<double>(m.ignore_pixels) / total, 0.03);
        EXPECT_LT(static_cast<double>(m.ignore_pixels) / total, 0.15);
    }
}

TEST(DrawScene, IsAPureFunctionOfSeedAndIndex) {
    const ShapesOptions options;
    const Scene a = draw_scene(options, 5, 3), b = draw_scene(options, 5, 3),
                c = draw_scene(options, 6, 3);
    EXPECT_EQ(a.image.pixels, b.image.pixels);
    EXPECT_EQ(a.mask.labels, b.mask.labels);
    EXPECT_NE(a.image.pixels, c.image.pixels);
    for (const Scene* s : {&a, &b, &c}) {
        EXPECT_GE(s->image.width, 96);
        EXPECT_LE(s->image.width, 160);
        EXPECT_EQ(s->image.pixels.size(), 3 * s->mask.labels.size());
    }
}

TEST(DrawScene, TwelveClassesAllOccurAndNoOther) {
    ShapesOptions options;
    options.classes = 12;
    std::array<int, 256> images{};
    for (std::uint64_t index = 0; index < 40; ++index) {
        std::array<int, 256> pixels{};
        for (const std::uint8_t label : draw_scene(options, 3, index).mask.labels) ++pixels[label];
        for (std::size_t v = 0; v < pixels.size(); ++v) images[v] += pixels[v] > 0 ? 1 : 0;
    }
    for (std::size_t c = 0; c < 12; ++c) EXPECT_GT(images[c], 3) << "class " << c;
    for (std::size_t v = 12; v < 255; ++v) EXPECT_EQ(images[v], 0) << "label " << v;
}

TEST(MakeShapes, WritesTheSameFilesForASeedAndNeverOverwrites) {
    const TempDir dir;
    ShapesOptions options;
    options.train = 3;
    options.val = 2;
    options.seed = 9;
    const auto image = [&](const std::string& id) {
        return read_bytes(options.out / "VOCdevkit" / "VOC2012" / "JPEGImages" / (id + ".jpg"));
    };
    options.out = dir / "a";
    make_shapes(options);
    const auto train = image("train_00001"), val = image("val_00001");
    EXPECT_NE(train, val);
    EXPECT_THROW(make_shapes(options), UsageError);
    options.out = dir / "b";
    make_shapes(options);
    EXPECT_EQ(image("train_00001"), train);
    EXPECT_EQ(image("val_00001"), val);
    EXPECT_EQ(read_text(options.out / "VOCdevkit/VOC2012/ImageSets/Segmentation/trainval.txt"),
              "train_00000\ntrain_00001\ntrain_00002\nval_00000\nval_00001\n");
    EXPECT_EQ(data::load_classes(options.out / "classes.toml").classes.size(), 4u);
    options.classes = 13;
    options.out = dir / "c";
    EXPECT_THROW(make_shapes(options), UsageError);
}

}  // namespace
}  // namespace deeplab::preprocess
