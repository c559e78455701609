#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/cuda/cuda_backend.h"

namespace deeplab::cuda {
namespace {

constexpr std::size_t hosts_named = 8;

// "12.2" for 12020.
std::string cuda_version(int code) { return cat(code / 1000, ".", code % 1000 / 10); }

std::string joined(const std::set<std::string>& hosts) {
    std::string text;
    std::size_t named = 0;
    for (const std::string& host : hosts) {
        if (named++ == hosts_named) return cat(text, " and ", hosts.size() - hosts_named, " more");
        text += cat(text.empty() ? "" : ", ", host);
    }
    return text;
}

// What is wrong, without why it matters and what to do.
std::string first_part(const std::string& message) {
    return message.substr(0, message.find(" — "));
}

}  // namespace

bool all_have_devices(comm::Communicator& world, const Availability& own, bool required) {
    const std::string mine = cat(log::host(), "\t", own.devices, "\t", own.reason);
    std::set<std::string> with;
    std::map<std::string, std::set<std::string>> without;  // hosts by what is wrong there
    std::int64_t ranks_without = 0;
    std::string reason;
    for (const std::string& text : world.all_gather(mine, "devices that the ranks see")) {
        const auto parts = split(text, '\t');
        if (parts.at(1) != "0") {
            with.insert(parts.at(0));
            continue;
        }
        ++ranks_without;
        without[first_part(parts.at(2))].insert(parts.at(0));
        if (reason.empty()) reason = parts.at(2);
    }
    if (without.empty()) return true;
    if (with.empty() && !required) return false;
    if (with.empty()) throw DeviceError(cat("--device cuda cannot be used: ", reason));
    std::string causes;
    for (const auto& [what, hosts] : without)
        causes += cat(causes.empty() ? "" : "; ", joined(hosts), ": ", what);
    throw DeviceError(
        cat(ranks_without, " of ", world.size(), " ranks see no GPU (", causes,
            "), the others do (", joined(with),
            ") — all train one network, and those with a GPU would wait for the rest "
            "for ever — mend these hosts (nvidia-smi tells there) or leave them out of "
            "the job; with --device cpu all run on processors"));
}

bool sums_by_nccl(const comm::Communicator& world, const std::string& comm) {
    if (comm != "auto" || world.size() == 1) return comm == "nccl";
    if (!comm::nccl_built() && world.rank() == 0) {
        log::warn(cat("sums over ranks go through host memory (", comm::nccl_status(),
                      ") — each holds up its GPU until it is there, where NCCL's run beside the "
                      "computation — build with NCCL, or give --comm mpi where that is meant"));
    }
    return comm::nccl_built();
}

std::string reason_of(const NoDevice& found) {
    std::string what = found.error, more;
    if (found.kind == NoDevice::Kind::driver && found.driver > 0) {
        what = cat("the NVIDIA driver is for CUDA ", cuda_version(found.driver),
                   " and too old for this program's ", cuda_version(found.runtime));
        more = ", or install a newer driver";
    } else if (found.kind == NoDevice::Kind::driver) {
        what = cat(
            "no usable NVIDIA driver on this machine: there is none, or it is not loaded, or "
            "too old for CUDA ",
            cuda_version(found.runtime));
        more = ", or install the NVIDIA driver";
    } else if (found.kind == NoDevice::Kind::none_visible) {
        what = "no visible device";
        if (found.visible != nullptr) {
            const std::string visible = found.visible;
            what += cat(": CUDA_VISIBLE_DEVICES is \"", visible, "\"",
                        visible.empty() || visible == "-1" ? ", which hides all" : "");
            more = ", or unset CUDA_VISIBLE_DEVICES";
        }
    }
    return cat("CUDA backend: ", what, " — no network can run on a GPU — use --device cpu", more);
}

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
