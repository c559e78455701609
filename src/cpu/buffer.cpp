#include "buffer.h"

#include <sys/mman.h>

#include <cstring>

#include "deeplab/base/error.h"
#include "deeplab/base/limits.h"
#include "deeplab/base/text.h"

namespace deeplab::cpu {

void Buffer::reserve(std::int64_t bytes) {
    if (bytes <= bytes_) return;
    const std::int64_t old = bytes_;
    release();
    void* memory = mmap(nullptr, static_cast<std::size_t>(bytes), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        throw DeviceError(cat("no memory for the CPU backend's ", what_, ": ",
                              human_bytes(static_cast<std::uint64_t>(bytes)), " wanted, ",
                              human_bytes(static_cast<std::uint64_t>(old)), " held before",
                              memory_limit(),
                              " — the plan cannot run — choose a smaller batch or "
                              "crop, or use more ranks on "
                              "more machines"));
    }
    constexpr std::int64_t huge_page = 2 << 20;
    if (bytes >= huge_page)
        madvise(memory, static_cast<std::size_t>(bytes), MADV_HUGEPAGE);  // advice: may be refused
    data_ = static_cast<std::byte*>(memory);
    bytes_ = bytes;
}

void Buffer::release() {
    if (data_ != nullptr) munmap(data_, static_cast<std::size_t>(bytes_));
    data_ = nullptr;
    bytes_ = 0;
}

void Buffer::poison(std::int64_t offset, std::int64_t bytes) {
    if (bytes > 0) std::memset(data_ + offset, 0xff, static_cast<std::size_t>(bytes));
}

}  // namespace deeplab::cpu
