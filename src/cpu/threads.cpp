#include "threads.h"

#include <sched.h>

#include <algorithm>
#include <latch>
#include <system_error>
#include <thread>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/base/limits.h"
#include "deeplab/base/text.h"

#if defined(__SSE2__)
#include <pmmintrin.h>
#endif

namespace deeplab::cpu {
namespace {

int processors() {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return std::max(1, omp_get_num_procs());
    return std::max(1, CPU_COUNT(&set));
}

// Random weights push activations into denormals, which are computed twenty times slower.
void flush_denormals() {
#if defined(__SSE2__)
    _MM_SET_FLUSH_ZERO_MODE(_MM_FLUSH_ZERO_ON);
    _MM_SET_DENORMALS_ZERO_MODE(_MM_DENORMALS_ZERO_ON);
#elif defined(__aarch64__)
    std::uint64_t fpcr;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(fpcr));
    __asm__ __volatile__("msr fpcr, %0" : : "r"(fpcr | (std::uint64_t{1} << 24)));
#endif
}

// OpenMP ends the process when it cannot have its threads: tried here, where that can be said.
void require(int count) {
    std::latch all_here(1);
    std::vector<std::thread> threads;
    bool had = true;
    try {
        for (int i = 1; i < count; ++i) threads.emplace_back([&] { all_here.wait(); });
    } catch (const std::system_error&) {
        had = false;
    }
    all_here.count_down();
    for (auto& thread : threads) thread.join();
    if (had) return;
    throw DeviceError(cat("the system gives this rank ", threads.size() + 1, " of ", count,
                          " threads", memory_limit(),
                          " — the network cannot be computed as asked — use fewer --threads, or "
                          "raise the limits of processes (ulimit -u) and of memory (ulimit -v)"));
}

}  // namespace

// OpenMP's threads come before the memory of plans, and stay.
Threads::Threads(int count) : count_(count > 0 ? count : processors()) {
    require(count_);
    prepare();
}

void Threads::prepare() const {
    omp_set_dynamic(0);
    omp_set_num_threads(count_);
    flush_denormals();
    split(count_, [](int, std::int64_t, std::int64_t) { flush_denormals(); });
}

}  // namespace deeplab::cpu
