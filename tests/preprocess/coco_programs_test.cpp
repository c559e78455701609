// The programs on COCO's layout, as a user runs them: generated data, ranks, options.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "coco_folder.h"
#include "harness/process.h"
#include "shapes.h"

namespace fs = std::filesystem;

namespace deeplab::preprocess {
namespace {

using namespace deeplab::testing;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::map<std::string, std::vector<unsigned char>> contents(const fs::path& dir) {
    std::map<std::string, std::vector<unsigned char>> files;
    for (const auto& entry : fs::directory_iterator(dir))
        files[entry.path().filename().string()] = read_bytes(entry.path());
    return files;
}

class CocoProgram : public ::testing::Test {
protected:
    // Draws data and returns the packer's arguments for a split of it.
    void draw(int train, int val) {
        const auto result = run_process({program("deeplab-make-shapes"), "--coco", "--out",
                                         dir.path().string(), "--train", cat(train), "--val",
                                         cat(val), "--size", "48-80"});
        ASSERT_EQ(result.exit_code, 0) << result.both();
    }
    std::vector<std::string> pack_arguments(const std::string& split, const fs::path& out,
                                            const std::vector<std::string>& more = {}) const {
        const fs::path coco = dir / "coco";
        std::vector<std::string> arguments = {program("deeplab-pack"),
                                              "--coco",
                                              (coco / cat("instances_", split, ".json")).string(),
                                              "--images",
                                              (coco / split).string(),
                                              "--map",
                                              (coco / "map.toml").string(),
                                              "--out",
                                              out.string()};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return arguments;
    }

    TempDir dir;
};

TEST_F(CocoProgram, OneTwoAndThreeRanksWriteTheSameBytes) {
    if (!have_mpirun()) GTEST_SKIP() << "skipped: no mpirun";
    draw(26, 1);
    std::vector<std::map<std::string, std::vector<unsigned char>>> results;
    std::vector<std::string> told;
    for (const int ranks : {1, 2, 3}) {
        const fs::path out = dir / cat("out", ranks);
        const auto result = run_process(with_ranks(
            ranks, pack_arguments("train", out, {"--shards", "4", "--min-pixels", "900"})));
        ASSERT_EQ(result.exit_code, 0) << result.both();
        const auto first = result.err.find("classes of split train");
        ASSERT_NE(first, std::string::npos) << result.err;
        told.push_back(result.err.substr(first, result.err.find("writing") - first));
        results.push_back(contents(out));
        EXPECT_EQ(results.back().size(), 5u);  // 4 shards and the manifest
        EXPECT_EQ(run_process({program("deeplab-pack"), "verify", out.string()}).exit_code, 0);
    }
    const std::string manifest(results[0]["train.json"].begin(), results[0]["train.json"].end());
    EXPECT_THAT(manifest, AllOf(HasSubstr("\"overlap\": \"small-on-top\""),
                                HasSubstr("\"class\": \"stripes\"")));
    EXPECT_EQ(results[0], results[1]);
    EXPECT_EQ(results[0], results[2]);
    EXPECT_EQ(told[0], told[1]);
    EXPECT_EQ(told[0], told[2]);
}

TEST_F(CocoProgram, TheFindingsOfAllRanksAreOneTable) {
    if (!have_mpirun()) GTEST_SKIP() << "skipped: no mpirun";
    draw(9, 1);
    for (const int i : {1, 5, 6}) fs::remove(dir / "coco" / "train" / cat("train_0000", i, ".jpg"));
    const fs::path out = dir / "out";
    auto result = run_process(with_ranks(3, pack_arguments("train", out, {"--min-pixels", "0"})));
    EXPECT_EQ(result.exit_code, 3) << result.both();
    EXPECT_THAT(result.both(), HasSubstr("3 problems"));
    EXPECT_EQ(result.both().find("3 problems"), result.both().rfind("3 problems"));
    EXPECT_FALSE(fs::exists(out / "train.json"));
    // What rank 0 alone finds ends all ranks, with its exit code and one message.
    write_atomically(dir / "coco" / "instances_train.json", "{");
    result = run_process(with_ranks(3, pack_arguments("train", out)));
    EXPECT_EQ(result.exit_code, 3) << result.both();
    EXPECT_THAT(result.both(), HasSubstr("not valid JSON"));
    EXPECT_EQ(result.both().find("not valid JSON"), result.both().rfind("not valid JSON"));
}

// Where no shape's edge is near, the label is the one that was drawn.
TEST_F(CocoProgram, TheMasksAreThoseOfTheShapes) {
    draw(1, 24);
    const fs::path out = dir / "out";
    const auto result = run_process(pack_arguments("val", out, {"--min-pixels", "0"}));
    ASSERT_EQ(result.exit_code, 0) << result.both();
    data::ShardSet set(out, "val");
    ASSERT_EQ(set.size(), 24);
    ShapesOptions options;
    options.min_width = options.min_height = 48;
    options.max_width = options.max_height = 80;
    std::int64_t inside = 0, wrong = 0, crowds = 0;
    for (std::int64_t i = 0; i < set.size(); ++i) {
        const Scene scene = draw_scene(options, 3, static_cast<std::uint64_t>(i));
        const io::Mask mask = io::decode_mask(set.read(i, true).mask, "mask");
        ASSERT_EQ(mask.labels.size(), scene.mask.labels.size());
        for (std::size_t p = 0; p < mask.labels.size(); ++p) {
            if (scene.mask.labels[p] == 255) continue;
            ++inside;
            crowds += mask.labels[p] == 255 ? 1 : 0;
            wrong += mask.labels[p] != 255 && mask.labels[p] != scene.mask.labels[p] ? 1 : 0;
        }
    }
    EXPECT_GT(inside, 50000);
    EXPECT_GT(crowds, 0);
    EXPECT_LT(crowds, inside / 20);
    EXPECT_EQ(wrong, 0);
}

TEST_F(CocoProgram, WrongCommandLinesExitWithTwo) {
    const auto run = [&](std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), program("deeplab-pack"));
        const auto result = run_process(arguments);
        return cat(result.exit_code, " ", result.both());
    };
    EXPECT_THAT(run({"--voc", "x", "--out", "o", "--map", "m"}),
                AllOf(HasSubstr("2 "), HasSubstr("--map without --coco")));
    EXPECT_THAT(run({"--voc", "x", "--out", "o", "--min-pixels", "4"}),
                HasSubstr("--min-pixels without --coco"));
    EXPECT_THAT(run({"--coco", "x", "--overlap", "small"}),
                AllOf(HasSubstr("2 "), HasSubstr("small-on-top")));
    EXPECT_THAT(run({"--coco", "x", "--out", "o", "--images", "i", "--map", "/nowhere"}),
                AllOf(HasSubstr("2 "), HasSubstr("/nowhere")));
    EXPECT_THAT(run({"--help"}),
                AllOf(HasSubstr("0 "), HasSubstr("coco_voc21.toml"), HasSubstr("--crowd")));
    draw(1, 1);
    const auto again = run_process(
        {program("deeplab-make-shapes"), "--coco", "--out", dir.path().string()});
    EXPECT_EQ(again.exit_code, 2);
    EXPECT_THAT(again.err, HasSubstr("exists"));
    const auto masks = run_process({program("deeplab-make-shapes"), "--coco", "--masks", "rgb",
                                    "--out", (dir / "b").string()});
    EXPECT_EQ(masks.exit_code, 2);
}

}  // namespace
}  // namespace deeplab::preprocess
