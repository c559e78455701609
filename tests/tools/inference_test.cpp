// deeplab-eval and deeplab-predict as a user runs them, on a small network of fresh values.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/data/shard.h"
#include "deeplab/evaluate/confusion.h"
#include "deeplab/io/value.h"
#include "deeplab/model/deeplab.h"
#include "deeplab/weights/checkpoint.h"
#include "harness/process.h"
#include "harness/source_dir.h"
#include "harness/temp_dir.h"
#include "harness/tiny_dataset.h"

namespace deeplab {
namespace {

namespace fs = std::filesystem;
using Strings = std::vector<std::string>;

void write_checkpoint(const fs::path& file, int classes, bool align_corners = true) {
    weights::Snapshot snapshot;
    snapshot.info.model = {.backbone = "resnet18",
                           .num_classes = classes,
                           .width_divisor = 8,
                           .align_corners = align_corners};
    for (int c = 0; c < classes; ++c) {
        const auto level = static_cast<std::uint8_t>(60 * c);
        snapshot.info.classes.classes.push_back({cat("class", c), {level, level, level}});
    }
    snapshot.info.step = 7;
    const graph::Plan plan = model::inference_plan(snapshot.info.model, 1, 65, 65);
    for (const auto& p : plan.parameters) {
        snapshot.parameters[p.name] = model::initial_value(p, plan, 3);
        snapshot.momentum[p.name].assign(snapshot.parameters[p.name].size(), 0.0f);
        snapshot.extents[p.name] = p.kind == graph::ParameterKind::conv_weight
                                       ? std::vector<std::int64_t>{p.shape.n, p.shape.c, p.shape.h,
                                                                   p.shape.w}
                                       : std::vector<std::int64_t>{p.shape.c};
    }
    for (const auto& s : plan.states) {
        snapshot.states[s.name].assign(static_cast<std::size_t>(s.shape.elements()), s.initial);
        snapshot.extents[s.name] = {s.shape.c};
    }
    weights::save_checkpoint(file, snapshot);
}

class Inference : public ::testing::Test {
protected:
    static void SetUpTestSuite() {
        dir_ = std::make_unique<testing::TempDir>();
        testing::write_tiny_dataset(*dir_ / "data", {.split = "val", .images = 5, .classes = 4});
        fs::create_directories(*dir_ / "run/checkpoints");
        write_checkpoint(*dir_ / "run/checkpoints/step-0000007.h5", 4);
        fs::create_symlink("step-0000007.h5", *dir_ / "run/checkpoints/best.h5");
        write_checkpoint(*dir_ / "three.h5", 3);
        // The images of the split as files.
        data::ShardSet shards(*dir_ / "data", "val");
        for (std::int64_t i = 0; i < shards.size(); ++i) {
            const data::Record record = shards.read(i);
            write(record.id + ".jpg", {record.image.begin(), record.image.end()});
            write(record.id + ".png", {record.mask.begin(), record.mask.end()});
            sizes_[record.id] = {record.width, record.height};
        }
    }
    static void TearDownTestSuite() { dir_.reset(); }

    static std::string path(const std::string& name) { return (*dir_ / name).string(); }
    static void write(const std::string& name, const std::string& bytes) {
        std::ofstream(*dir_ / name, std::ios::binary) << bytes;
    }
    static testing::ProcessResult run(const std::string& program, Strings arguments,
                                      int ranks = 1) {
        arguments.insert(arguments.begin(), testing::program(program));
        return testing::run_process(testing::with_ranks(ranks, arguments));
    }
    static Strings eval_arguments(const Strings& more) {
        Strings all = {"--weights", path("run"), "--data", path("data"), "--device", "cpu"};
        all.insert(all.end(), more.begin(), more.end());
        return all;
    }
    static Strings predict_arguments(const Strings& more) {
        Strings all = {"--weights", path("run"), "--device", "cpu"};
        all.insert(all.end(), more.begin(), more.end());
        return all;
    }
    static io::Mask mask(const std::string& name) {
        const auto bytes = read_bytes(*dir_ / name);
        return io::decode_mask(bytes, name);
    }

    static std::unique_ptr<testing::TempDir> dir_;
    static std::map<std::string, std::pair<std::int64_t, std::int64_t>> sizes_;
};
std::unique_ptr<testing::TempDir> Inference::dir_;
std::map<std::string, std::pair<std::int64_t, std::int64_t>> Inference::sizes_;

TEST_F(Inference, EvalWritesTableJsonAndMasks) {
    const auto result = run("deeplab-eval", eval_arguments({"--json", path("one.json"),
                                                            "--save-masks", path("masks")}));
    ASSERT_EQ(result.exit_code, 0) << result.both();
    for (const char* text : {"split val, 5 images", "protocol full", "class0", "class3", "mean IoU",
                             "pixel accuracy", "step 7"}) {
        EXPECT_NE(result.out.find(text), std::string::npos) << text << " in\n" << result.out;
    }
    const io::Value json = io::parse_json(read_text(path("one.json")), "one.json");
    const io::Object& top = *json.get_if<io::Object>();
    EXPECT_EQ(*top.find("images")->get_if<std::int64_t>(), 5);
    EXPECT_EQ(*top.find("weights_step")->get_if<std::int64_t>(), 7);
    EXPECT_EQ(top.find("class_iou")->get_if<io::Object>()->members().size(), 4u);
    // Saved masks, compared with the truth, give the confusion matrix again.
    data::ShardSet shards(*dir_ / "data", "val");
    evaluate::Confusion confusion(4);
    for (std::int64_t i = 0; i < shards.size(); ++i) {
        const data::Record record = shards.read(i);
        const io::Mask predicted = mask("masks/" + record.id + ".png");
        ASSERT_EQ(predicted.width, record.width);
        ASSERT_EQ(predicted.height, record.height);
        confusion.add(io::decode_mask(record.mask, record.id).labels, predicted.labels);
    }
    const io::Array& rows = *top.find("confusion")->get_if<io::Array>();
    for (std::size_t i = 0; i < 16; ++i) {
        EXPECT_EQ(*(*rows[i / 4].get_if<io::Array>())[i % 4].get_if<std::int64_t>(),
                  confusion.counts()[i]);
    }
    EXPECT_DOUBLE_EQ(*top.find("miou")->get_if<double>(), confusion.metrics().miou);
}

TEST_F(Inference, SlowEvalIsTheSameOnTwoRanks) {
    if (!testing::have_mpirun()) GTEST_SKIP() << "skipped: no mpirun";
    const Strings more = {"--protocol", "centre-crop", "--output-stride", "8", "--threads", "1"};
    Strings one = more, two = more;
    one.insert(one.end(), {"--json", path("r1.json")});
    two.insert(two.end(), {"--json", path("r2.json")});
    const auto first = run("deeplab-eval", eval_arguments(one)),
               second = run("deeplab-eval", eval_arguments(two), 2);
    ASSERT_EQ(first.exit_code, 0) << first.both();
    ASSERT_EQ(second.exit_code, 0) << second.both();
    EXPECT_EQ(read_text(path("r1.json")), read_text(path("r2.json")));
    EXPECT_EQ(first.out, second.out);  // the table once, by rank 0
}

TEST_F(Inference, EvalAveragesScalesAndFlip) {
    const auto result = run(
        "deeplab-eval", eval_arguments({"--scales", "0.5,1", "--flip", "--json", path("ms.json")}));
    ASSERT_EQ(result.exit_code, 0) << result.both();
    EXPECT_NE(result.out.find("scales 0.5,1, flip"), std::string::npos) << result.out;
    const io::Value json = io::parse_json(read_text(path("ms.json")), "ms.json");
    EXPECT_EQ(json.get_if<io::Object>()->find("scales")->get_if<io::Array>()->size(), 2u);
    EXPECT_TRUE(*json.get_if<io::Object>()->find("flip")->get_if<bool>());
}

// tests/golden/evaluate.py redoes the evaluation from images, masks and the network's output.
class Redone : public Inference {
protected:
    static testing::ProcessResult redo(const std::string& name) {
        return testing::run_process({"/usr/bin/python3",
                                     testing::source_dir() / "tests/golden/evaluate.py", "--images",
                                     dir_->path().string(), "--masks", dir_->path().string(),
                                     "--logits", path(name), "--json", path(name + ".json")});
    }
    static Strings saving(const std::string& name, Strings more) {
        more.insert(more.end(), {"--save-logits", path(name), "--json", path(name + ".json")});
        return eval_arguments(more);
    }
    void SetUp() override {
        if (testing::run_process({"/usr/bin/python3", "-c", "import numpy, PIL"}).exit_code != 0)
            GTEST_SKIP() << "skipped: no numpy or no PIL";
    }
};

TEST_F(Redone, GivesTheSameMatrix) {
    const std::map<std::string, Strings> ways = {
        {"full", {}},
        {"full_ms", {"--output-stride", "8", "--scales", "0.5,1,1.25", "--flip"}},
        {"centre", {"--protocol", "centre-crop"}},
        {"centre_ms", {"--protocol", "centre-crop", "--scales", "0.2,0.35", "--flip"}}};
    for (const auto& [name, arguments] : ways) {
        const auto evaluated = run("deeplab-eval", saving(name, arguments));
        ASSERT_EQ(evaluated.exit_code, 0) << evaluated.both();
        const auto again = redo(name);
        EXPECT_EQ(again.exit_code, 0) << name << "\n" << again.both();
        EXPECT_NE(again.out.find("5 images, "), std::string::npos) << again.both();
        EXPECT_NE(again.out.find("0 cells differ"), std::string::npos) << again.both();
        EXPECT_EQ(again.out.find(" 1 classes predicted"), std::string::npos)
            << "labels that never change prove nothing: " << again.out;
    }
}

// Of an image as it is, where no size aligns the grid.
TEST_F(Redone, GivesTheSameMatrixWithHalfPixelCentres) {
    write_checkpoint(path("half.h5"), 4, false);
    for (const auto& [name, more] : {std::pair<std::string, Strings>{"half", {}},
                                     {"half_ms", {"--scales", "0.7,1", "--flip"}}}) {
        Strings arguments = {
            "--weights", path("half.h5"), "--data",   path("data"), "--device",
            "cpu",       "--save-logits", path(name), "--json",     path(name + ".json")};
        arguments.insert(arguments.end(), more.begin(), more.end());
        const auto evaluated = run("deeplab-eval", arguments);
        ASSERT_EQ(evaluated.exit_code, 0) << evaluated.both();
        EXPECT_NE(read_text(path(name + "/logits.json")).find("\"align_corners\": false"),
                  std::string::npos);
        const auto again = redo(name);
        EXPECT_EQ(again.exit_code, 0) << name << "\n" << again.both();
        EXPECT_NE(again.out.find("0 cells differ"), std::string::npos) << again.both();
    }
}

TEST_F(Redone, FindsWhatIsWrong) {
    ASSERT_EQ(run("deeplab-eval", saving("wrong", {"--flip"})).exit_code, 0);
    ASSERT_EQ(redo("wrong").exit_code, 0);
    const std::string result = read_text(path("wrong.json")),
                      list = read_text(path("wrong/logits.json"));
    const auto replaced = [](std::string text, const std::string& from, const std::string& to) {
        const auto at = text.find(from);
        EXPECT_NE(at, std::string::npos) << from;
        return text.replace(at, from.size(), to);
    };
    // Another protocol is another truth, image and input; another scale, other pictures.
    for (const auto& [file, from, to, complaint] :
         {std::tuple{"wrong.json", "\"full\"", "\"centre-crop\"", "protocol"},
          {"wrong/logits.json", "\"flip\": true", "\"flip\": false", "passes"},
          {"wrong/logits.json", "0.485", "0.475", "input"},
          {"wrong.json", "\"miou\": 0.", "\"miou\": 0.0", "metrics"}}) {
        write("wrong.json", result);
        write("wrong/logits.json", list);
        write(file, replaced(read_text(path(file)), from, to));
        const auto again = redo("wrong");
        EXPECT_EQ(again.exit_code, 1) << complaint << again.both();
        EXPECT_NE(again.out.find(complaint), std::string::npos) << again.both();
    }
    // Two images' outputs in each other's place: cells.
    write("wrong.json", result);
    write("wrong/logits.json", list);
    fs::copy_file(path("wrong/000001-0.npy"), path("wrong/000001-1.npy"),
                  fs::copy_options::overwrite_existing);
    const auto again = redo("wrong");
    EXPECT_EQ(again.exit_code, 1) << again.both();
    EXPECT_NE(again.out.find("confusion["), std::string::npos) << again.both();
}

TEST_F(Redone, LogitsOfTwoRanksAreTheSameFiles) {
    if (!testing::have_mpirun()) GTEST_SKIP() << "skipped: no mpirun";
    ASSERT_EQ(run("deeplab-eval", saving("alone", {"--threads", "1"})).exit_code, 0);
    ASSERT_EQ(run("deeplab-eval", saving("both", {"--threads", "1"}), 2).exit_code, 0);
    EXPECT_EQ(read_text(path("alone/logits.json")), read_text(path("both/logits.json")));
    for (int i = 0; i < 5; ++i) {
        const std::string name = cat("/00000", i, "-0.npy");
        EXPECT_EQ(read_bytes(path("alone" + name)), read_bytes(path("both" + name)));
    }
}

TEST_F(Inference, SavedMasksReplaceNoFileWithoutForce) {
    const std::string folder = path("kept");
    fs::create_directories(folder);
    const std::string mine = folder + "/val_1.png";
    fs::copy_file(path("val_1.png"), mine, fs::copy_options::overwrite_existing);
    const auto before = read_bytes(mine);
    const auto refused = run("deeplab-eval", eval_arguments({"--save-masks", folder}));
    EXPECT_EQ(refused.exit_code, 2) << refused.both();
    EXPECT_NE(refused.err.find("val_1.png exists"), std::string::npos) << refused.err;
    EXPECT_EQ(read_bytes(mine), before);
    EXPECT_FALSE(fs::exists(folder + "/val_0.png"));  // nothing is done by halves
    const auto forced = run("deeplab-eval", eval_arguments({"--save-masks", folder, "--force"}));
    EXPECT_EQ(forced.exit_code, 0) << forced.both();
    EXPECT_NE(read_bytes(mine), before);
    EXPECT_TRUE(fs::exists(folder + "/val_0.png"));
    // Nor do metrics replace the manifest they are about.
    const auto json = run("deeplab-eval", eval_arguments({"--json", path("data/val.json")}));
    EXPECT_EQ(json.exit_code, 2) << json.both();
    EXPECT_NE(json.err.find("is an input"), std::string::npos) << json.err;
}

TEST_F(Inference, TwoIdsMayNotBecomeOneMask) {
    data::ShardSet shards(*dir_ / "data", "val");
    std::vector<data::Record> records = {shards.read(0), shards.read(1)};
    records[0].id = "a/b";
    records[1].id = "a_b";
    data::Manifest manifest = shards.manifest();
    manifest.split = "same";
    manifest.records = 2;
    manifest.list_hash = data::hash_ids({"a/b", "a_b"});
    const std::string name = data::shard_name("same", 0, 1);
    manifest.shards = {data::write_shard(*dir_ / "data" / name, records)};
    data::save_manifest(*dir_ / "data", manifest);
    const auto result = run("deeplab-eval",
                            eval_arguments({"--split", "same", "--save-masks", path("one_mask")}));
    EXPECT_EQ(result.exit_code, 2) << result.both();
    EXPECT_NE(result.err.find("the masks of a/b and a_b would both become"), std::string::npos)
        << result.err;
}

TEST_F(Inference, EvalRefusesBadInput) {
    const auto code = [&](const Strings& more) { return run("deeplab-eval", more).exit_code; };
    EXPECT_EQ(code(eval_arguments({"--precision", "bf16"})), 2);
    EXPECT_EQ(code(eval_arguments({"--protocol", "half"})), 2);
    EXPECT_EQ(code(eval_arguments({"--scales", "0"})), 2);
    EXPECT_EQ(code(eval_arguments({"--output-stride", "32"})), 2);
    EXPECT_EQ(code(eval_arguments({"--protocol", "centre-crop", "--save-masks", path("no")})), 2);
    EXPECT_EQ(code(eval_arguments({"--json", path("run")})), 2) << "a folder";
    EXPECT_EQ(code(eval_arguments({"--split", "test"})), 3);
    EXPECT_EQ(code({"--weights", path("nothing"), "--data", path("data")}), 3);
    EXPECT_EQ(code({"--weights", path("run")}), 2);
    EXPECT_FALSE(fs::exists(path("no")));

    const auto classes = run(
        "deeplab-eval", {"--weights", path("three.h5"), "--data", path("data"), "--device", "cpu"});
    EXPECT_EQ(classes.exit_code, 2);
    EXPECT_NE(classes.err.find("3 classes"), std::string::npos) << classes.err;

    write("model.safetensors", std::string("\x10\0\0\0\0\0\0\0{\"a\":{}}", 16));
    write("model.pth", std::string("PK\x03\x04zip", 7));
    write("noise.h5", "this is no checkpoint");
    for (const auto& [file, word] : {std::pair{"model.safetensors", "safetensors"},
                                     {"model.pth", "PyTorch"},
                                     {"noise.h5", "not a weights file"}}) {
        const auto result = run("deeplab-eval", {"--weights", path(file), "--data", path("data")});
        EXPECT_EQ(result.exit_code, 3) << file;
        EXPECT_NE(result.err.find(word), std::string::npos) << result.err;
    }
}

TEST_F(Inference, PredictWritesMaskOverlayAndLogits) {
    const auto result = run("deeplab-predict",
                            predict_arguments({path("val_0.jpg"), path("val_1.jpg"), "--out",
                                               path("out"), "--logits"}));
    ASSERT_EQ(result.exit_code, 0) << result.both();
    for (const std::string id : {"val_0", "val_1"}) {
        const io::Mask labels = mask("out/" + id + ".png");
        EXPECT_EQ(std::pair(labels.width, labels.height), sizes_[id]);
        const io::Image overlay = io::decode_image(read_bytes(path("out/" + id + "_overlay.jpg")),
                                                   id);
        EXPECT_EQ(std::pair(overlay.width, overlay.height), sizes_[id]);
    }
    // The same without --logits, and no temporary file is left.
    ASSERT_EQ(run("deeplab-predict", predict_arguments({path("val_0.jpg"), "--out", path("out2")}))
                  .exit_code,
              0);
    EXPECT_EQ(mask("out2/val_0.png").labels, mask("out/val_0.png").labels);
    EXPECT_EQ(std::distance(fs::directory_iterator(path("out")), {}), 6);
    EXPECT_EQ(std::distance(fs::directory_iterator(path("out2")), {}), 2);

    const std::string script = cat(
        "import sys, numpy as n\n"
        "a = n.load(sys.argv[1])\n"
        "assert a.dtype == n.float32 and a.flags.c_contiguous, a.dtype\n"
        "assert n.isfinite(a).all() and a.std() > 0\n"
        "print(a.shape, *a.argmax(0).ravel())\n");
    if (testing::run_process({"/usr/bin/python3", "-c", "import numpy"}).exit_code != 0)
        GTEST_SKIP() << "skipped: no numpy";
    const auto loaded = testing::run_process(
        {"/usr/bin/python3", "-c", script, path("out/val_0_logits.npy")});
    ASSERT_EQ(loaded.exit_code, 0) << loaded.both();
    std::string expected = cat("(4, ", sizes_["val_0"].second, ", ", sizes_["val_0"].first, ")");
    for (const std::uint8_t label : mask("out/val_0.png").labels)
        expected += cat(" ", static_cast<int>(label));
    EXPECT_EQ(loaded.out, expected + "\n");
}

// A phone's picture: labelled as viewers show it, so its mask is that of the turned pixels.
TEST_F(Inference, PredictTurnsPicturesUpright) {
    data::ShardSet shards(*dir_ / "data", "val");
    const auto jpeg = shards.read(0).image;
    const std::vector<std::uint8_t> tag = {0xFF, 0xE1, 0, 34, 'E', 'x', 'i', 'f', 0, 0,  'M', 'M',
                                           0,    42,   0, 0,  0,   8,   0,   1,   1, 18, 0,   3,
                                           0,    0,    0, 1,  0,   6,   0,   0,   0, 0,  0,   0};
    std::string turned(jpeg.begin(), jpeg.begin() + 2);
    turned.append(tag.begin(), tag.end());
    turned.append(jpeg.begin() + 2, jpeg.end());
    write("phone.jpg", turned);
    const auto result = run("deeplab-predict",
                            predict_arguments({path("phone.jpg"), "--out", path("phone")}));
    ASSERT_EQ(result.exit_code, 0) << result.both();
    EXPECT_NE(result.out.find("turned upright: EXIF orientation 6"), std::string::npos);
    const io::Image upright = io::decode_image_upright(read_bytes(path("phone.jpg")), "phone");
    const io::Mask labels = mask("phone/phone.png");
    EXPECT_EQ(labels.width, sizes_["val_0"].second);
    EXPECT_EQ(labels.height, sizes_["val_0"].first);
    const auto png = io::encode_png(upright);
    write("upright.png", {png.begin(), png.end()});
    ASSERT_EQ(
        run("deeplab-predict", predict_arguments({path("upright.png"), "--out", path("phone")}))
            .exit_code,
        0);
    EXPECT_EQ(mask("phone/upright.png").labels, labels.labels);
}

TEST_F(Inference, PredictDoesTheRestOfTheImagesAndThenFails) {
    write("broken.jpg", "\xff\xd8\xff nothing more");
    const auto result = run("deeplab-predict",
                            predict_arguments({path("broken.jpg"), path("missing.png"),
                                               path("val_2.jpg"), "--out", path("rest")}));
    EXPECT_EQ(result.exit_code, 3) << result.both();
    EXPECT_NE(result.err.find("broken.jpg"), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("missing.png"), std::string::npos) << result.err;
    EXPECT_EQ(mask("rest/val_2.png").width, sizes_["val_2"].first);
    EXPECT_EQ(std::distance(fs::directory_iterator(path("rest")), {}), 2);
}

TEST_F(Inference, PredictNeverOverwritesAnInputOrAResult) {
    fs::create_directories(path("other"));
    fs::copy_file(path("val_0.jpg"), path("other/val_0.jpg"), fs::copy_options::overwrite_existing);
    const auto same = run(
        "deeplab-predict",
        predict_arguments({path("val_0.jpg"), path("other/val_0.jpg"), "--out", path("same")}));
    EXPECT_EQ(same.exit_code, 2) << same.both();
    EXPECT_NE(same.err.find("val_0.png"), std::string::npos) << same.err;
    EXPECT_FALSE(fs::exists(path("same")));

    data::ShardSet shards(*dir_ / "data", "val");
    const auto jpeg = shards.read(0).image;
    const auto png = io::encode_png(io::decode_image(jpeg, "test"));
    write("other/in.png", {png.begin(), png.end()});
    EXPECT_EQ(
        run("deeplab-predict", predict_arguments({path("other/in.png"), "--out", path("other")}))
            .exit_code,
        2);
    EXPECT_EQ(read_bytes(path("other/in.png")), png);

    EXPECT_EQ(run("deeplab-predict", predict_arguments({"--out", path("same")})).exit_code,
              2);  // no image

    // What is there already stays, unless --force says otherwise.
    fs::create_directories(path("masks_of_mine"));
    write("masks_of_mine/val_0.png", "drawn by hand");
    const Strings again = {path("val_0.jpg"), "--out", path("masks_of_mine")};
    const auto kept = run("deeplab-predict", predict_arguments(again));
    EXPECT_EQ(kept.exit_code, 2) << kept.both();
    EXPECT_NE(kept.err.find("val_0.png exists"), std::string::npos) << kept.err;
    EXPECT_EQ(read_text(path("masks_of_mine/val_0.png")), "drawn by hand");
    Strings forced = again;
    forced.emplace_back("--force");
    EXPECT_EQ(run("deeplab-predict", predict_arguments(forced)).exit_code, 0);
    EXPECT_EQ(mask("masks_of_mine/val_0.png").width, sizes_["val_0"].first);
}

}  // namespace
}  // namespace deeplab
