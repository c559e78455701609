#include "deeplab/config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "harness/messages.h"
#include "harness/source_dir.h"

namespace deeplab::config {
namespace {

using ::testing::HasSubstr;
// The message of the UsageError that `text` is refused with; "" when it is accepted.
std::string refusal(const std::string& text, const std::vector<std::string>& overrides = {}) {
    return testing::message_of<UsageError>([&] { parse_config(text, "test.toml", overrides); });
}

const char* const every_key = R"(
[model]
backbone = "resnet50"
output_stride = 8
num_classes = 5
dropout = [0.1, 0.2, 0]
[data]
train_split = "a"
val_split = "b"
crop = 129
workers = 3
resize = {mode = "factor", range = [0.5, 2], step = 0.5}
flip = 0.25
blur = 0
pad_label = "ignore"
pad_color = [1, 2, 255]
cache = "host"
allow_overlap = true
verify = false
[train]
iterations = 77
global_batch = 12
accumulation = 3
sync_bn = "node"
freeze_bn = true
seed = 9
deterministic = false
log_every = 2
eval_every = 5
[optimizer]
lr = 1
momentum = 0.8
weight_decay = 0.001
power = 1.5
warmup = 4
clip_norm = 2.5
accumulate_decay = true
[[optimizer.groups]]
match = "^aspp"
lr_multiplier = 10
steps_per_iteration = 4
[[optimizer.groups]]
match = "bias$"
weight_decay = 0
[checkpoint]
every = 6
minutes = 1.5
keep = 2
)";

TEST(Config, EveryKeyIsRead) {
    const Config c = parse_config(every_key, "test.toml", {});
    EXPECT_EQ(c.model.backbone, "resnet50");
    EXPECT_EQ(c.model.output_stride, 8);
    EXPECT_EQ(c.model.num_classes, 5);
    EXPECT_EQ(c.model.dropout, (std::array<float, 3>{0.1f, 0.2f, 0.0f}));
    EXPECT_EQ(c.data.train_split, "a");
    EXPECT_EQ(c.data.val_split, "b");
    EXPECT_EQ(c.data.augmentation.crop, 129);
    EXPECT_EQ(c.data.workers, 3);
    EXPECT_EQ(c.data.augmentation.resize, data::Augmentation::Resize::factor);
    EXPECT_EQ(c.data.augmentation.range_low, 0.5);
    EXPECT_EQ(c.data.augmentation.range_high, 2.0);
    EXPECT_EQ(c.data.augmentation.step, 0.5);
    EXPECT_EQ(c.data.augmentation.flip, 0.25);
    EXPECT_EQ(c.data.augmentation.blur, 0.0);
    EXPECT_EQ(c.data.augmentation.pad_label, data::Augmentation::PadLabel::ignore);
    EXPECT_EQ(c.data.augmentation.pad_color, (std::array<std::uint8_t, 3>{1, 2, 255}));
    EXPECT_EQ(c.data.cache, "host");
    EXPECT_TRUE(c.data.allow_overlap);
    EXPECT_FALSE(c.data.verify);
    EXPECT_EQ(c.train.iterations, 77);
    EXPECT_EQ(c.train.global_batch, 12);
    EXPECT_EQ(c.train.accumulation, 3);
    EXPECT_EQ(c.train.sync_bn, SyncBn::node);
    EXPECT_TRUE(c.train.freeze_bn);
    EXPECT_EQ(c.train.seed, 9);
    EXPECT_FALSE(c.train.deterministic);
    EXPECT_EQ(c.train.log_every, 2);
    EXPECT_EQ(c.train.eval_every, 5);
    EXPECT_EQ(c.optimizer.lr, 1.0);
    EXPECT_EQ(c.optimizer.momentum, 0.8);
    EXPECT_EQ(c.optimizer.power, 1.5);
    EXPECT_EQ(c.optimizer.warmup, 4);
    EXPECT_EQ(c.optimizer.clip_norm, 2.5);
    EXPECT_TRUE(c.optimizer.accumulate_decay);
    ASSERT_EQ(c.optimizer.groups.size(), 2u);
    EXPECT_EQ(c.optimizer.groups[0].match, "^aspp");
    EXPECT_EQ(c.optimizer.groups[0].lr_multiplier, 10.0f);
    EXPECT_EQ(c.optimizer.groups[0].steps, 4);
    EXPECT_EQ(c.optimizer.groups[0].weight_decay, 0.001f);  // the optimizer's
    EXPECT_EQ(c.optimizer.groups[1].weight_decay, 0.0f);
    EXPECT_EQ(c.checkpoint.every, 6);
    EXPECT_EQ(c.checkpoint.minutes, 1.5);
    EXPECT_EQ(c.checkpoint.keep, 2);

    const std::string text = to_toml(c);
    const Config again = parse_config(text, "again", {});
    EXPECT_EQ(to_toml(again), text);
    EXPECT_TRUE(frozen_differences(c, again).empty());
    EXPECT_EQ(again.optimizer.groups[0].weight_decay, c.optimizer.groups[0].weight_decay);
    EXPECT_EQ(again.model.dropout, c.model.dropout);
}

TEST(Config, DefaultsSurviveARoundTrip) {
    const Config c = load_config("", {});
    EXPECT_EQ(c.optimizer.lr, 0.007);
    EXPECT_EQ(c.data.augmentation.range_high, 1026);
    const std::string text = to_toml(c);
    EXPECT_EQ(to_toml(parse_config(text, "again", {})), text);
    EXPECT_THAT(text, HasSubstr("weight_decay"));
}

TEST(Config, UnknownKeysNameKeyLineAndTheNearestOne) {
    const std::string message = refusal("[train]\nseed = 3\niteration = 5\n");
    EXPECT_THAT(message, HasSubstr("train.iteration ")) << message;
    EXPECT_THAT(message, HasSubstr("line 3")) << message;
    EXPECT_THAT(message, HasSubstr("train.iterations")) << message;
    EXPECT_THAT(refusal("[optimiser]\nlr = 1\n"), HasSubstr("did you mean optimizer"));
    EXPECT_THAT(refusal("lr = 1\n"), HasSubstr("optimizer.lr"));
    EXPECT_THAT(refusal("[data]\nresize = {mod = \"factor\"}\n"), HasSubstr("data.resize.mode"));
    EXPECT_THAT(refusal("[[optimizer.groups]]\nmatch = \"a\"\nlr_multiplyer = 2\n"),
                HasSubstr("lr_multiplier"));
    EXPECT_THAT(refusal("", {"train.sed=3"}), HasSubstr("train.seed"));
}

TEST(Config, WrongTypesAndValuesAreRefused) {
    for (const char* text : {"[train]\niterations = \"many\"",
                             "[train]\niterations = 0",
                             "[train]\niterations = 1.5",
                             "[data]\ncrop = 32",
                             "[data]\ncrop = 4098",
                             "[data]\ncrop = 0",
                             "[data]\ncrop = 65.0",
                             "[data]\ncrop = true",
                             "[data]\ncrop = \"65x129\"",
                             "[data]\ncrop = []",
                             "[data]\ncrop = [65]",
                             "[data]\ncrop = [65, 129, 3]",
                             "[data]\ncrop = [32, 65]",
                             "[data]\ncrop = [65, 4098]",
                             "[data]\ncrop = [0, 65]",
                             "[data]\ncrop = [65, -129]",
                             "[data]\ncrop = [65, 129.0]",
                             "[data]\ncrop = [\"65\", 129]",
                             "[data]\ncrop = [[65, 129], 65]",
                             "[data]\ncrop = {height = 65, width = 129}",
                             "[data]\nflip = 1.5",
                             "[data]\nflip = true",
                             "[data]\npad_color = [0, 0]",
                             "[data]\npad_color = [0, 0, 256]",
                             "[data]\nresize = \"factor\"",
                             "[train]\nfreeze_bn = 1",
                             "[model]\nbackbone = \"vgg\"",
                             "[model]\noutput_stride = 32",
                             "[model]\nnum_classes = 1",
                             "[model]\ndropout = 0.5",
                             "[optimizer]\nlr = -1",
                             "[optimizer]\nlr = nan",
                             "model = 3",
                             "[optimizer]\ngroups = 3",
                             "[[optimizer.groups]]\nlr_multiplier = 2",
                             "[[optimizer.groups]]\nmatch = \"(\"",
                             "[checkpoint]\nkeep = 0",
                             "[data]\nresize = {mode = \"factor\"}",
                             "[data]\nresize = {range = [0.5, 2.0]}",
                             "[data]\nresize = {range = [900, 300]}",
                             "[train]\nglobal_batch = 16\naccumulation = 3",
                             "[train]\nseed = -1",
                             "[train\nseed = 1"}) {
        EXPECT_FALSE(refusal(text).empty()) << text;
    }
    EXPECT_THAT(refusal("[train]\n\niterations = \"many\""), HasSubstr("line 3"));
    EXPECT_THAT(refusal("", {"train.seed"}), HasSubstr("="));
    EXPECT_THROW(load_config("/nowhere/at/all.toml", {}), UsageError);
}

TEST(Config, ACropIsASideOrHeightAndWidth) {
    const auto with = [](const std::string& crop) {
        return parse_config("[data]\ncrop = " + crop + "\n", "test", {});
    };
    EXPECT_EQ(with("65").data.augmentation.crop, data::CropSize(65, 65));
    const Config wide = with("[65, 129]"), tall = with("[129, 65]");
    EXPECT_EQ(wide.data.augmentation.crop.height, 65);
    EXPECT_EQ(wide.data.augmentation.crop.width, 129);
    EXPECT_EQ(load_config("", {"data.crop=[65, 129]"}).data.augmentation.crop,
              data::CropSize(65, 129));
    EXPECT_THAT(to_toml(wide), HasSubstr("\ncrop = [65, 129]\n"));
    EXPECT_EQ(parse_config(to_stored_toml(wide), "again", {}).data.augmentation.crop,
              data::CropSize(65, 129));
    // A square is a square, and its files are those of a program that knew no others.
    EXPECT_THAT(to_stored_toml(with("65")), HasSubstr("\ncrop = 65\n"));
    EXPECT_EQ(to_stored_toml(with("[65, 65]")), to_stored_toml(with("65")));
    EXPECT_EQ(shared_values(with("[65, 65]")), shared_values(with("65")));
    EXPECT_TRUE(frozen_differences(with("[65, 65]"), with("65")).empty());
    for (const char* other : {"65", "129", "[65, 130]", "[66, 129]"})
        EXPECT_EQ(frozen_differences(wide, with(other)), std::vector<std::string>{"data.crop"});
    EXPECT_EQ(frozen_differences(wide, tall), std::vector<std::string>{"data.crop"});
    EXPECT_EQ(refusal("[data]\n\ncrop = [65]"),
              "data.crop is not an integer from 33 to 4097, or [height, width] of two such "
              "(test.toml, line 3) — the run would not be the one you meant — give data.crop an "
              "integer from 33 to 4097, or [height, width] of two such");
}

TEST(Config, SeparableMeanAndStdAreKeysOfTheModel) {
    const Config c = parse_config(
        "[model]\nseparable = true\nmean = [0.5, 0.4, 0]\nstd = [0.5, 1, "
        "0.001]",
        "test", {});
    EXPECT_TRUE(c.model.separable);
    EXPECT_EQ(c.model.mean, (std::array<float, 3>{0.5f, 0.4f, 0.0f}));
    EXPECT_EQ(c.model.std, (std::array<float, 3>{0.5f, 1.0f, 0.001f}));
    EXPECT_THAT(refusal("[model]\nmean = [123.7, 116.3, 103.5]"), HasSubstr("in [0, 1]"));
    EXPECT_THAT(refusal("[model]\nstd = [0, 1, 1]"), HasSubstr("in [0.001, 1]"));
    EXPECT_THAT(refusal("[model]\nseparable_convolutions = true"), HasSubstr("model.separable"));
    // Weights files of a network with the defaults keep the bytes that they had.
    EXPECT_THAT(to_stored_toml(parse_config("", "test", {})), Not(HasSubstr("mean")));
    EXPECT_THAT(to_stored_toml(c), HasSubstr("mean"));
}

// std::regex is recursive: these would exhaust the stack.
TEST(Config, LongPatternsAreRefused) {
    const auto pattern = [](const std::string& text) {
        return refusal("[[optimizer.groups]]\nmatch = \"" + text + "\"\n");
    };
    const std::string open(50000, '('), close(50000, ')');
    EXPECT_THAT(pattern(open + close), HasSubstr("at most 1000 characters"));
    EXPECT_THAT(pattern(std::string(1001, 'a')), HasSubstr("optimizer.groups.match"));
    EXPECT_EQ(pattern(open.substr(0, 500) + close.substr(0, 500)), "");
    EXPECT_EQ(pattern(std::string(1000, 'a')), "");
}

TEST(Config, OverridesComeLastAndABareWordIsAString) {
    const Config c = parse_config(
        "[train]\nseed = 3\n", "test.toml",
        {"train.seed=4", "model.backbone=resnet18", "data.resize.mode=none", "data.flip = 0",
         "model.dropout=[0, 0, 0]", "data.resize={mode = \"factor\", range = [1, 1]}"});
    EXPECT_EQ(c.train.seed, 4);
    EXPECT_EQ(c.model.backbone, "resnet18");
    EXPECT_EQ(c.data.augmentation.flip, 0.0);
    EXPECT_EQ(c.data.augmentation.resize, data::Augmentation::Resize::factor);
}

TEST(Config, OnResumeOnlyWhatLeavesTheNumbersAloneMayChange) {
    const Config a = load_config("", {});
    EXPECT_TRUE(frozen_differences(a, load_config("", {"train.iterations=5", "train.log_every=1",
                                                       "train.eval_every=7", "checkpoint.every=3",
                                                       "checkpoint.minutes=2", "checkpoint.keep=9",
                                                       "data.workers=3", "data.cache=host"}))
                    .empty());
    EXPECT_EQ(frozen_differences(
                  a, load_config("", {"train.seed=5", "optimizer.lr=1", "data.resize.step=3"})),
              (std::vector<std::string>{"data.resize.step", "train.seed", "optimizer.lr"}));
}

TEST(Config, TellsWhatMayAndDidChange) {
    EXPECT_EQ(other_differences(
                  load_config("", {"train.iterations=4"}),
                  load_config("", {"train.iterations=5", "train.seed=5", "checkpoint.keep=9"})),
              (std::vector<std::string>{"train.iterations: 4 -> 5", "checkpoint.keep: 3 -> 9"}));
}

TEST(Schedule, WarmUpThenPoly) {
    Config c;
    c.train.iterations = 100;
    c.optimizer.lr = 2;
    c.optimizer.power = 0.9;
    EXPECT_DOUBLE_EQ(learning_rate(c, 0), 2.0);
    EXPECT_NEAR(learning_rate(c, 50), 2 * 0.535886731268146, 1e-12);  // 0.5^0.9
    EXPECT_NEAR(learning_rate(c, 99), 2 * 0.015848931924611, 1e-12);  // 0.01^0.9
    c.optimizer.warmup = 4;
    EXPECT_DOUBLE_EQ(learning_rate(c, 0), 0.5);
    EXPECT_NEAR(learning_rate(c, 1), 1.0 * 0.990995480, 1e-8);  // 0.99^0.9
    EXPECT_NEAR(learning_rate(c, 4), 2 * 0.963927, 1e-5);       // 0.96^0.9
    EXPECT_THROW(learning_rate(c, 100), LogicError);
}

// A checkpoint's checksum covers the configuration: one that was possible before must give the same
// text. A new key says in its row that it is `newer`, and its default is left out.
TEST(Config, FilesKeepTheKeysThatTheFirstOnesHad) {
    const std::string text = to_stored_toml(load_config("", {}));
    std::size_t keys = 0;
    for (const std::string& line : split(text, '\n'))
        keys += line.find(" = ") != std::string::npos ? 1 : 0;
    EXPECT_EQ(keys, 47u) << text;
    EXPECT_EQ(to_stored_toml(parse_config(text, "again", {})), text);
}

TEST(Config, ThePageOfKeysIsTheTable) {
    const std::string page = read_text(testing::source_dir() / "jobs/configs/README.md");
    EXPECT_TRUE(page.ends_with(config_reference()))
        << "jobs/configs/README.md does not end with what deeplab-train --keys prints";
}

TEST(Config, AnUnknownKeyPointsToTheList) {
    EXPECT_THAT(refusal("", {"nothing.like.this.at.all=1"}), HasSubstr("deeplab-train --keys"));
    EXPECT_THAT(refusal("", {"TRAIN.ITERATIONS=5"}), HasSubstr("did you mean train.iterations?"));
    EXPECT_THAT(refusal("", {"other.BN_MOMENTUM=5"}), HasSubstr("did you mean model.bn_momentum?"));
}

}  // namespace
}  // namespace deeplab::config
