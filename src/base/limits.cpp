#include "deeplab/base/limits.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <utility>
#include <vector>

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

std::string file_limit() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return "";
    return cat(" (a process may have ", limit.rlim_cur, " files open at once: ulimit -n)");
}

bool can_open(int files) {
    std::vector<int> opened;
    while (std::cmp_less(opened.size(), files)) {
        const int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (file < 0) break;
        opened.push_back(file);
    }
    for (const int file : opened) close(file);
    return std::cmp_equal(opened.size(), files);
}

}  // namespace deeplab
