#include "deeplab/base/limits.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include "deeplab/base/text.h"

namespace deeplab {

std::string memory_limit() {
    rlimit limit{};
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return "";
    return cat(" (the address space of a process is limited to ", human_bytes(limit.rlim_cur),
               ": ulimit -v)");
}

bool can_map(std::int64_t bytes, bool executable) {
    const auto size = static_cast<std::size_t>(bytes);
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return false;
    const bool good = !executable || mprotect(memory, size, PROT_READ | PROT_EXEC) == 0;
    munmap(memory, size);
    return good;
}

}  // namespace deeplab
