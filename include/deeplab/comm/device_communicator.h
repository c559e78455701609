#pragma once
// Sums of device memory over a group of ranks, enqueued on streams: what gradients and batch-norm
// sums travel by. Everything else (ids, metrics, agreement) goes through a Communicator.
//
// Errors: DeviceError naming the collective. A communicator that has failed stays as it is, and
// what waits for its stream waits for ever. Whoever owns it and the graphs that captured its
// all-reduces ends it in this order:
//   1. the message is written: nothing after it is sure to return;
//   2. the executable graphs are destroyed (those under way go when they end): NCCL waits in an
//      abort until no graph holds its operations;
//   3. abort_all() of all communicators of the device: they leave it, and graphs under way end;
//   4. only now its streams are waited for.
// A job of several ranks stops after 1: end_job_on_error (communicator.h).

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "deeplab/base/types.h"
#include "deeplab/comm/communicator.h"

namespace deeplab::comm {

using DeviceStream = void*;  // a cudaStream_t: this folder's headers know no CUDA

class DeviceCommunicator {
public:
    // Collective, unless an exception unwinds or the communicator has failed: then it aborts, if
    // abort() has not. After the graphs that captured its all-reduces.
    virtual ~DeviceCommunicator() = default;

    virtual int rank() const = 0;
    virtual int size() const = 0;
    virtual std::string description() const = 0;  // "NCCL 2.28.9, 8 ranks"

    // data[i] = sum over ranks of data[i], in place; f32, f64 or bf16 in device memory. Collective:
    // the same calls in the same order on all ranks. Enqueued on `stream`, which orders it against
    // what else uses `data`.
    virtual void all_reduce(void* data, std::size_t count, DType type, DeviceStream stream,
                            const char* what) = 0;

    // The all-reduces between them leave together, in one launch; no other communicator's calls lie
    // between them.
    virtual void group_start() = 0;
    virtual void group_end() = 0;

    // Whether a stream may be captured into a graph while all_reduce enqueues on it.
    virtual bool capturable() const = 0;

    // Throws when a started collective has failed, on this rank or (where that can be known)
    // another. Never blocks; not collective.
    virtual void check() = 0;
    // Ends what is under way on this rank's device, together with `others` of its kind (abort_all);
    // only the destructors may follow. Not collective.
    virtual void abort(std::span<DeviceCommunicator* const> others) noexcept = 0;
    virtual std::string last_collective() const = 0;  // what was enqueued last, for messages
};

// All communicators of a device at once: one that is aborted alone may wait for the other's work.
void abort_all(std::span<DeviceCommunicator* const> communicators) noexcept;

// Waits until done() is true (say, an event has passed), while it watches the communicators: inside
// a collective (activity.h), so that a watchdog names those who do not come to it. When one fails,
// or `timeout_s` have passed (0: no limit), DeviceError says why and names the last collectives.
// Aborts nothing.
void wait_until(const std::function<bool()>& done,
                std::span<DeviceCommunicator* const> communicators, double timeout_s);

struct NcclOptions {
    std::string name;  // what it sums: "gradients"; for messages
    // Thread blocks (so: multiprocessors) that a collective takes from the computation; 0: NCCL's
    // choice.
    int max_ctas = 0;
    double timeout_s = 600;  // of set-up, enqueuing and shut-down
    // Only algorithms whose sums have a fixed order, unless the user set NCCL_ALGO.
    bool deterministic = true;
};

// NCCL between the devices that are current on the callers' threads. Collective over `control`,
// which is used during this call only. DeviceError on all ranks when one has no device, or shares
// it with another rank. Sets variables that NCCL reads (nccl.cpp), where the user did not.
std::unique_ptr<DeviceCommunicator> make_nccl(Communicator& control, const NcclOptions& options);

// Host memory and copies, by someone who knows the device.
class Staging {
public:
    virtual ~Staging() = default;
    // At least `bytes`; the memory of earlier calls is gone.
    virtual void* reserve(std::size_t bytes) = 0;
    // In stream order; both return when the copy is complete.
    virtual void to_host(void* host, const void* device, std::size_t bytes,
                         DeviceStream stream) = 0;
    virtual void to_device(void* device, const void* host, std::size_t bytes,
                           DeviceStream stream) = 0;
};

// Copies to the host, sums there by `host` (which outlives it), copies back; each all_reduce waits.
// Slow, but several ranks may share a device. bf16 is summed in f32 and rounded once.
std::unique_ptr<DeviceCommunicator> make_staged(Communicator& host,
                                                std::unique_ptr<Staging> staging);

}  // namespace deeplab::comm
