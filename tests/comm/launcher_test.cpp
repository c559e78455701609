#include "../../src/comm/launcher.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "harness/process.h"

namespace deeplab::comm {
namespace {

using Environment = std::map<std::string, std::string>;

std::string problem(int size, const Environment& environment, bool mpi = true) {
    return launcher_problem(size, mpi, [&](const char* name) {
        const auto found = environment.find(name);
        return found == environment.end() ? nullptr : found->second.c_str();
    });
}

TEST(Launcher, RanksThatDoNotKnowEachOtherAreRefused) {
    for (const char* name :
         {"PMI_SIZE", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_SIZE", "PALS_SIZE", "JSM_NAMESPACE_SIZE",
          "FLUX_JOB_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"}) {
        const std::string text = problem(1, {{name, "4"}});
        EXPECT_NE(text.find("started 4 times"), std::string::npos) << name << ": " << text;
        EXPECT_NE(text.find(name), std::string::npos) << text;
        EXPECT_NE(text.find("mpirun"), std::string::npos) << text;
        EXPECT_EQ(problem(4, {{name, "4"}}), "") << "they do: " << name;
        EXPECT_EQ(problem(1, {{name, "1"}}), "") << name;
        EXPECT_EQ(problem(1, {{name, "4"}, {"DEEPLAB_ALONE", "1"}}), "") << "on purpose: " << name;
        EXPECT_NE(problem(1, {{name, "4"}}, false).find("DEEPLAB_MPI"), std::string::npos) << name;
    }
}

TEST(Launcher, OneRankWithinAnAllocationIsWelcome) {
    // A shell of salloc, a batch script, a step of one task in an allocation of many.
    EXPECT_EQ(problem(1, {{"SLURM_NTASKS", "16"}, {"SLURM_JOB_ID", "7"}}), "");
    EXPECT_EQ(problem(1, {{"SLURM_NTASKS", "16"}, {"SLURM_PROCID", "0"}}), "");
    EXPECT_EQ(problem(1, {{"SLURM_NTASKS", "16"}, {"SLURM_STEP_NUM_TASKS", "1"}}), "");
    // mpirun -np 1 within a step of many: the nearest launcher counts.
    EXPECT_EQ(problem(1, {{"SLURM_STEP_NUM_TASKS", "4"}, {"OMPI_COMM_WORLD_SIZE", "1"}}), "");
    EXPECT_EQ(problem(1, {}), "");
}

// torchrun --no-python, and deepspeed --no_python.
TEST(Launcher, ThoseOfPyTorchAreKnown) {
    const Environment process = {{"WORLD_SIZE", "8"}, {"LOCAL_RANK", "3"}, {"RANK", "3"}};
    EXPECT_NE(problem(1, process).find("started 8 times by torchrun"), std::string::npos)
        << problem(1, process);
    // A pod of several, each with one process that torchrun has not started.
    EXPECT_EQ(problem(1, {{"WORLD_SIZE", "8"}, {"RANK", "3"}}), "");
    Environment one_rank = process;
    one_rank["OMPI_COMM_WORLD_SIZE"] = "1";
    EXPECT_EQ(problem(1, one_rank), "") << "mpirun in a process of torchrun's";
}

TEST(Launcher, ProgramsEndWith2BeforeTheirWork) {
    const testing::ProcessResult result = testing::run_process(
        {testing::helper("deeplab-failing-job"), "lone-data"},
        {.environment = {"PMI_RANK=1", "PMI_SIZE=2"}, .directory = "", .timeout_s = 60});
    EXPECT_EQ(result.exit_code, 2) << result.both();
    EXPECT_NE(result.err.find("started 2 times"), std::string::npos) << result.both();
    EXPECT_EQ(result.err.find("broken record"), std::string::npos) << result.both();
}

}  // namespace
}  // namespace deeplab::comm
