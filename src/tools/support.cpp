#include "deeplab/tools/support.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/cpu/cpu_backend.h"
#include "deeplab/cuda/cuda_backend.h"

namespace deeplab::tools {

namespace {

// One character a processor, '1' where the process may run there; all '1' when the system does not
// say.
std::string affinity(pid_t process) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(process, sizeof(set), &set) != 0) {
        return std::string(static_cast<std::size_t>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN))),
                           '1');
    }
    std::string mask(CPU_SETSIZE, '0');
    for (std::size_t i = 0; i < mask.size(); ++i) {
        if (CPU_ISSET(i, &set)) mask[i] = '1';
    }
    return mask;
}

std::int64_t processors(const std::string& mask) {
    return std::count(mask.begin(), mask.end(), '1');
}

std::string merged(const std::string& a, const std::string& b, bool both) {
    std::string mask(std::min(a.size(), b.size()), '0');
    for (std::size_t i = 0; i < mask.size(); ++i) {
        const bool in_a = a[i] == '1', in_b = b[i] == '1';
        if (both ? (in_a && in_b) : (in_a || in_b)) mask[i] = '1';
    }
    return mask;
}

std::atomic<bool> stop_flag{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler writes it");

}  // namespace

Device parse_device(const std::string& text) {
    if (text == "auto") return Device::automatic;
    if (text == "cpu") return Device::cpu;
    if (text == "cuda") return Device::cuda;
    throw UsageError(
        cat("--device ", text, " is not a device — nothing could run — use auto, cpu or cuda"));
}

int thread_count(comm::Communicator& world, std::int64_t requested) {
    const auto node = world.split_by_node();
    const std::string mine = affinity(0);
    const auto masks = node->all_gather(mine, "affinity masks of the node");
    std::string used = mine;
    std::int64_t sharing = 0;
    for (const std::string& mask : masks) {
        if (processors(merged(mine, mask, true)) > 0) ++sharing;
        used = merged(used, mask, false);
    }
    // The launcher's own mask is what the job was given; the ranks may have been bound to less.
    const std::int64_t available = processors(affinity(getppid()));
    if (requested == 0 && std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr &&
        processors(used) < available && node->rank() == 0) {
        log::warn(
            cat("the launcher bound ", masks.size(), masks.size() == 1 ? " rank" : " ranks", " to ",
                processors(used), " of ", available,
                " processors of this node — the others stay idle — use mpirun --bind-to none"));
    }
    if (requested < 0)
        throw UsageError("--threads must not be negative — 0 means all of this rank's processors");
    if (requested > 0) return static_cast<int>(requested);
    return static_cast<int>(
        std::max<std::int64_t>(1, processors(mine) / std::max<std::int64_t>(1, sharing)));
}

namespace {

void check(const BackendChoice& choice, const cuda::Availability& found) {
    const std::string& comm = choice.comm;
    if (comm != "auto" && comm != "mpi" && comm != "nccl") {
        throw UsageError(
            cat("--comm ", comm,
                " is not a communicator — gradients could not travel — use auto, mpi or nccl"));
    }
    if (choice.engines != "timed" && choice.engines != "first") {
        throw UsageError(cat("--engines ", choice.engines,
                             " is not a way to choose engines — convolutions could not run — use "
                             "timed or first"));
    }
    const bool cuda = choice.device != Device::cpu && found.devices > 0;
    if (choice.device == Device::cuda && !cuda) {
        throw DeviceError(cat("--device cuda cannot be used: ", found.reason));
    }
    if (comm == "nccl" && !cuda) {
        throw UsageError(
            "--comm nccl needs --device cuda — NCCL sums device memory only — use --comm mpi");
    }
    if (comm == "nccl" && !comm::nccl_built()) {
        throw DeviceError(cat("--comm nccl cannot be used (", comm::nccl_status(),
                              ") — gradients could not travel — use --comm mpi"));
    }
    if (choice.tf32 && !cuda) {
        throw UsageError(
            "train.precision = \"tf32\" needs --device cuda — other devices do not have these "
            "numbers — use fp32");
    }
}

}  // namespace

std::unique_ptr<exec::Backend> make_backend(const BackendChoice& choice,
                                            comm::Communicator& world) {
    const auto node = world.split_by_node();
    const cuda::Availability found = choice.device == Device::cpu ? cuda::Availability{}
                                                                  : cuda::availability();
    check(choice, found);
    if (found.devices == 0) return cpu::make_cpu_backend(choice.threads);
    cuda::CudaOptions options;
    options.device = choice.comm == "mpi"
                         ? node->rank() % found.devices
                         : cuda::choose_device(node->rank(), node->size(), found.devices);
    options.tf32 = choice.tf32;
    options.nccl = choice.comm == "nccl" ||
                   (choice.comm == "auto" && world.size() > 1 && comm::nccl_built());
    if (choice.engines == "first") options.engines = cuda::EnginePolicy::first;
    options.choices = cuda::default_choice_cache();
    options.tuning_log = cuda::default_tuning_log();
    options.ranks = &world;
    cuda::show_phases();
    return cuda::make_cuda_backend(options);
}

const std::atomic<bool>& stop_requested() {
    static const bool installed = [] {
        struct sigaction action = {};
        action.sa_handler = [](int) { stop_flag.store(true); };
        action.sa_flags = SA_RESTART;
        sigaction(SIGTERM, &action, nullptr);
        sigaction(SIGUSR1, &action, nullptr);
        // Somebody at the keyboard: the second time they mean it.
        action.sa_handler = [](int) {
            constexpr char text[] = "\nstops with a checkpoint after this step; again: at once\n";
            stop_flag.store(true);
            const int before = errno;
            static_cast<void>(!write(STDERR_FILENO, text, sizeof(text) - 1));
            errno = before;
        };
        action.sa_flags = static_cast<int>(SA_RESTART | SA_RESETHAND);
        sigaction(SIGINT, &action, nullptr);
        return true;
    }();
    (void)installed;
    return stop_flag;
}

}  // namespace deeplab::tools
