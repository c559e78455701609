// Stands in for mpi.cpp where DEEPLAB_MPI is off or MPI was not found.
#include <array>
#include <cstdlib>

#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/communicator.h"
#include "deeplab/comm/mailbox.h"

namespace deeplab::comm {

MpiSession::MpiSession(int*, char***) : world_(make_self()) {
    // Set by Open MPI, by MPICH and its relatives, and by srun. Many copies of one job would
    // overwrite each other.
    constexpr std::array names = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"};
    for (const char* variable : names) {
        const char* value = std::getenv(variable);
        if (value == nullptr || std::atoi(value) <= 1) continue;
        log::error(cat("started as ", value,
                       " ranks, but this program was built without MPI — every rank would do the "
                       "whole job alone and write the same files — configure with "
                       "-DDEEPLAB_MPI=ON, or start it once"));
        std::exit(static_cast<int>(ExitCode::usage));
    }
}

MpiSession::~MpiSession() = default;

Communicator& MpiSession::world() { return *world_; }

std::unique_ptr<Mailbox> make_mailbox(Communicator&) { return nullptr; }

void abort_job(int code) { std::_Exit(code); }

}  // namespace deeplab::comm
