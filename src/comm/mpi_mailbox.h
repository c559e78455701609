#pragma once
// A Mailbox over MPI. Needs MPI_THREAD_MULTIPLE.

#include <mpi.h>

#include <memory>

#include "deeplab/comm/mailbox.h"

namespace deeplab::comm {

void check_mpi(int code, const char* what);  // DeviceError naming `what` (mpi.cpp)
// Takes a communicator of its own.
std::unique_ptr<Mailbox> make_mpi_mailbox(MPI_Comm own);

}  // namespace deeplab::comm
