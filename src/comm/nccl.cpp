#include <nccl.h>

#include "deeplab/base/text.h"
#include "deeplab/comm/communicator.h"

namespace deeplab::comm {

std::string nccl_status() {
    int version = 0;
    if (ncclGetVersion(&version) != ncclSuccess)
        return "nccl: built, but the library does not answer; not finished in this version";
    return cat("nccl: ", version / 10000, ".", version / 100 % 100, ".", version % 100,
               " is linked, the communicator is not finished in this version; use --comm mpi");
}

}  // namespace deeplab::comm
