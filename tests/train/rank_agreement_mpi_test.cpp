// Ranks that were started unlike: every one of them ends with the same message, and none waits.
#include "deeplab/train/rank_agreement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "../../src/config/keys.h"
#include "deeplab/base/text.h"
#include "deeplab/weights/checkpoint.h"
#include "harness/fake_backend.h"
#include "harness/mpi.h"
#include "tiny_run.h"

namespace deeplab::train {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;
using deeplab::testing::FakeBackend;

comm::Communicator& world() { return testing::world(); }
bool odd_one() { return world().rank() == world().size() - 1; }  // the rank that differs

// "CODE MESSAGE" of the Error on this rank, which all ranks must have; "" when there is none.
template <class Body>
std::string refusal(const Body& body) {
    std::string told;
    try {
        body();
    } catch (const Error& error) {
        told = cat(static_cast<int>(error.code()), " ", error.what());
    }
    for (const std::string& other : world().all_gather(told, "messages of the ranks"))
        EXPECT_EQ(other, told);
    return told;
}

class RankAgreement : public ::testing::Test {
protected:
    void SetUp() override {
        if (world().rank() == 0) {
            testing::write_tiny_dataset(dir_ / "data", {.split = "train", .images = 6});
            testing::write_tiny_dataset(dir_ / "data", {.split = "val", .images = 3, .seed = 2});
        }
        world().barrier("data of the test");
        options_ = options_of({});
    }
    void TearDown() override { world().barrier("end of the test"); }

    TrainOptions options_of(const std::vector<std::string>& overrides) const {
        return testing::tiny_run(dir_.path(), "train = {iterations = 2, global_batch = 12}",
                                 overrides);
    }

    static std::string refused(const TrainOptions& options) {
        return refusal([&] {
            FakeBackend backend;
            run_training(options, backend, world(), world());
        });
    }

    testing::SharedDir dir_;
    TrainOptions options_;
};

TEST_F(RankAgreement, TheFirstDifferenceIsNamedWithItsRanks) {
    if (world().size() == 1) GTEST_SKIP() << "skipped: needs several ranks";
    const std::string value = odd_one() ? "5" : "2";
    const std::string message = refusal([&] {
        require_same(world(),
                     {{"a", "1", "mend a"}, {"b", value, "mend b"}, {"c", value + "0", "mend c"}},
                     ExitCode::data);
    });
    EXPECT_THAT(message, HasSubstr(cat("3 b is 5 on rank ", world().size() - 1, " (")));
    EXPECT_THAT(message,
                HasSubstr(world().size() == 2 ? "and 2 on rank 0 (" : "and 2 on ranks 0-1 ("));
    EXPECT_THAT(message, HasSubstr("; c differs too"));
    EXPECT_THAT(message, HasSubstr("— mend b"));
    EXPECT_EQ(refusal([] { require_same(world(), {{"a", "1", "mend a"}}, ExitCode::data); }), "");
}

// A fact that one program knows and the other does not.
TEST_F(RankAgreement, AFactThatOneRankLacks) {
    if (world().size() == 1) GTEST_SKIP() << "skipped: needs several ranks";
    std::vector<Fact> facts = {{"a", "1", "mend a"}};
    if (world().rank() == 0 || !odd_one()) facts.push_back({"b", "2", "mend b"});
    const std::string message = refusal([&] { require_same(world(), facts, ExitCode::usage); });
    EXPECT_THAT(message,
                HasSubstr(cat("b is not known to the program on rank ", world().size() - 1, " (")));
    EXPECT_THAT(message, HasSubstr("— mend b"));
}

// Another value for every key of the configuration that all ranks must share.
const std::map<std::string, std::string> other_values = {
    {"model.backbone", "resnet50"},
    {"model.output_stride", "8"},
    {"model.num_classes", "4"},
    {"model.dropout", "[0.1, 0.1, 0.1]"},
    {"model.bn_eps", "1e-3"},
    {"model.bn_momentum", "0.01"},
    {"model.mean", "[0.5, 0.5, 0.5]"},
    {"model.std", "[0.5, 0.5, 0.5]"},
    {"model.separable", "true"},
    {"model.dilation", "layer"},
    {"model.align_corners", "false"},
    {"model.decoder_convs", "1"},
    {"data.train_split", "val"},
    {"data.val_split", "train"},
    {"data.crop", "[33, 65]"},
    {"data.resize.mode", "none"},
    {"data.resize.range", "[300, 400]"},
    {"data.resize.step", "1"},
    {"data.flip", "0.1"},
    {"data.blur", "0.1"},
    {"data.random_crop", "false"},
    {"data.pad_label", "ignore"},
    {"data.pad_color", "[1, 2, 3]"},
    {"data.cache", "host"},
    {"data.allow_overlap", "true"},
    {"data.verify", "false"},
    {"train.iterations", "5"},
    {"train.global_batch", "24"},
    {"train.accumulation", "2"},
    {"train.precision", "bf16"},
    {"train.grad_dtype", "bf16"},
    {"train.sync_bn", "none"},
    {"train.freeze_bn", "true"},
    {"train.seed", "7"},
    {"train.deterministic", "false"},
    {"train.overlap", "false"},
    {"train.log_every", "1"},
    {"train.eval_every", "5"},
    {"train.on_nonfinite", "rollback"},
    {"train.watchdog_s", "500"},
    {"optimizer.lr", "0.1"},
    {"optimizer.momentum", "0.5"},
    {"optimizer.weight_decay", "0"},
    {"optimizer.power", "1"},
    {"optimizer.warmup", "1"},
    {"optimizer.clip_norm", "1"},
    {"optimizer.accumulate_decay", "true"},
    {"optimizer.groups", "[{match = \"^aspp\", lr_multiplier = 10}]"},
    {"checkpoint.every", "1"},
    {"checkpoint.minutes", "1"},
    {"checkpoint.keep", "1"},
};

TEST_F(RankAgreement, EveryKeyThatCountsIsCompared) {
    std::set<std::string> own;
    for (const config::Key& key : config::all_keys()) {
        if (key.may_differ) {
            own.insert(key.name);
            continue;
        }
        ASSERT_TRUE(other_values.contains(key.name))
            << "a new key needs its value here: " << key.name;
        if (world().size() == 1) continue;
        const TrainOptions other = options_of({cat(key.name, "=", other_values.at(key.name))});
        const std::string message = refused(odd_one() ? other : options_);
        EXPECT_THAT(message, HasSubstr(cat("2 ", key.name, " is ")));
        EXPECT_THAT(message, HasSubstr(cat("on rank ", world().size() - 1, " (")));
    }
    EXPECT_EQ(own, (std::set<std::string>{"data.workers", "data.cache_gib"}));
}

TEST_F(RankAgreement, WhatARankMayHaveOfItsOwn) {
    TrainOptions own = options_of(
        {cat("data.workers=", world().rank() + 1), cat("data.cache_gib=", world().rank())});
    own.threads = world().rank() + 1;
    own.time_budget_min = world().rank() * 100;
    if (odd_one()) own.data = dir_ / "." / "data";  // another name of the same folder
    EXPECT_EQ(refused(own), "");
}

TEST_F(RankAgreement, OptionsAreCompared) {
    if (world().size() == 1) GTEST_SKIP() << "skipped: needs several ranks";
    const auto with = [&](const std::function<void(TrainOptions&)>& change) {
        TrainOptions options = options_;
        if (odd_one()) change(options);
        return refused(options);
    };
    EXPECT_THAT(with([](auto& o) { o.resume = true; }), HasSubstr("2 --resume is given on rank"));
    EXPECT_THAT(with([](auto& o) { o.dry_run = true; }), HasSubstr("2 --dry-run is given on rank"));
    EXPECT_THAT(with([](auto& o) { o.init = "weights.pth"; }),
                HasSubstr("2 --init is given on rank"));
    EXPECT_THAT(with([](auto& o) { o.trace = "trace.json"; }),
                HasSubstr("2 --trace is given on rank"));
}

// A copy on one node's disk that was not renewed: the same ids, other masks.
TEST_F(RankAgreement, AStaleCopyOfTheShardsIsFound) {
    if (world().size() == 1) GTEST_SKIP() << "skipped: needs several ranks";
    if (world().rank() == 0) {
        for (const char* stale : {"train", "val"}) {
            const fs::path copy = dir_ / cat("stale-", stale);
            fs::copy(dir_ / "data", copy);
            const bool train = std::string(stale) == "train";
            testing::write_tiny_dataset(copy, {.split = stale, .images = train ? 6 : 3, .seed = 5});
        }
    }
    world().barrier("copies");
    options_.config.train.eval_every = 2;
    for (const char* split : {"train", "val"}) {
        options_.data = dir_ / "data";
        if (odd_one()) options_.data = dir_ / cat("stale-", split);
        const std::string message = refused(options_);
        EXPECT_THAT(message, HasSubstr(cat("3 the checksum of the split ", split, " is ")));
        EXPECT_THAT(message, HasSubstr(cat("on rank ", world().size() - 1, " (")));
    }
}

TEST_F(RankAgreement, AMissingCopyIsToldWithItsRank) {
    if (world().size() == 1) GTEST_SKIP() << "skipped: needs several ranks";
    if (odd_one()) options_.data = dir_ / "nowhere";
    const std::string message = refused(options_);
    EXPECT_THAT(message, HasSubstr(cat("3 rank ", world().size() - 1, " (")));
    EXPECT_THAT(message, HasSubstr("nowhere does not exist"));
}

TEST_F(RankAgreement, OtherWeightsOnOneNodeAreFound) {
    if (world().size() == 1) GTEST_SKIP() << "skipped: needs several ranks";
    EXPECT_EQ(refused(options_), "");
    const auto name = [&](int rank) { return dir_ / cat("weights-", rank, ".h5"); };
    weights::Snapshot weights = weights::load_checkpoint(options_.run / "checkpoints/latest.h5");
    if (odd_one()) weights.parameters.begin()->second[0] += 0.5f;
    weights::save_checkpoint(name(world().rank()), weights);
    options_.run = dir_ / "second";
    options_.init = name(world().rank());
    EXPECT_THAT(refused(options_), HasSubstr("3 the hash of the weights of --init is "));
}

// From before the comparison: its first exchange is of "CODE MESSAGE" of ranks that failed.
TEST_F(RankAgreement, AnOlderProgramEndsWithTheSameCode) {
    if (world().size() == 1) GTEST_SKIP() << "skipped: needs several ranks";
    if (odd_one()) {
        const auto texts = world().all_gather("", "the run's folder");
        EXPECT_EQ(texts.front().substr(0, 2), "2 ");
        EXPECT_THAT(texts.front(), HasSubstr("this rank runs an older version of the program"));
        return;
    }
    std::string message;
    try {
        require_same_start(world(), options_);
    } catch (const UsageError& error) {
        message = error.what();
    }
    EXPECT_THAT(message, HasSubstr(cat("rank ", world().size() - 1, " runs an older version")));
}

}  // namespace
}  // namespace deeplab::train
