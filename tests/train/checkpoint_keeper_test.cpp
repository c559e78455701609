// Writing in the background, and choosing what a run goes on from.
#include "deeplab/train/checkpoint_keeper.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/io/features.h"
#include "deeplab/train/run_folder.h"
#include "harness/temp_dir.h"
#include "io/edited_hdf5.h"

namespace deeplab::train {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

weights::Snapshot snapshot_of(std::int64_t step, double best_miou = -1) {
    weights::Snapshot s;
    s.info.model = {.backbone = "resnet18", .num_classes = 2, .dropout = {}, .width_divisor = 8};
    s.info.classes.classes = {{"background", {}}, {"thing", {1, 2, 3}}};
    s.info.step = step;
    s.info.best_miou = best_miou;
    s.parameters["w"] = std::vector<float>(5000, static_cast<float>(step));
    s.momentum["w"] = s.parameters["w"];
    s.states["m"] = {static_cast<float>(step)};
    s.extents = {{"w", {5000}}, {"m", {1}}};
    return s;
}

class Keeper : public ::testing::Test {
protected:
    void SetUp() override { fs::create_directories(run_ / "checkpoints"); }

    fs::path file(std::int64_t step) const { return checkpoint_path(run_, step); }
    void write(std::int64_t step, double best_miou = -1) {
        weights::save_checkpoint(file(step), snapshot_of(step, best_miou));
    }
    void damage(std::int64_t step) {
        std::string bytes = read_text(file(step));
        bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
        std::ofstream(file(step), std::ios::binary) << bytes;
    }
    std::string linked(const char* name) const {
        std::error_code error;
        return fs::read_symlink(run_ / "checkpoints" / name, error).string();
    }
    std::set<std::string> names() const {
        std::set<std::string> all;
        for (const auto& entry : fs::directory_iterator(run_ / "checkpoints"))
            all.insert(entry.path().filename());
        return all;
    }

    testing::TempDir dir_;
    fs::path run_ = dir_ / "run";
};

TEST_F(Keeper, WritesLinksAndPrunes) {
    CheckpointKeeper keeper(run_, 2, {});
    for (const std::int64_t step : {1, 2, 3, 4, 5}) {
        keeper.settle();
        keeper.save(snapshot_of(step, step >= 2 ? 0.5 : -1), step == 2);
    }
    keeper.finish();
    EXPECT_EQ(names(), (std::set<std::string>{"best.h5", "latest.h5", "step-0000002.h5",
                                              "step-0000004.h5", "step-0000005.h5"}));
    EXPECT_EQ(linked("best.h5"), "step-0000002.h5");
    EXPECT_EQ(linked("latest.h5"), "step-0000005.h5");
    EXPECT_EQ(keeper.best_miou(), 0.5);
    EXPECT_EQ(keeper.state_hash(), state_hash(snapshot_of(5)));
    EXPECT_EQ(weights::load_checkpoint(file(5)).parameters, snapshot_of(5).parameters);
}

// A write that the test lets go on.
struct SlowWrite {
    std::promise<void> go;
    std::shared_future<void> gone{go.get_future()};
    std::atomic<int> written{0};
    CheckpointKeeper::Write function() {
        return [this](const fs::path& file, const weights::Snapshot& snapshot) {
            gone.wait();
            const std::uint64_t hash = weights::save_checkpoint(file, snapshot);
            ++written;
            return hash;
        };
    }
};

TEST_F(Keeper, TheCallerDoesNotWaitForTheWriteButForTheOneBefore) {
    SlowWrite slow;
    CheckpointKeeper keeper(run_, 3, {}, slow.function());
    keeper.settle();
    keeper.save(snapshot_of(1), false);  // returns although nothing can be written
    EXPECT_EQ(slow.written, 0);
    EXPECT_EQ(keeper.waits(), 0);
    std::thread later([&] {
        std::this_thread::sleep_for(50ms);
        slow.go.set_value();
    });
    keeper.settle();
    EXPECT_EQ(slow.written, 1);
    EXPECT_EQ(keeper.waits(), 1);
    keeper.save(snapshot_of(2), false);
    later.join();
}

TEST_F(Keeper, LeavingFinishesTheWrite) {
    SlowWrite slow;
    std::thread later([&] {
        std::this_thread::sleep_for(50ms);
        slow.go.set_value();
    });
    {
        CheckpointKeeper keeper(run_, 3, {}, slow.function());
        keeper.save(snapshot_of(7), false);
    }
    later.join();
    EXPECT_EQ(weights::load_checkpoint(file(7)).info.step, 7);
}

TEST_F(Keeper, SignalsReachTheCallersThreadOnly) {
    std::promise<bool> blocked;
    CheckpointKeeper keeper(
        run_, 3, {}, [&](const fs::path& path, const weights::Snapshot& snapshot) {
            sigset_t mask;
            pthread_sigmask(SIG_SETMASK, nullptr, &mask);
            blocked.set_value(sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGUSR1) == 1);
            return weights::save_checkpoint(path, snapshot);
        });
    keeper.save(snapshot_of(1), false);
    EXPECT_TRUE(blocked.get_future().get());
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    EXPECT_EQ(sigismember(&mask, SIGTERM), 0);
}

TEST_F(Keeper, AFailureIsAWarningWhileAnOlderOneIsWholeAndAnErrorAtTheEnd) {
    bool full = false;  // changed while nothing is being written
    const auto write = [&](const fs::path& path, const weights::Snapshot& snapshot) {
        if (full) throw DeviceError("the disk is full");
        return weights::save_checkpoint(path, snapshot);
    };
    CheckpointKeeper keeper(run_, 3, {}, write);
    keeper.save(snapshot_of(1, 0.25), true);
    keeper.settle();
    full = true;
    keeper.save(snapshot_of(2, 0.5), true);
    EXPECT_NO_THROW(keeper.settle());
    EXPECT_FALSE(keeper.lost());
    EXPECT_EQ(keeper.best_miou(), 0.25) << "the better one does not exist";
    EXPECT_THROW(keeper.finish(), DeviceError);
    EXPECT_EQ(linked("best.h5"), "step-0000001.h5");
    EXPECT_EQ(linked("latest.h5"), "step-0000001.h5");
    full = false;
    keeper.save(snapshot_of(3), false);
    EXPECT_NO_THROW(keeper.finish());
    EXPECT_EQ(linked("latest.h5"), "step-0000003.h5");
}

TEST_F(Keeper, AFailureWithoutAnyWholeOneEndsTheRun) {
    CheckpointKeeper keeper(run_, 3, {},
                            [](const fs::path&, const weights::Snapshot&) -> std::uint64_t {
                                throw DeviceError("the disk is full");
                            });
    EXPECT_FALSE(keeper.lost());
    keeper.save(snapshot_of(1), false);
    EXPECT_THROW(keeper.settle(), DeviceError);
    EXPECT_TRUE(keeper.lost());
}

TEST_F(Keeper, TheNewestWholeOneIsTakenAndDamagedOnesStay) {
    EXPECT_FALSE(find_starting_point(run_).newest.has_value());
    for (const std::int64_t step : {10, 20, 30, 40}) write(step);
    link_checkpoint(file(40), "latest.h5");
    damage(40);
    std::ofstream(file(30), std::ios::binary) << "";
    std::ofstream(run_ / "checkpoints/step-0000050.h5.tmp-1-0") << "half";
    std::ofstream(run_ / "config.toml.tmp-22-0") << "half";
    ::testing::internal::CaptureStderr();
    const StartingPoint start = find_starting_point(run_);
    const std::string warnings = ::testing::internal::GetCapturedStderr();
    EXPECT_EQ(start.newest, file(20));
    EXPECT_EQ(start.step, 20);
    EXPECT_EQ(start.damaged, (std::set<fs::path>{file(30), file(40)}));
    EXPECT_NE(warnings.find("step-0000040.h5 cannot be used: its content does not match"),
              std::string::npos)
        << warnings;
    EXPECT_NE(warnings.find("step-0000030.h5"), std::string::npos) << warnings;
    EXPECT_EQ(linked("latest.h5"), "step-0000020.h5");
    EXPECT_EQ(names(), (std::set<std::string>{"latest.h5", "step-0000010.h5", "step-0000020.h5",
                                              "step-0000030.h5", "step-0000040.h5"}));
    EXPECT_FALSE(fs::exists(run_ / "config.toml.tmp-22-0"));

    CheckpointKeeper keeper(run_, 2, start);
    keeper.save(snapshot_of(30), false);  // takes the damaged one's place, and counts
    keeper.finish();
    EXPECT_EQ(names(), (std::set<std::string>{"latest.h5", "step-0000020.h5", "step-0000030.h5",
                                              "step-0000040.h5"}));
    EXPECT_EQ(linked("latest.h5"), "step-0000030.h5");
}

TEST_F(Keeper, WhereNoneIsWholeThereIsNoFreshStart) {
    for (const std::int64_t step : {10, 20}) {
        write(step);
        damage(step);
    }
    try {
        find_starting_point(run_);
        FAIL() << "started";
    } catch (const DataError& error) {
        const std::string message = error.what();
        EXPECT_NE(message.find("step-0000010.h5"), std::string::npos) << message;
        EXPECT_NE(message.find("step-0000020.h5"), std::string::npos) << message;
    }
    EXPECT_TRUE(fs::exists(file(10)) && fs::exists(file(20)));
}

// It is not damaged: to pass over it would write over steps of a newer program.
TEST_F(Keeper, ANewerProgramsCheckpointEndsTheStart) {
    write(10, 0.25);
    write(20, 0.5);
    const auto refused = [&] {
        const auto before = names();
        try {
            find_starting_point(run_);
            return std::string();
        } catch (const io::NewerFile& error) {
            EXPECT_EQ(names(), before);
            return std::string(error.what());
        }
    };
    const auto need = [&](std::int64_t step) {
        testing::Hdf5Editor(file(step))
            .replace("requires", testing::text_attribute(R"(["something_new"])"));
    };
    need(20);
    EXPECT_NE(refused().find("step-0000020.h5 needs a program that knows \"something_new\""),
              std::string::npos);
    // The best one, too, is not given up.
    write(30, 0.5);
    link_checkpoint(file(20), "best.h5");
    link_checkpoint(file(30), "latest.h5");
    EXPECT_NE(refused().find("step-0000020.h5"), std::string::npos);
    EXPECT_EQ(linked("best.h5"), "step-0000020.h5");
}

TEST_F(Keeper, TheBestOneIsKnownAfterAStart) {
    write(10, 0.25);
    write(20, 0.5);
    write(30, 0.5);
    link_checkpoint(file(20), "best.h5");
    EXPECT_EQ(find_starting_point(run_).best_miou, 0.5);
    EXPECT_EQ(linked("best.h5"), "step-0000020.h5");
    // Killed between a better checkpoint and its link.
    write(40, 0.75);
    EXPECT_EQ(find_starting_point(run_).best_miou, 0.75);
    EXPECT_EQ(linked("best.h5"), "step-0000040.h5");
    fs::remove(run_ / "checkpoints/best.h5");
    EXPECT_EQ(find_starting_point(run_).best_miou, 0.75);
    EXPECT_EQ(linked("best.h5"), "step-0000040.h5");
    // Back behind the best one, which is damaged: the next evaluation decides, at every start.
    damage(40);
    for (int i = 0; i < 2; ++i) {
        const StartingPoint start = find_starting_point(run_);
        EXPECT_EQ(start.newest, file(30));
        EXPECT_EQ(start.best_miou, -1);
    }
    link_checkpoint(file(20), "best.h5");
    damage(20);
    EXPECT_EQ(find_starting_point(run_).best_miou, -1);
    EXPECT_TRUE(find_starting_point(run_).damaged.contains(file(20)));
}

}  // namespace
}  // namespace deeplab::train
