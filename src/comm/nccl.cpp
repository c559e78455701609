#include <nccl.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <thread>
#include <utility>

#include "deeplab/base/clock.h"
#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/activity.h"
#include "deeplab/comm/device_communicator.h"

namespace deeplab::comm {
namespace {
constexpr const char* advice =
    " — the ranks cannot go on together — look for the first rank that failed (NCCL_DEBUG=INFO "
    "says more), then start again with --resume";

// 22809 for 2.28.9; 0: unknown.
int version_code() {
    int version = 0;
    return ncclGetVersion(&version) == ncclSuccess ? version : 0;
}

std::string library_version() {
    const int version = version_code();
    if (version == 0) return "of unknown version";
    return cat(version / 10000, ".", version / 100 % 100, ".", version % 100);
}

void set_unless_set(const char* name, const char* value) { setenv(name, value, 0); }

// NCCL reads them with the first communicator.
void set_variables(bool deterministic) {
    // Gradients and batch-norm sums are communicators of one captured step, in branches that
    // nothing orders: without this their kernels may start in one order here, in the other there,
    // and wait for each other. NCCL from 2.26 on then keeps the order of the calls, in a captured
    // graph, too (where it or the driver is older than CUDA 12.9, the kernels of a graph take
    // turns).
    set_unless_set("NCCL_LAUNCH_ORDER_IMPLICIT", "1");
    // With this support on, launches of such graphs may deadlock (NCCL's user guide, "Using NCCL
    // with CUDA Graphs"). What it is for does not happen here: calls outside a graph while one is
    // under way.
    set_unless_set("NCCL_GRAPH_MIXING_SUPPORT", "0");
    if (!deterministic) return;
    // These add in the network's switches, in the order of arrival. A name that the library does
    // not know fails its set-up: NVLSTree came with 2.18.
    set_unless_set("NCCL_ALGO", version_code() >= 21800
                                    ? "^NVLS,NVLSTree,CollNetDirect,CollNetChain"
                                    : "^NVLS,CollNetDirect,CollNetChain");
}

ncclDataType_t datatype(DType type) {
    switch (type) {
        case DType::f32: return ncclFloat32;
        case DType::f64: return ncclFloat64;
        case DType::bf16: return ncclBfloat16;
        default: break;
    }
    throw LogicError(cat("device memory of ", name(type), " is not summed"));
}

class Nccl final : public DeviceCommunicator {
public:
    inline static int alive = 0;  // in this process

    Nccl(const ncclUniqueId& id, int rank, int size, const NcclOptions& options)
        : rank_(rank), size_(size), options_(options) {
        ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
        config.blocking = 0;  // every call returns at once, so that none can hang
        if (options.max_ctas > 0) config.maxCTAs = options.max_ctas;
        const ncclResult_t result = ncclCommInitRankConfig(&comm_, size, id, rank, &config);
        try {
            settle(result, "set-up");
        } catch (...) {
            abort({});  // the destructor of an unfinished object does not run
            throw;
        }
        ++alive;
    }

    ~Nccl() override {
        --alive;
        if (comm_ == nullptr) return;
        // Finalizing waits for the other ranks, who may be elsewhere.
        if (!failed_ && std::uncaught_exceptions() == 0) {
            try {
                settle(ncclCommFinalize(comm_), "shut-down");
                ncclCommDestroy(comm_);
                return;
            } catch (const std::exception& error) {
                log::warn(error.what());
            }
        }
        abort({});
    }
    Nccl(const Nccl&) = delete;
    Nccl& operator=(const Nccl&) = delete;

    int rank() const override { return rank_; }
    int size() const override { return size_; }
    std::string description() const override {
        return cat("NCCL ", library_version(), ", ", size_, size_ == 1 ? " rank" : " ranks");
    }

    void all_reduce(void* data, std::size_t count, DType type, DeviceStream stream,
                    const char* what) override {
        expects(comm_ != nullptr && !failed_, "nothing follows a failure or an abort");
        last_ = what;
        const ncclResult_t result = ncclAllReduce(data, data, count, datatype(type), ncclSum, comm_,
                                                  static_cast<cudaStream_t>(stream));
        // In a group it has not begun; group_end() sees how it goes.
        if (grouped_ && result == ncclInProgress) return;
        settle(result, what);
    }

    void group_start() override {
        expects(!grouped_, "groups do not nest");
        settle(ncclGroupStart(), "the start of a group");
        grouped_ = true;
    }

    void group_end() override {
        expects(grouped_, "a group has begun");
        grouped_ = false;
        settle(ncclGroupEnd(), "a group");
    }

    bool capturable() const override { return true; }

    void check() override {
        if (comm_ == nullptr) return;
        ncclResult_t state = ncclSuccess;
        const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
        if (asked != ncclSuccess) fail(asked, last_);
        if (state != ncclSuccess && state != ncclInProgress) fail(state, last_);
    }

    // In a group all are told to stop before NCCL waits for one of them.
    void abort(std::span<DeviceCommunicator* const> others) noexcept override {
        if (std::exchange(grouped_, false)) ncclGroupEnd();  // the group of what has failed
        ncclGroupStart();
        if (comm_ != nullptr) ncclCommAbort(std::exchange(comm_, nullptr));
        abort_all(others);
        ncclGroupEnd();
    }

    std::string last_collective() const override { return cat(options_.name, ": ", last_); }

private:
    // Waits until NCCL has taken in what `result` came from.
    void settle(ncclResult_t result, const std::string& what) {
        if (result == ncclSuccess) return;
        const Collective inside(cat("NCCL: ", what, " of \"", options_.name, "\"").c_str());
        const Clock::time_point begin = Clock::now();
        while (result == ncclInProgress) {
            if (seconds_since(begin) > options_.timeout_s) {
                failed_ = true;
                throw DeviceError(cat("NCCL has not finished ", what, " of \"", options_.name,
                                      "\" within ", human_seconds(options_.timeout_s), advice));
            }
            std::this_thread::sleep_for(std::chrono::microseconds(20));
            const ncclResult_t asked = ncclCommGetAsyncError(comm_, &result);
            if (asked != ncclSuccess) fail(asked, what);
        }
        if (result != ncclSuccess) fail(result, what);
    }

    [[noreturn]] void fail(ncclResult_t result, const std::string& what) {
        failed_ = true;
        const char* detail = comm_ != nullptr ? ncclGetLastError(comm_) : nullptr;
        const std::string text = detail != nullptr ? trim(detail) : "";
        throw DeviceError(cat("NCCL failed in ", what, " of \"", options_.name,
                              "\": ", ncclGetErrorString(result), text.empty() ? "" : " (", text,
                              text.empty() ? "" : ")", advice));
    }

    ncclComm_t comm_ = nullptr;
    int rank_, size_;
    NcclOptions options_;
    bool grouped_ = false, failed_ = false;
    std::string last_ = "nothing yet";
};

// Said by rank 0 alone.
void warn_of_missing_order(const Communicator& control) {
    const bool first = Nccl::alive == 0;
    if (first || control.rank() != 0 || control.size() == 1 || version_code() >= 22600) return;
    log::warn(
        cat("NCCL ", library_version(),
            " does not order the kernels of two communicators — gradients and batch-norm sums "
            "of two ranks may wait for each other until the watchdog ends the job — use NCCL "
            "2.26 or later, or train.sync_bn = \"none\""));
}

// "host device", or "!" and what is wrong.
std::string device_identity() {
    int device = 0;
    std::array<char, 32> bus{};
    cudaError_t status = cudaGetDevice(&device);
    if (status == cudaSuccess)
        status = cudaDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()), device);
    if (status != cudaSuccess) return cat("!", log::host(), ": ", cudaGetErrorString(status));
    return cat(log::host(), " device ", bus.data());
}

// All ranks see the same list, so all throw or none.
void require_own_devices(Communicator& control) {
    const auto devices = control.all_gather(device_identity(), "the ranks' devices");
    for (std::size_t rank = 0; rank < devices.size(); ++rank) {
        if (devices[rank].front() == '!') {
            throw DeviceError(cat("rank ", rank, " has no device (", devices[rank].substr(1),
                                  ") — NCCL sums device memory — use --device cpu, or a GPU for "
                                  "every rank"));
        }
        for (std::size_t other = 0; other < rank; ++other) {
            if (devices[rank] != devices[other]) continue;
            throw DeviceError(cat("ranks ", other, " and ", rank, " share ", devices[rank],
                                  " — NCCL wants a GPU for every rank — start fewer ranks a host, "
                                  "show each its own GPU, or use --comm mpi"));
        }
    }
}

ncclUniqueId exchange_id(Communicator& control) {
    struct {
        ncclUniqueId id;
        int result;
    } message{};
    if (control.rank() == 0) message.result = ncclGetUniqueId(&message.id);
    control.broadcast(&message, sizeof(message), 0, "NCCL's id");
    if (message.result != ncclSuccess) {
        throw DeviceError(cat("NCCL failed in the choice of an id: ",
                              ncclGetErrorString(static_cast<ncclResult_t>(message.result)),
                              advice));
    }
    return message.id;
}

}  // namespace

std::unique_ptr<DeviceCommunicator> make_nccl(Communicator& control, const NcclOptions& options) {
    set_variables(options.deterministic);
    warn_of_missing_order(control);
    const ncclUniqueId id = exchange_id(control);
    require_own_devices(control);
    return std::make_unique<Nccl>(id, control.rank(), control.size(), options);
}

bool nccl_built() { return true; }

std::string nccl_status() { return cat("nccl: ", library_version()); }

}  // namespace deeplab::comm
