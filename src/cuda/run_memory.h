#pragma once
// Device memory that the runs of a backend's plans use one after another.

#include <algorithm>
#include <cstdint>

#include "runtime.h"

namespace deeplab::cuda {

// A captured step of several ranks must not be captured again by one of them alone (NCCL wants the
// same of all), so what it holds does not move because that rank evaluates a larger image. Plans
// with sums over ranks, which all ranks compile at the same time, have a block of their own, which
// grows for such plans alone. Other plans use it too where they fit, else a second block, which is
// as large as the largest of them and costs that much.
class RunMemory {
public:
    struct Block {
        DeviceBuffer memory;
        std::int64_t moved = 0;  // times
    };
    // What a plan's launches were made with; no longer valid once the block has moved: then the
    // plan takes a place and makes its launches anew before its next run.
    class Place {
    public:
        Place() = default;
        explicit Place(const Block& block) : block_(&block), moved_(block.moved) {}
        bool valid() const { return block_ != nullptr && block_->moved == moved_; }
        void* data() const { return block_->memory.data(); }

    private:
        const Block* block_ = nullptr;
        std::int64_t moved_ = 0;
    };

    // Of `stream`, whose work alone uses the memory.
    RunMemory(Stream& stream, const char* what) : stream_(stream), what_(what) {}

    // At least `bytes`; with_sums: for a plan with sums over ranks. DeviceError when the device has
    // no more; then the plans of the block that was to grow have lost their places.
    Place take(std::int64_t bytes, bool with_sums) {
        const auto needed = static_cast<std::size_t>(std::max<std::int64_t>(bytes, 0));
        Block& block = with_sums || needed <= with_sums_.memory.bytes() ? with_sums_ : others_;
        if (needed > block.memory.bytes()) grow(block, needed);
        return Place(block);
    }

private:
    void grow(Block& block, std::size_t bytes) {
        stream_.synchronize();
        ++block.moved;      // first: the old memory is gone, whatever comes next
        block.memory = {};  // the old one first: both may not fit
        block.memory = DeviceBuffer(bytes, what_);
    }

    Stream& stream_;
    const char* what_;
    Block with_sums_, others_;
};

}  // namespace deeplab::cuda
