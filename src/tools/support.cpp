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

std::atomic<bool> stop_flag{false}, last_call_flag{false}, under_mpirun{false};
static_assert(std::atomic<bool>::is_always_lock_free, "signal handlers use them");

}  // namespace

Device parse_device(const std::string& text) {
    if (text == "auto") return Device::automatic;
    if (text == "cpu") return Device::cpu;
    if (text == "cuda") return Device::cuda;
    throw UsageError(
        cat("--device ", text, " is not a device — nothing could run — use auto, cpu or cuda"));
}

bool may_use_gpu(Device device) {
    return device == Device::cuda ||
           (device == Device::automatic && cuda::availability().devices > 0);
}

int thread_count(comm::Communicator& world, std::int64_t requested) {
    const auto host = world.split_by_host();
    const std::string mine = affinity(0);
    const auto masks = host->all_gather(mine, "affinity masks of the host");
    std::string used = mine;
    std::int64_t sharing = 0;
    for (const std::string& mask : masks) {
        if (processors(merged(mine, mask, true)) > 0) ++sharing;
        used = merged(used, mask, false);
    }
    // The launcher's own mask is what the job was given; the ranks may have been bound to less.
    const std::int64_t available = processors(affinity(getppid()));
    std::string bound;
    if (requested == 0 && std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr &&
        processors(used) < available && host->rank() == 0) {
        bound = cat("the launcher bound ", masks.size(), masks.size() == 1 ? " rank" : " ranks",
                    " to ", processors(used), " of ", available, " processors of ", log::host());
    }
    auto hosts = world.all_gather(bound, "binding of the ranks");
    std::erase(hosts, "");
    if (world.rank() == 0 && !hosts.empty()) {
        log::warn(
            cat(hosts.front(),
                hosts.size() > 1 ? cat(" (and so on ", hosts.size() - 1, " other hosts)") : "",
                " — the others stay idle — use mpirun --bind-to none"));
    }
    if (requested < 0)
        throw UsageError("--threads must not be negative — 0 means all of this rank's processors");
    if (requested > 0) return static_cast<int>(requested);
    return static_cast<int>(
        std::max<std::int64_t>(1, processors(mine) / std::max<std::int64_t>(1, sharing)));
}

namespace {

void check(const BackendChoice& choice, bool cuda) {
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
    const auto host = world.split_by_host();
    // Ranks with --device cpu take part, too: others may have another --device, and wait for them.
    const cuda::Availability found = choice.device == Device::cpu
                                         ? cuda::Availability{0, "--device cpu is given there"}
                                         : cuda::availability();
    const bool cuda = cuda::all_have_devices(world, found, choice.device == Device::cuda);
    check(choice, cuda);
    if (!cuda) return cpu::make_cpu_backend(choice.threads);
    cuda::CudaOptions options;
    options.device = choice.comm == "mpi"
                         ? host->rank() % found.devices
                         : cuda::choose_device(host->rank(), host->size(), found.devices);
    options.tf32 = choice.tf32;
    options.nccl = cuda::sums_by_nccl(world, choice.comm);
    if (choice.engines == "first") options.engines = cuda::EnginePolicy::first;
    options.choices = cuda::default_choice_cache();
    options.tuning_log = cuda::default_tuning_log();
    options.ranks = &world;
    cuda::show_phases();
    return cuda::make_cuda_backend(options);
}

namespace {

void install(int signal, void (*handler)(int, siginfo_t*, void*), int flags) {
    struct sigaction action = {};
    action.sa_sigaction = handler;
    action.sa_flags = SA_RESTART | SA_SIGINFO | flags;
    sigaction(signal, &action, nullptr);
}

// mpirun, or its daemon on this host, has started this process.
bool from_launcher(const siginfo_t* info) {
    return under_mpirun && info->si_code <= 0 && info->si_pid == getppid();
}

void stop(int, siginfo_t* info, void*) {
    stop_flag.store(true);
    if (from_launcher(info)) last_call_flag.store(true);
}

void go_on(int, siginfo_t* info, void*) {
    if (from_launcher(info)) last_call_flag.store(true);
}

// Somebody at the keyboard: the second time they mean it.
void interrupt(int, siginfo_t*, void*) {
    constexpr char text[] = "\nstops with a checkpoint after this step or image; again: at once\n";
    stop_flag.store(true);
    const int before = errno;
    static_cast<void>(!write(STDERR_FILENO, text, sizeof(text) - 1));
    errno = before;
}

bool ignored(int signal) {
    struct sigaction now = {};
    return sigaction(signal, nullptr, &now) == 0 && now.sa_handler == SIG_IGN;
}

// Was the program started to outlive its terminal, as by nohup? UCX, with which Open MPI 5 is
// linked, handles the signal (UCX_DEBUG_SIGNO) from its constructor on; this array comes before
// the constructors of libraries.
bool lives_on = false;
void ask_whether_it_lives_on() { lives_on = ignored(SIGHUP); }
[[gnu::section(".preinit_array"),
  gnu::used]] void (*const before_libraries)() = ask_whether_it_lives_on;

}  // namespace

const std::atomic<bool>& stop_requested() {
    static const bool installed = [] {
        under_mpirun = std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr;
        install(SIGTERM, stop, 0);
        install(SIGUSR1, stop, 0);
        if (lives_on)
            std::signal(SIGHUP, SIG_IGN);
        else
            install(SIGHUP, stop, 0);
        install(SIGCONT, go_on, 0);
        install(SIGINT, interrupt, static_cast<int>(SA_RESETHAND));
        return true;
    }();
    (void)installed;
    return stop_flag;
}

const std::atomic<bool>& last_call() {
    stop_requested();
    return last_call_flag;
}

}  // namespace deeplab::tools
