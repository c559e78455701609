#pragma once
// Tensors of a test on the device, laid out as a step has them.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "deeplab/base/types.h"
#include "reference/ops.h"
#include "runtime.h"

namespace deeplab::testing {

using Values = std::vector<double>;

// A tensor on the device: N H W C with a pitch, f32 or bf16.
class DeviceTensor {
public:
    DeviceTensor(const Shape& shape, std::int64_t pitch, DType type, const Values& values)
        : shape_(shape),
          pitch_(pitch),
          type_(type),
          bytes_(static_cast<std::size_t>(shape.n * shape.h * shape.w * pitch) * size_of(type)),
          buffer_(bytes_, "a test") {
        std::vector<std::byte> host(bytes_, gap);
        if (!values.empty()) {
            each([&](std::size_t from, std::size_t to) {
                if (type_ == DType::f32) {
                    const auto value = static_cast<float>(values[from]);
                    std::memcpy(&host[4 * to], &value, 4);
                } else {
                    const std::uint16_t value = to_bf16(static_cast<float>(values[from]));
                    std::memcpy(&host[2 * to], &value, 2);
                }
            });
        }
        cuda::check(cudaMemcpy(buffer_.data(), host.data(), bytes_, cudaMemcpyHostToDevice),
                    "a test");
        cuda::check(cudaDeviceSynchronize(), "a test");  // before another stream reads it
    }

    void* data() const { return buffer_.data(); }

    // As it lies there, gaps and all.
    std::vector<std::byte> bytes() const {
        std::vector<std::byte> host(bytes_);
        cuda::check(cudaMemcpy(host.data(), buffer_.data(), bytes_, cudaMemcpyDeviceToHost),
                    "a test");
        return host;
    }

    // Every byte, as in the gaps: what a pass does not write shows.
    void spoil() {
        cuda::check(cudaMemset(buffer_.data(), 0x7f, bytes_), "a test");
        cuda::check(cudaDeviceSynchronize(), "a test");
    }

    // Whether nothing was written into the gaps.
    bool gaps_are_whole(const std::vector<std::byte>& host) const {
        const std::size_t size = size_of(type_);
        const auto whole = static_cast<std::size_t>(pitch_) * size,
                   used = static_cast<std::size_t>(shape_.c) * size;
        for (std::size_t pixel = 0; pixel < bytes_; pixel += whole) {
            for (std::size_t i = used; i < whole; ++i)
                if (host[pixel + i] != gap) return false;
        }
        return true;
    }

    Values download() const { return values(bytes()); }

    Values values(const std::vector<std::byte>& host) const {
        Values values(static_cast<std::size_t>(shape_.elements()));
        each([&](std::size_t to, std::size_t from) {
            if (type_ == DType::f32) {
                float value = 0;
                std::memcpy(&value, &host[4 * from], 4);
                values[to] = static_cast<double>(value);
            } else {
                std::uint16_t value = 0;
                std::memcpy(&value, &host[2 * from], 2);
                values[to] = static_cast<double>(
                    std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16));
            }
        });
        return values;
    }

    static constexpr std::byte gap{0x7f};  // what lies in the gaps; as numbers, large ones

    static std::uint16_t to_bf16(float value) {
        const auto bits = std::bit_cast<std::uint32_t>(value);
        return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
    }

private:
    // use(index in N C H W order, index in device order)
    template <class Use>
    void each(const Use& use) const {
        std::size_t index = 0;
        for (std::int64_t n = 0; n < shape_.n; ++n) {
            for (std::int64_t c = 0; c < shape_.c; ++c) {
                for (std::int64_t h = 0; h < shape_.h; ++h) {
                    for (std::int64_t w = 0; w < shape_.w; ++w, ++index) {
                        use(index, static_cast<std::size_t>(
                                       ((n * shape_.h + h) * shape_.w + w) * pitch_ + c));
                    }
                }
            }
        }
    }

    Shape shape_;
    std::int64_t pitch_;
    DType type_;
    std::size_t bytes_;
    cuda::DeviceBuffer buffer_;
};

// What the device reads: values that the type has, so that only sums differ from the reference.
inline reference::Tensor random(const Shape& shape, DType type, std::uint64_t seed) {
    reference::Tensor t = reference::random_tensor(shape, seed);
    if (type == DType::f32) return t;
    for (double& value : t.data) {
        value = static_cast<double>(std::bit_cast<float>(
            static_cast<std::uint32_t>(DeviceTensor::to_bf16(static_cast<float>(value))) << 16));
    }
    return t;
}

}  // namespace deeplab::testing
