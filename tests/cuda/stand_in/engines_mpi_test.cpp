// Trainings on ranks whose clocks disagree on the fastest engine, where each engine has bits of its
// own.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <functional>

#include "cpu/narrow_network.h"
#include "cuda/executor/host_engines.h"
#include "deeplab/base/text.h"
#include "deeplab/cuda/cuda_backend.h"
#include "deeplab/tools/support.h"
#include "harness/mpi.h"
#include "harness/temp_dir.h"

namespace deeplab {
namespace {

using testing::host_library;
using testing::narrow;
using testing::Trainer;
using testing::world;

struct Outcome {
    std::string engines;  // of this rank, all convolutions
    std::uint64_t hash = 0;
    std::int64_t timed = 0;  // plans, on this rank

    bool operator==(const Outcome&) const = default;
};

class RanksEngines : public ::testing::Test {
protected:
    RanksEngines() { world().barrier("start of a test"); }
    ~RanksEngines() override {
        host_library() = {};
        world().barrier("end of a test");
    }

    std::filesystem::path file(const char* name) {
        return std::filesystem::path(
                   world().all_gather(dir_.path().string(), "a test's folder").front()) /
               name;
    }
    std::unique_ptr<exec::Backend> backend(const std::filesystem::path& choices) {
        cuda::CudaOptions options;
        options.choices = choices;
        options.ranks = &world();
        return cuda::make_cuda_backend(options);
    }
    // Two steps; each rank finds another engine the fastest, and others with another shift.
    using Make = std::function<std::unique_ptr<exec::Backend>()>;
    Outcome run(const Make& make, int shift) {
        host_library().chosen.clear();
        host_library().timed = 0;
        host_library().milliseconds = [shift](const std::string& key, std::int64_t engine) {
            const auto fastest = (static_cast<std::int64_t>(key.size()) + world().rank() + shift) %
                                 3;
            return engine == fastest ? 1.0 : 2.0;
        };
        Trainer t(narrow("resnet18", 16), testing::options(1, 33), {.seed = 9}, make());
        t.gradients = world().duplicate();
        t.batch_norm = world().duplicate();
        t.executable = t.backend->compile(t.plan, t.communicators(), {.seed = 9, .tune = true});
        const testing::Batch batch(1, 33);
        for (int i = 0; i < 2; ++i) t.executable->run(batch.step());
        const std::vector<float> state = t.state();
        Outcome result{"", fnv1a(state.data(), state.size() * sizeof(float)), host_library().timed};
        for (const auto& [key, engine] : host_library().chosen) result.engines += cat(engine);
        const exec::EngineCounts counts = t.backend->engines();
        EXPECT_EQ(counts.timed > 0, result.timed > 0);
        const auto convolutions = static_cast<std::int64_t>(result.engines.size());
        EXPECT_TRUE(counts.timed + counts.known == convolutions || counts.timed + counts.known == 0)
            << counts.timed << " timed, " << counts.known << " known of " << convolutions;
        return result;
    }
    Outcome run(const std::filesystem::path& choices, int shift) {
        return run([&] { return backend(choices); }, shift);
    }
    // Whether all ranks say the same.
    static bool same(const std::string& text) {
        const auto all = world().all_gather(text, "what ranks say");
        return all == std::vector<std::string>(all.size(), all.front());
    }

    testing::TempDir dir_;
};

TEST_F(RanksEngines, AreTheSameAndARestartHasTheSameBits) {
    const Outcome first = run(file("a.txt"), 0), again = run(file("a.txt"), 1);
    EXPECT_TRUE(same(first.engines)) << first.engines;
    EXPECT_EQ(first.timed > 0, world().rank() == 0) << "who leads times, and nobody else";
    EXPECT_EQ(again.timed, 0) << "they are in the file";
    EXPECT_EQ(again.engines, first.engines);
    EXPECT_EQ(again.hash, first.hash);
    EXPECT_TRUE(same(hex64(first.hash)));
    // Another file, other engines, other bits: the above says something.
    const Outcome other = run(file("b.txt"), 1);
    EXPECT_NE(other.engines, first.engines);
    EXPECT_NE(other.hash, first.hash);
}

// Ranks of different devices: each kind has its own engines, and a restart has them again.
TEST_F(RanksEngines, OfTwoKindsOfDevicesAreKeptToo) {
    if (world().rank() == 1) host_library().device = "another";
    const Outcome first = run(file("a.txt"), 0), again = run(file("a.txt"), 1);
    EXPECT_EQ(first.timed > 0, world().rank() < 2);
    EXPECT_EQ(again.timed, 0);
    EXPECT_EQ(again.engines, first.engines);
    EXPECT_EQ(again.hash, first.hash);
    EXPECT_EQ(same(first.engines), world().size() == 1);
}

// The wiring of deeplab-train and deeplab-bench.
TEST_F(RanksEngines, OfProgramsAndBenchmarksAreTheSame) {
    const std::string log = (dir_ / "log.tsv").string();
    setenv("DEEPLAB_TUNING_CACHE", file("a.txt").c_str(), 1);
    setenv("DEEPLAB_TUNING_LOG", log.c_str(), 1);
    const auto with = [](const char* engines) {
        return [=] {
            tools::BackendChoice choice;
            choice.device = tools::Device::cuda;
            choice.comm = "mpi";
            choice.engines = engines;
            return tools::make_backend(choice, world());
        };
    };
    const Outcome first = run(with("timed"), 0), again = run(with("timed"), 1);
    EXPECT_TRUE(same(first.engines)) << first.engines;
    EXPECT_EQ(first.timed > 0, world().rank() == 0);
    EXPECT_EQ(again.timed, 0) << "they are in the file";
    EXPECT_EQ(again.hash, first.hash);
    EXPECT_EQ(std::filesystem::exists(log), world().rank() == 0) << "who leads records";
    EXPECT_EQ(run(with("first"), 1).engines, std::string(first.engines.size(), '0'));
    unsetenv("DEEPLAB_TUNING_CACHE");
    unsetenv("DEEPLAB_TUNING_LOG");
}

// Evaluation compiles a plan for an image's size on the rank that has the image.
TEST_F(RanksEngines, ARankEvaluatesAloneWithoutTiming) {
    const auto alone = backend(file("a.txt"));
    const auto config = narrow("resnet18", 16);
    const graph::Plan plan = model::inference_plan(config, 1, 33, 33);
    alone->allocate(plan);
    if (world().rank() == world().size() - 1) {
        const auto self = comm::make_self(), other = comm::make_self();
        EXPECT_NE(alone->compile(plan, {self.get(), other.get()}, {}), nullptr);
        EXPECT_EQ(host_library().timed, 0);
    }
    EXPECT_FALSE(std::filesystem::exists(file("a.txt")));
}

}  // namespace
}  // namespace deeplab
