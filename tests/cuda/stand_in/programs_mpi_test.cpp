// What the programs' options become on a GPU: the one way to make a backend (tools/support.h).

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "comm/nccl/fake_nccl.h"
#include "cpu/narrow_network.h"
#include "cuda/executor/host_engines.h"
#include "deeplab/tools/support.h"
#include "harness/mpi.h"

namespace deeplab::testing {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;

struct Outcome {
    std::vector<std::string> keys;  // of the convolutions' engines
    std::vector<std::string> nccl;  // calls
};

// Of a training's compilation on every rank.
Outcome compiled(const std::string& comm, bool tf32) {
    tools::BackendChoice choice;
    choice.device = tools::Device::cuda;
    choice.comm = comm;
    choice.tf32 = tf32;
    choice.engines = "first";
    host_library() = {};
    reload_nccl();
    Outcome outcome;
    {
        const Trainer t(narrow("resnet18", 16), options(1, 33), {.seed = 9},
                        tools::make_backend(choice, world()));
        for (const auto& [key, engine] : host_library().chosen) outcome.keys.push_back(key);
        outcome.nccl = seen().calls;
    }
    host_library() = {};
    reload_nccl();
    return outcome;
}

TEST(ProgramsBackend, SumsByNcclWhereThatWasAskedForOrThereAreRanks) {
    EXPECT_THAT(compiled("nccl", false).nccl, Contains("set-up"));
    EXPECT_THAT(compiled("mpi", false).nccl, Not(Contains("set-up")));
    const std::vector<std::string> calls = compiled("auto", false).nccl;
    EXPECT_EQ(std::count(calls.begin(), calls.end(), "set-up") > 0, world().size() > 1);
}

TEST(ProgramsBackend, RoundsToTf32WhereThatWasAskedFor) {
    EXPECT_THAT(compiled("mpi", true).keys, Each(HasSubstr(" tf32")));
    EXPECT_THAT(compiled("mpi", false).keys, Each(Not(HasSubstr(" tf32"))));
}

}  // namespace
}  // namespace deeplab::testing
