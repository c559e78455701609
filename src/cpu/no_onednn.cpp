// Stands in for this folder where oneDNN was not found or is switched off.
#include "deeplab/base/error.h"
#include "deeplab/cpu/cpu_backend.h"

namespace deeplab::cpu {

std::unique_ptr<exec::Backend> make_cpu_backend(int) {
    throw DeviceError(
        "CPU backend: not built — this program has no way to compute on the host — install oneDNN, "
        "configure with -DDEEPLAB_ONEDNN=ON");
}

}  // namespace deeplab::cpu
