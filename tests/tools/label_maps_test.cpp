// Data sets as they come, by the lines of preprocess/README.md: packed, trained on, evaluated, and
// back to the labels of their own masks.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/data/shard.h"
#include "deeplab/io/image.h"
#include "harness/process.h"
#include "harness/source_dir.h"
#include "harness/temp_dir.h"

namespace deeplab {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using Strings = std::vector<std::string>;

constexpr std::int64_t kWidth = 48, kHeight = 40, kSquare = 8;

// The block of shell code below the line of the page that begins so.
std::string block(const std::string& page, const std::string& line) {
    const std::size_t at = page.find("\n" + line), first = page.find("\n```sh\n", at) + 7;
    EXPECT_NE(at, std::string::npos) << line;
    return page.substr(first, page.find("\n```\n", first) + 1 - first);
}

class DataSet : public ::testing::Test {
protected:
    DataSet() { fs::create_directory_symlink(testing::source_dir() / "jobs", dir_ / "jobs"); }

    void put(const std::string& name, const std::vector<std::uint8_t>& bytes) const {
        const fs::path path = dir_ / name;
        fs::create_directories(path.parent_path());
        write_atomically(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    }
    // Squares of these values, one after another.
    template <class Value>
    static std::vector<Value> squares(const std::vector<Value>& values) {
        std::vector<Value> out;
        for (std::int64_t y = 0; y < kHeight; ++y)
            for (std::int64_t x = 0; x < kWidth; ++x)
                out.push_back(values[static_cast<std::size_t>(y / kSquare * (kWidth / kSquare) +
                                                              x / kSquare) %
                                     values.size()]);
        return out;
    }
    static std::vector<std::uint8_t> gray(const std::vector<std::uint16_t>& values) {
        return io::encode_gray_png({kWidth, kHeight, squares(values)}, 8);
    }
    static std::vector<std::uint8_t> painted(const std::vector<io::Rgb>& colors) {
        io::Image image{kWidth, kHeight, {}};
        for (const io::Rgb c : squares(colors))
            image.pixels.insert(image.pixels.end(), {c.r, c.g, c.b});
        return io::encode_png(image);
    }
    static std::vector<std::uint8_t> photo() {
        return painted({{200, 30, 30}, {20, 160, 60}, {40, 60, 220}, {250, 250, 250}, {5, 5, 5}});
    }

    // Runs shell code in the folder, with the programs on the path.
    testing::ProcessResult shell(const std::string& code) const {
        const std::string bin = fs::path(testing::program("deeplab-pack")).parent_path().string();
        return testing::run_process(
            {"bash", "-euo", "pipefail", "-c", code},
            {.environment = {cat("PATH=", bin, ":", std::getenv("PATH")), "OMP_NUM_THREADS=1"},
             .directory = dir_.path().string()});
    }
    void documented(const std::string& line) const {
        const auto result = shell(
            block(read_text(testing::source_dir() / "preprocess/README.md"), line));
        ASSERT_EQ(result.exit_code, 0) << result.both();
    }

    // Trains two steps on what was packed and does what the page says of the way back.
    void train_and_return() {
        write_atomically(dir_ / "config.toml", R"(model.backbone = "mobilenet_v2"
model.dilation = "layer"
model.separable = true
data = {train_split = "train", val_split = "val", crop = 33, resize = {mode = "none"}}
train = {iterations = 2, global_batch = 2, log_every = 1}
optimizer.lr = 0.01
)");
        put("photo.png", photo());
        auto result = shell(
            "deeplab-pack verify shards; "
            "deeplab-train --config config.toml --data shards --out run --device cpu");
        ASSERT_EQ(result.exit_code, 0) << result.both();
        documented("And back, to the labels");
        result = shell(
            "deeplab-eval --weights run --data shards --split val --save-masks class_masks; "
            "deeplab-predict --weights run --out class_predictions photo.png");
        ASSERT_EQ(result.exit_code, 0) << result.both();
    }

    // Of each class: what the masks have instead of its number.
    std::map<std::uint16_t, std::uint16_t> pairs(const std::string& classes,
                                                 const std::string& labels) const {
        std::map<std::uint16_t, std::uint16_t> out;
        const io::WideMask a = mask(classes), b = mask(labels);
        EXPECT_EQ(a.labels.size(), b.labels.size());
        for (std::size_t i = 0; i < a.labels.size(); ++i) {
            const auto [known, fresh] = out.emplace(a.labels[i], b.labels[i]);
            if (!fresh && known->second != b.labels[i]) ADD_FAILURE() << "two labels of a class";
        }
        return out;
    }
    io::WideMask mask(const std::string& name) const {
        return io::decode_wide_mask(read_bytes(dir_ / name), name);
    }

    // The masks of the evaluation and the prediction are those of the class file's labels.
    void expect_labels(const std::string& class_file, const std::string& id, int bits = 8) const {
        const data::ClassTable table = data::load_class_file(class_file).classes;
        for (const auto& [classes, labels] :
             {std::pair{cat("class_masks/", id, ".png"), cat("masks/", id, ".png")},
              {"class_predictions/photo.png", "predictions/photo.png"}}) {
            const io::ImageInfo info = io::read_mask_info(read_bytes(dir_ / labels), labels);
            EXPECT_EQ(info.bit_depth, bits);
            EXPECT_FALSE(info.palette);
            for (const auto& [number, label] : pairs(classes, labels))
                EXPECT_EQ(label, table.classes.at(number).labels.front()) << labels;
        }
    }
    std::string class_file(const std::string& name) const {
        return (testing::source_dir() / "jobs/classes" / name).string();
    }

    testing::TempDir dir_;
};

TEST_F(DataSet, SlowCityscapesComesBackAsLabelIds) {
    for (const std::string place :
         {"train/aachen/aachen_000000", "train/bonn/bonn_000001", "val/munster/munster_000000"}) {
        put(cat("leftImg8bit/", place, "_leftImg8bit.png"), photo());
        put(cat("gtFine/", place, "_gtFine_labelIds.png"), gray({7, 8, 11, 26, 33, 0, 23, 30}));
        put(cat("gtFine/", place, "_gtFine_instanceIds.png"), gray({7}));
        put(cat("gtFine/", place, "_gtFine_color.png"), painted({{128, 64, 128}}));
    }
    documented("Cityscapes,");
    data::ShardSet train(dir_ / "shards", "train");
    EXPECT_EQ(train.ids(), (Strings{"aachen/aachen_000000", "bonn/bonn_000001"}));
    EXPECT_EQ(io::decode_mask(train.read(0).mask, "mask").labels,
              squares(std::vector<std::uint8_t>{0, 1, 2, 13, 18, 255, 10, 255}));
    train_and_return();
    expect_labels(class_file("cityscapes.toml"), "munster_munster_000000");
}

TEST_F(DataSet, SlowAde20kComesBackCountedFromOne) {
    for (const std::string name : {"training/ADE_train_00000001", "training/ADE_train_00000002",
                                   "validation/ADE_val_00000001"}) {
        put(cat("images/", name, ".jpg"), io::encode_jpeg(io::decode_image(photo(), "photo"), 90));
        put(cat("annotations/", name, ".png"), gray({0, 1, 2, 150, 13}));
    }
    documented("ADE20K with");
    const data::ShardSet val(dir_ / "shards", "val");
    EXPECT_EQ(val.manifest().classes.classes.size(), 150u);
    EXPECT_EQ(io::decode_mask(data::ShardSet(dir_ / "shards", "val").read(0).mask, "mask").labels,
              squares(std::vector<std::uint8_t>{255, 0, 1, 149, 12}));
    train_and_return();
    expect_labels(class_file("ade20k.toml"), "ADE_val_00000001");
}

TEST_F(DataSet, SlowCamVidComesBackInItsColours) {
    const io::Rgb sky{128, 128, 128}, building{128, 0, 0}, wall{64, 192, 0}, road{128, 64, 128},
        marks{128, 0, 192}, black{0, 0, 0};
    for (const char* id : {"0001TP_006690", "0006R0_f00930", "Seq05VD_f00000"}) {
        put(cat("701_StillsRaw_full/", id, ".png"), photo());
        put(cat("LabeledApproved_full/", id, "_L.png"),
            painted({sky, building, wall, road, marks, black}));
    }
    write_atomically(dir_ / "train.txt", "0001TP_006690\n0006R0_f00930\n");
    write_atomically(dir_ / "val.txt", "Seq05VD_f00000\n");
    documented("CamVid,");
    EXPECT_EQ(io::decode_mask(data::ShardSet(dir_ / "shards", "val").read(0).mask, "mask").labels,
              squares(std::vector<std::uint8_t>{0, 1, 1, 3, 3, 255}));
    train_and_return();
    // No values to go back to: numbers in the classes' colours, with or without the option.
    EXPECT_EQ(read_bytes(dir_ / "masks/Seq05VD_f00000.png"),
              read_bytes(dir_ / "class_masks/Seq05VD_f00000.png"));
    EXPECT_EQ(read_bytes(dir_ / "predictions/photo.png"),
              read_bytes(dir_ / "class_predictions/photo.png"));
    const data::ClassTable table = data::load_class_file(class_file("camvid.toml")).classes;
    const auto palette = io::read_palette(read_bytes(dir_ / "masks/Seq05VD_f00000.png"), "mask");
    for (std::size_t c = 0; c < table.classes.size(); ++c)
        EXPECT_EQ(palette.at(c), table.classes[c].color);
}

TEST_F(DataSet, SlowMasksOf0And255ComeBack) {
    for (const char* name : {"train/p0", "train/p1", "val/p2"}) {
        put(cat(name, ".png"), photo());
        put(cat(name, "_segmentation.png"), gray({0, 255, 255}));
    }
    documented("Masks of 0 and 255");
    train_and_return();
    expect_labels((dir_ / "binary.toml").string(), "p2");
    // 16 bits where a label needs them. An evaluation takes the labels of its split.
    put("wide/p3.png", photo());
    put("wide/p3_label.png",
        io::encode_gray_png({kWidth, kHeight, squares(std::vector<std::uint16_t>{300, 1000})}, 16));
    write_atomically(dir_ / "wide.toml",
                     "[[class]]\nname = \"skin\"\nlabel = 300\n"
                     "[[class]]\nname = \"lesion\"\nlabels = [1000, 2]\n");
    const auto wide = shell(
        "deeplab-pack --images wide --masks wide --mask-suffix _label --split val --classes "
        "wide.toml --out wide_shards; "
        "deeplab-eval --weights run --data wide_shards --save-masks wide_classes; "
        "deeplab-eval --weights run --data wide_shards --save-masks wide_masks --ids original");
    ASSERT_EQ(wide.exit_code, 0) << wide.both();
    EXPECT_EQ(io::read_mask_info(read_bytes(dir_ / "wide_masks/p3.png"), "mask").bit_depth, 16);
    for (const auto& [number, label] : pairs("wide_classes/p3.png", "wide_masks/p3.png"))
        EXPECT_EQ(label, number == 0 ? 300 : 1000);
    const auto refused = shell("deeplab-eval --weights run --data shards --ids original");
    EXPECT_EQ(refused.exit_code, 2);
    EXPECT_THAT(refused.err, HasSubstr("--ids original without --save-masks — "));
}

}  // namespace
}  // namespace deeplab
