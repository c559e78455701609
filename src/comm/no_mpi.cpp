// Stands in for mpi.cpp where DEEPLAB_MPI is off or MPI was not found.
#include <cstdlib>

#include "deeplab/comm/communicator.h"
#include "deeplab/comm/mailbox.h"
#include "launcher.h"

namespace deeplab::comm {

bool mpi_built() { return false; }

void MpiSession::start(int*, char***) {}

MpiSession::~MpiSession() = default;

std::unique_ptr<Mailbox> make_mailbox(Communicator&, MailboxThread) { return nullptr; }

void abort_job(int code) { std::_Exit(code); }

}  // namespace deeplab::comm
