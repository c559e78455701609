#pragma once
// Short-lived memory of a launch.

#include <cstdint>

namespace deeplab::cuda {

// Launches that may run at the same time have different ones. `data`: at least what the launch's
// ..._scratch_bytes says, 256-byte aligned, content of no meaning. `tickets`: ticket_count counters
// that are zero before a launch, and are so again after it.
struct Scratch {
    void* data = nullptr;
    std::uint32_t* tickets = nullptr;
};
constexpr std::int64_t ticket_count = 4096;

}  // namespace deeplab::cuda
