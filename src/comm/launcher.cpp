#include "launcher.h"

#include <array>
#include <cstdlib>

#include "deeplab/base/text.h"

namespace deeplab::comm {
namespace {

struct Sign {
    const char* variable;  // its value: how many processes were started
    const char* launcher;
    const char* beside = nullptr;  // a variable without which it means nothing
};

// Of one step's processes only: a shell inside an allocation has SLURM_NTASKS, too.
constexpr std::array signs = {
    Sign{"PMI_SIZE", "a launcher of the PMI kind (MPICH's mpiexec, Intel MPI, srun --mpi=pmi2)"},
    Sign{"MPI_LOCALNRANKS", "MPICH's mpiexec (Hydra)"},
    Sign{"MV2_COMM_WORLD_SIZE", "MVAPICH's launcher"},
    Sign{"PALS_SIZE", "PALS"},
    Sign{"JSM_NAMESPACE_SIZE", "jsrun"},
    Sign{"FLUX_JOB_SIZE", "Flux"},
    Sign{"SLURM_STEP_NUM_TASKS", "srun"},
    Sign{"WORLD_SIZE", "torchrun or a launcher of its kind", "LOCAL_RANK"},
};

constexpr const char* open_mpi = "OMPI_COMM_WORLD_SIZE";  // set by its mpirun
constexpr const char* on_purpose = "DEEPLAB_ALONE";

int count(const char* text) { return text == nullptr ? 0 : std::atoi(text); }

}  // namespace

std::string launcher_problem(int size, bool mpi_built,
                             const std::function<const char*(const char*)>& variable) {
    if (size > 1 || count(variable(on_purpose)) == 1) return "";
    Sign found{nullptr, nullptr};
    if (const char* own = variable(open_mpi); own != nullptr) {
        if (count(own) <= 1) return "";  // whatever is around it, mpirun started one rank
        found = {open_mpi, "Open MPI's mpirun"};
    } else {
        for (const Sign& sign : signs) {
            if (found.variable == nullptr && count(variable(sign.variable)) > 1 &&
                (sign.beside == nullptr || variable(sign.beside) != nullptr))
                found = sign;
        }
    }
    if (found.variable == nullptr) return "";
    const char* remedy =
        !mpi_built ? "configure with -DDEEPLAB_MPI=ON, or start the program once"
                   : "start it with the mpirun of the MPI library it was built with, or with srun "
                     "--mpi=pmix where Slurm has that (srun --mpi=list)";
    return cat("started ", count(variable(found.variable)), " times by ", found.launcher, " (",
               found.variable, "), but ",
               mpi_built ? "the MPI library of this program does not know of the others: each is "
                           "rank 0 of 1"
                         : "this program was built without MPI",
               " — every process would do the whole job alone and write the same files — ", remedy,
               "; processes that are meant to work apart need ", on_purpose, "=1");
}

}  // namespace deeplab::comm
