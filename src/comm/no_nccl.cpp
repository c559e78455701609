// Stands in for nccl.cpp where NCCL was not found or is switched off.
#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/device_communicator.h"

namespace deeplab::comm {

bool nccl_built() { return false; }

std::string nccl_status() {
    return "nccl: not built (install the CUDA Toolkit and libnccl, configure with "
           "-DDEEPLAB_CUDA=ON -DDEEPLAB_NCCL=ON)";
}

std::unique_ptr<DeviceCommunicator> make_nccl(Communicator&, const NcclOptions&) {
    throw DeviceError(
        cat(nccl_status(), " — device memory cannot be summed by it — use --comm mpi"));
}

}  // namespace deeplab::comm
