#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/cuda/cuda_backend.h"

namespace deeplab::cuda {

int choose_device(int local_rank, int local_size, int visible_devices) {
    expects(local_rank >= 0 && local_rank < local_size, "a local rank is below its node's ranks");
    if (visible_devices == 1) return 0;
    if (local_rank < visible_devices) return local_rank;
    throw DeviceError(cat(
        "rank ", log::rank(), " on ", log::host(), " has no GPU of its own: it is number ",
        local_rank + 1, " of ", local_size, local_size == 1 ? " rank" : " ranks",
        " of this node, which sees ",
        visible_devices == 0 ? std::string("no") : cat(visible_devices),
        visible_devices == 1 ? " device" : " devices",
        " — ranks would wait for each other's kernels — start as many ranks a node as it has GPUs, "
        "or make more visible (CUDA_VISIBLE_DEVICES, --gpus-per-node)"));
}

}  // namespace deeplab::cuda
