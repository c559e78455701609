#pragma once
// The threads of a block as fibers of one host thread, and what they wait for.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <stdexcept>

namespace deeplab::shim {

struct Extent {
    unsigned x = 1, y = 1, z = 1;
};

// What a GPU would leave undefined: threads that wait at different barriers, or for one that has
// ended; a shuffle from a lane that does not take part.
struct Divergence : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Runs `body` for every thread of every block, blocks one after another. `place` is called before a
// thread goes on and has to set threadIdx and blockIdx. Dynamic shared memory has exactly
// `shared_bytes`, and every byte of it is 0xff when a block begins.
void run_grid(const Extent& grid, const Extent& block, std::size_t shared_bytes,
              const std::function<void(const Extent& block_index, const Extent& thread)>& place,
              const std::function<void()>& body);

// Called by the threads.
std::byte* dynamic_shared_memory();
void wait_for_block(const std::source_location& where);
// All lanes of `mask` leave their `bytes` (at most 8) and take those of lane `source`.
void exchange_in_warp(unsigned mask, void* value, std::size_t bytes, int source,
                      const std::source_location& where);
void wait_for_warp(unsigned mask, const std::source_location& where);
int lane();  // of the running thread, in its warp

}  // namespace deeplab::shim
