// Stands in for nccl.cpp where NCCL was not found or is switched off.
#include "deeplab/comm/communicator.h"

namespace deeplab::comm {

std::string nccl_status() {
    return "nccl: not built (install the CUDA Toolkit and libnccl, configure with "
           "-DDEEPLAB_CUDA=ON -DDEEPLAB_NCCL=ON)";
}

}  // namespace deeplab::comm
