#pragma once
// What the stand-in has counted, and what it has to complain about: things that a GPU might let
// pass, or answer with wrong numbers, and that nobody would see. A test in which a complaint is
// left fails (tests/cuda/complaints.cpp).

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace deeplab::shim {

struct Counts {
    std::int64_t device_allocations = 0, pinned_allocations = 0;
    std::int64_t frees_while_busy = 0;  // of device memory, which CUDA may answer by waiting
    std::int64_t launches = 0;          // of kernels, outside captures
    std::int64_t captures = 0, graph_launches = 0;
    std::int64_t graph_nanoseconds = 0;   // of the last launch, on the device's clock
    std::int64_t pageable_copies = 0;     // from or to memory of the host that is not pinned
    std::map<int, std::int64_t> work_at;  // done, by the priority of the stream
};
Counts& counts();

void complain(std::string text);  // once for all that say the same; also on stderr
std::vector<std::string> take_complaints();

}  // namespace deeplab::shim
