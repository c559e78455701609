#include "deeplab/train/run_folder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "harness/temp_dir.h"

namespace deeplab::train {
namespace {

using deeplab::testing::TempDir;
namespace fs = std::filesystem;

TEST(Checkpoints, LinksAreReplacedAndOldFilesRemoved) {
    const TempDir dir;
    fs::create_directories(dir / "checkpoints");
    EXPECT_FALSE(latest_checkpoint(dir.path()).has_value());
    for (const std::int64_t step : {100, 200, 300, 400}) {
        const fs::path file = checkpoint_path(dir.path(), step);
        std::ofstream(file) << step;
        link_checkpoint(file, "latest.h5");
        if (step == 100) link_checkpoint(file, "best.h5");
        prune_checkpoints(dir.path(), 2, {});
    }
    std::ofstream(dir / "checkpoints/step-0000500.h5.tmp-1-0") << "left over";
    remove_leftovers(dir.path());
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(dir / "checkpoints"))
        names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    EXPECT_EQ(names, (std::vector<std::string>{"best.h5", "latest.h5", "step-0000100.h5",
                                               "step-0000300.h5", "step-0000400.h5"}));
    EXPECT_EQ(fs::read_symlink(dir / "checkpoints/latest.h5"), "step-0000400.h5");
    EXPECT_EQ(latest_checkpoint(dir.path())->filename(), "step-0000400.h5");
    fs::remove(dir / "checkpoints/step-0000400.h5");  // a dangling link
    EXPECT_EQ(latest_checkpoint(dir.path())->filename(), "step-0000300.h5");
}

TEST(Checkpoints, RoomIsForThoseThatAreNotThereYet) {
    const TempDir dir;
    const fs::path run = dir / "not/made/yet";
    CheckpointRoom room = checkpoint_room(run, 100, 3);
    EXPECT_EQ(room.bytes, 100);
    EXPECT_EQ(room.at_once, 5);
    EXPECT_EQ(room.to_come, 500);
    EXPECT_GT(room.free, 0) << "of the folder that it will be made in";
    EXPECT_FALSE(fs::exists(dir / "not"));
    fs::create_directories(run / "checkpoints");
    for (const std::int64_t step : {1, 2}) std::ofstream(checkpoint_path(run, step)) << step;
    EXPECT_EQ(checkpoint_room(run, 100, 3).to_come, 300);
    EXPECT_EQ(checkpoint_room(run, 100, 1).to_come, 100);
    for (const std::int64_t step : {3, 4}) std::ofstream(checkpoint_path(run, step)) << step;
    EXPECT_EQ(checkpoint_room(run, 100, 1).to_come, 100) << "the next one, before another goes";
    EXPECT_GT(checkpoint_room(run, 1 << 30, std::int64_t{1} << 40).to_come, std::int64_t{1} << 60);
    room = checkpoint_room("", 100, 3);
    EXPECT_EQ(room.to_come, 500);
    EXPECT_EQ(room.free, -1);
}

}  // namespace
}  // namespace deeplab::train
