#pragma once
// Tensors between the host and the device, one at a time: the host's order and type there, the
// device's here. Both ways go through one pinned and one device buffer that are kept, so that a
// checkpoint's hundreds of tensors allocate nothing.

#include <cstdint>
#include <span>
#include <vector>

#include "runtime.h"
#include "view.h"

namespace deeplab::cuda {

class Transfers {
public:
    // In the order of `stream`, which is waited for by every call.
    explicit Transfers(Stream& stream) : stream_(stream) {}

    // For tensors of so many bytes on the host; larger ones make it grow.
    void reserve(std::size_t bytes);
    // f32 N C H W to a tensor of f32 or bf16.
    void send(std::span<const float> from, const View& to);
    // Any tensor as f32 N C H W. Of f64 or u8: one that has the host's order already.
    std::vector<float> fetch(const View& from);

private:
    template <class T>
    std::vector<float> fetch_as_is(const View& from);
    void copy(void* to, const void* from, std::size_t bytes, const char* what);

    Stream& stream_;
    PinnedBuffer host_;
    DeviceBuffer ordered_;  // in the host's order
};

}  // namespace deeplab::cuda
