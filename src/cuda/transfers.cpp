#include "transfers.h"

#include <cstring>

#include "layout.h"

namespace deeplab::cuda {

void Transfers::reserve(std::size_t bytes) {
    if (bytes <= host_.bytes()) return;
    host_ = {}, ordered_ = {};  // the old ones first
    ordered_ = DeviceBuffer(bytes, "a tensor on its way");
    host_ = PinnedBuffer(bytes, "a tensor on its way");
}

void Transfers::copy(void* to, const void* from, std::size_t bytes, const char* what) {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_.get()), what);
}

void Transfers::send(std::span<const float> from, const View& to) {
    expects(static_cast<std::int64_t>(from.size()) == to.shape.elements(),
            "an upload has its tensor's size");
    reserve(from.size_bytes());
    std::memcpy(host_.data(), from.data(), from.size_bytes());
    copy(ordered_.data(), host_.data(), from.size_bytes(), "an upload");
    from_nchw(stream_.get(), ordered_.as<float>(), to);
    stream_.synchronize();
}

template <class T>
std::vector<float> Transfers::fetch_as_is(const View& from) {
    expects(from.pitch == from.shape.c && (from.shape.c == 1 || from.pixels() == 1),
            "a tensor of this type has the host's order");
    const auto elements = static_cast<std::size_t>(from.shape.elements());
    reserve(elements * sizeof(T));
    copy(host_.data(), from.data, elements * sizeof(T), "a download");
    stream_.synchronize();
    return {host_.as<T>(), host_.as<T>() + elements};
}

std::vector<float> Transfers::fetch(const View& from) {
    if (from.type == DType::f64) return fetch_as_is<double>(from);
    if (from.type == DType::u8) return fetch_as_is<std::uint8_t>(from);
    const auto elements = static_cast<std::size_t>(from.shape.elements());
    reserve(elements * sizeof(float));
    to_nchw(stream_.get(), from, ordered_.as<float>());
    copy(host_.data(), ordered_.data(), elements * sizeof(float), "a download");
    stream_.synchronize();
    return {host_.as<float>(), host_.as<float>() + elements};
}

}  // namespace deeplab::cuda
