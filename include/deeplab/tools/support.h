#pragma once
// What every program does before its work: choose a device, count threads, listen for a stop
// signal.

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "deeplab/comm/communicator.h"
#include "deeplab/exec/backend.h"

namespace deeplab::tools {

// The values of --device.
enum class Device { automatic, cpu, cuda };
Device parse_device(const std::string& text);  // "auto" | "cpu" | "cuda"; UsageError otherwise

// Whether a program with this --device would run on a GPU of this host, as far as is known before
// it makes its backend.
bool may_use_gpu(Device device);

// Threads of this rank: `requested`, or (0) the processors of its affinity mask divided by the
// ranks of the host whose masks share them. Collective over `world`. Warns when a launcher bound
// the ranks to fewer processors than it has.
int thread_count(comm::Communicator& world, std::int64_t requested);

struct BackendChoice {
    Device device = Device::automatic;
    int threads = 1;                // on the CPU
    bool tf32 = false;              // train.precision
    std::string comm = "auto";      // --comm: how gradients and batch-norm sums travel
    std::string engines = "timed";  // --engines, of convolutions on a GPU: "timed" | "first"
};

// The one way to make a backend, for programs and benchmarks (tests have harness/device.h; a rule
// refuses others). With several devices on a host, one per local rank; through host memory
// (--comm mpi) ranks may share one. UsageError or DeviceError says what is missing and how to get
// it. Convolutions' engines are timed where a plan is compiled to be tuned, kept in
// cuda::default_choice_cache(), and the same on all ranks of equal devices: that too is collective
// over `world`.
std::unique_ptr<exec::Backend> make_backend(const BackendChoice& choice, comm::Communicator& world);

// Set once SIGTERM, SIGUSR1, SIGINT or (unless the program was started to ignore it, by nohup say)
// SIGHUP has arrived; the first call installs the handlers. More of them change nothing, but a
// second SIGINT ends the process at once.
const std::atomic<bool>& stop_requested();

// Set when Open MPI's launcher has begun to end the ranks, as it does on Ctrl-C: it sends SIGCONT,
// a second later SIGTERM and after another SIGKILL. SIGCONT alone may mean nothing.
const std::atomic<bool>& last_call();

}  // namespace deeplab::tools
