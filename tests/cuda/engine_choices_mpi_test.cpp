// Ranks whose clocks disagree on the fastest engine.
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "engine_choices.h"
#include "harness/mpi.h"
#include "harness/temp_dir.h"
#include "pretended_engines.h"

namespace deeplab::cuda {
namespace {

using testing::PretendedEngine;
using testing::PretendedEngines;
using testing::world;

class RanksChoices : public ::testing::Test {
protected:
    // A folder of all ranks: rank 0's.
    std::filesystem::path file() {
        return std::filesystem::path(
                   world().all_gather(dir_.path().string(), "a test's folder").front()) /
               "choices.txt";
    }
    CudaOptions options() {
        CudaOptions o;
        o.choices = file();
        o.tuning_log = dir_ / "log.tsv";  // of each rank
        o.ranks = &world();
        return o;
    }
    // On rank r engine 12 + r + shift is the fastest, and 10 the first.
    static PretendedEngines engines(const std::string& name, const std::string& device, int shift) {
        std::vector<PretendedEngine> list;
        for (int i = 0; i < 5; ++i)
            list.push_back({.engine = 10 + i,
                            .milliseconds = i == (world().rank() + shift + 2) % 5 ? 1.0 : 2.0 + i});
        PretendedEngines all(std::move(list));
        all.name = cat("library | ", device, " | ", name);
        return all;
    }
    static std::vector<std::string> chosen(EngineChoices& choices, const std::string& device,
                                           int shift) {
        std::string mine;
        choices.tuned([&] {
            mine.clear();
            for (const char* name : {"a", "b"}) {
                auto all = engines(name, device, shift);
                mine += cat(choices.choose(all).engine, " ");
                EXPECT_EQ(all.taken, choices.choose(all).engine);
            }
        });
        return world().all_gather(mine, "engines of a test");
    }

    testing::TempDir dir_;
};

TEST_F(RanksChoices, AreThoseOfRankZeroAlsoAfterARestart) {
    for (int start = 0; start < 3; ++start) {
        EngineChoices choices(options(), "library | device");
        for (const std::string& rank : chosen(choices, "device", 2 * start))
            EXPECT_EQ(rank, "12 12 ") << "start " << start;
        EXPECT_EQ(choices.counts().timed, start == 0 && world().rank() == 0 ? 2 : 0);
        EXPECT_EQ(choices.counts().known, start == 0 && world().rank() == 0 ? 0 : 2);
    }
    EXPECT_EQ(std::filesystem::exists(dir_ / "log.tsv"), world().rank() == 0)
        << "who times records";
    EXPECT_EQ(ChoiceCache(file()).size(), 2u);
    world().barrier("end of a test");
}

TEST_F(RanksChoices, AFileThatCannotBeWrittenChangesNothing) {
    CudaOptions o = options();
    o.choices = dir_.path() / "folder";
    std::filesystem::create_directories(o.choices);
    EngineChoices choices(o, "library | device");
    for (const std::string& rank : chosen(choices, "device", 0)) EXPECT_EQ(rank, "12 12 ");
}

// Ranks of another device have a leader of their own; both leaders' choices are kept.
TEST_F(RanksChoices, EqualDevicesAgreeAmongThemselves) {
    const std::string device = world().rank() == 1 ? "other" : "device";
    for (int start = 0; start < 2; ++start) {
        EngineChoices choices(options(), cat("library | ", device));
        const auto all = chosen(choices, device, 3 * start);
        for (std::size_t rank = 0; rank < all.size(); ++rank)
            EXPECT_EQ(all[rank], rank == 1 ? "13 13 " : "12 12 ") << "start " << start;
    }
    EXPECT_EQ(ChoiceCache(file()).size(), world().size() > 1 ? 4u : 2u);
    world().barrier("end of a test");
}

// What was not measured is not in the file, and the same on all ranks all the same.
TEST_F(RanksChoices, WithoutRoomToTimeTheyAgreeToo) {
    EngineChoices choices(options(), "library | device");
    std::int64_t engine = -1;
    choices.tuned([&] {
        auto all = engines("a", "device", 0);
        all.no_room = world().rank() == 0;
        all.list.front().build_fails = world().rank() == 0;
        engine = choices.choose(all).engine;
    });
    for (const std::string& rank : world().all_gather(cat(engine), "engines of a test"))
        EXPECT_EQ(rank, "11");
    EXPECT_FALSE(std::filesystem::exists(file()));
    world().barrier("end of a test");
}

// One rank alone evaluates an image of a new size: nobody else has to be asked.
TEST_F(RanksChoices, APlanThatIsNotTunedIsCompiledAlone) {
    EngineChoices choices(options(), "library | device");
    chosen(choices, "device", 0);
    if (world().rank() == world().size() - 1) {
        auto known = engines("a", "device", 1), unknown = engines("c", "device", 1);
        EXPECT_EQ(choices.choose(known).engine, 12);
        EXPECT_EQ(choices.choose(unknown).engine, 10) << "the first";
        EXPECT_EQ(known.timed + unknown.timed, 0);
    }
    world().barrier("end of a test");
}

}  // namespace
}  // namespace deeplab::cuda
