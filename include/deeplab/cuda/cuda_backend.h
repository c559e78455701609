#pragma once
// Runs plans on one NVIDIA GPU: cuDNN convolutions, own kernels for the rest, the step as one CUDA
// graph. Activations in the plan's type: f32, or bf16 with f32 weights, statistics and gradients of
// weights ("Numbers" in graph/plan.h).

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "deeplab/comm/communicator.h"
#include "deeplab/exec/backend.h"

namespace deeplab::cuda {

struct Availability {
    int devices = 0;  // usable devices
    // Where there is none, an error's text: not built, no driver, none visible, and what to do.
    std::string reason;
};

Availability availability();

// The device of a rank: the one that is visible, else its local rank (its place among the ranks of
// its node). DeviceError naming host, rank and devices where that leaves it without one. That no
// two ranks of one visible device each share it is for make_nccl to see.
int choose_device(int local_rank, int local_size, int visible_devices);

// Whether all ranks run on a GPU: those that see one would wait for the others for ever. The same
// on all ranks, or the same DeviceError naming hosts on all: some see a GPU and some do not, or
// (`required`) none does. Collective.
bool all_have_devices(comm::Communicator& world, const Availability& own, bool required);

// Whether sums over ranks on GPUs travel by NCCL; `comm`: "auto", "nccl" or "mpi". Rank 0 warns
// where "auto" has to do without.
bool sums_by_nccl(const comm::Communicator& world, const std::string& comm);

// Why there is none, as CUDA says it.
struct NoDevice {
    enum class Kind { driver, none_visible, other };
    Kind kind = Kind::other;
    std::string error = "";         // of an `other` one
    int driver = 0, runtime = 0;    // 12020: CUDA 12.2; driver 0: none answers
    const char* visible = nullptr;  // $CUDA_VISIBLE_DEVICES
};
std::string reason_of(const NoDevice& found);  // an Availability's

// Where the engines of the convolutions come from.
enum class EnginePolicy : std::uint8_t {
    // Of plans that are compiled to be tuned (CompileOptions::tune): the fastest, found by timing
    // once. Of other plans: what is known from there, else the first that runs.
    timed,
    first,  // the first that runs: the same each time; nothing is timed, no file is looked at
};

struct CudaOptions {
    int device = 0;     // of the visible ones
    bool tf32 = false;  // convolutions of f32 activations may round their inputs to tf32
    bool nccl = false;  // sums over ranks travel by NCCL; else through host memory
    EnginePolicy engines = EnginePolicy::timed;
    // Engines found by timing: kept there, and taken from there. Empty: none.
    std::filesystem::path choices;
    // What was tried for each convolution that was timed is appended there, as a table with tabs.
    // Empty: none.
    std::filesystem::path tuning_log;
    // Ranks of equal devices take the engines of the first of them, who alone times, reads
    // `choices` and writes; so making the backend and compiling a plan to be tuned are collective
    // over these. Null: this process decides for itself. It need not outlive the call.
    comm::Communicator* ranks = nullptr;
};

// The phases of comm/activity.h become NVTX ranges of the domain "deeplab", with the step as
// payload: Nsight Systems shows them above the kernels. Without a profiler a range costs
// nanoseconds.
void show_phases();

// Memory of the present device that is in use, whoever uses it. DeviceError without a device.
std::int64_t device_bytes_in_use();

// $DEEPLAB_TUNING_CACHE (empty: none), else deeplab-hpc/convolutions.txt in the user's cache
// folder.
std::filesystem::path default_choice_cache();
std::filesystem::path default_tuning_log();  // $DEEPLAB_TUNING_LOG; empty: none

// Throws DeviceError with availability().reason where the backend cannot run.
std::unique_ptr<exec::Backend> make_cuda_backend(const CudaOptions& options);

}  // namespace deeplab::cuda
