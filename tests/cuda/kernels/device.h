#pragma once
// Tensors on the "device" of tests/cuda/shim, and what the references say about them.

#include <cuda_bf16.h>

#include <cstring>
#include <ostream>
#include <vector>

#include "deeplab/math/bf16.h"
#include "harness/compare.h"
#include "ops/tiny_plan.h"
#include "reference/ops.h"
#include "reference/tolerances.h"
#include "runtime.h"
#include "scratch.h"
#include "view.h"

namespace deeplab::testing {

using cuda::View;

constexpr cudaStream_t no_stream = nullptr;

// What reading T memory makes of these values.
inline double round_to(DType type, double value) {
    const auto f = static_cast<float>(value);
    return static_cast<double>(type == DType::bf16 ? math::round_to_bf16(f) : f);
}
inline reference::Tensor rounded(DType type, reference::Tensor t) {
    for (double& v : t.data) v = round_to(type, v);
    return t;
}
inline reference::Tensor random_in(DType type, const Shape& shape, std::uint64_t seed) {
    return rounded(type, reference::random_tensor(shape, seed));
}
// Of kernels' results to references that are rounded likewise.
inline double limit(DType type) {
    return type == DType::bf16 ? reference::bf16_flips : reference::fp32_op;
}

// Values of any type in memory of exactly their size.
template <class T>
class DeviceArray {
public:
    explicit DeviceArray(std::size_t count) : buffer_(count * sizeof(T), "a test"), count_(count) {}
    template <class U>
    explicit DeviceArray(const std::vector<U>& values) : DeviceArray(values.size()) {
        for (std::size_t i = 0; i < count_; ++i) data()[i] = static_cast<T>(values[i]);
    }
    T* data() const { return buffer_.as<T>(); }
    std::vector<T> values() const { return {data(), data() + count_}; }
    // (1,C,1,1)
    View view(DType type) const {
        const auto c = static_cast<std::int64_t>(count_);
        return {{1, c, 1, 1}, c, type, data()};
    }

private:
    cuda::DeviceBuffer buffer_;
    std::size_t count_;
};

// f(index in the view's memory, n, c, h, w)
template <class F>
void each_element(const View& view, const F& f) {
    const Shape& s = view.shape;
    for (std::int64_t n = 0; n < s.n; ++n) {
        for (std::int64_t c = 0; c < s.c; ++c) {
            for (std::int64_t h = 0; h < s.h; ++h) {
                for (std::int64_t w = 0; w < s.w; ++w)
                    f(((n * s.h + h) * s.w + w) * view.pitch + c, n, c, h, w);
            }
        }
    }
}

inline void store(const reference::Tensor& t, const View& view) {
    each_element(view, [&](std::int64_t at, auto... nchw) {
        const double value = t.at(nchw...);
        const auto f = static_cast<float>(value);
        switch (view.type) {
            case DType::bf16: view.as<__nv_bfloat16>()[at] = {math::to_bf16(f)}; break;
            case DType::u8: view.as<std::uint8_t>()[at] = static_cast<std::uint8_t>(value); break;
            case DType::f64: view.as<double>()[at] = value; break;
            default: view.as<float>()[at] = f;
        }
    });
}

inline reference::Tensor load(const View& view) {
    reference::Tensor t(view.shape);
    each_element(view, [&](std::int64_t at, auto... nchw) {
        double& value = t.at(nchw...);
        switch (view.type) {
            case DType::bf16:
                value = static_cast<double>(math::from_bf16(view.as<__nv_bfloat16>()[at].bits));
                break;
            case DType::u8: value = static_cast<double>(view.as<std::uint8_t>()[at]); break;
            case DType::f64: value = view.as<double>()[at]; break;
            default: value = static_cast<double>(view.as<float>()[at]);
        }
    });
    return t;
}

// N H W C in memory of exactly its size; or, with channels before or after, a slice of a wider one.
class DeviceTensor {
public:
    DeviceTensor(const Shape& shape, DType type, Margin margin)
        : margin_(margin), pitch_(margin.before + shape.c + margin.after) {
        buffer_ = {static_cast<std::size_t>(shape.n * shape.h * shape.w * pitch_) * size_of(type),
                   "a test"};
        view_ = {shape, pitch_, type,
                 buffer_.as<std::byte>() + static_cast<std::size_t>(margin.before) * size_of(type)};
    }
    DeviceTensor(const Shape& shape, DType type) : DeviceTensor(shape, type, Margin{}) {}
    DeviceTensor(const reference::Tensor& t, DType type, Margin margin)
        : DeviceTensor(t.shape, type, margin) {
        store(t, view_);
    }
    DeviceTensor(const reference::Tensor& t, DType type) : DeviceTensor(t, type, Margin{}) {}

    const View& view() const { return view_; }
    reference::Tensor values() const { return load(view_); }
    // The neighbours' channels are as they were allocated.
    bool margin_untouched() const {
        const std::size_t size = size_of(view_.type);
        const auto* bytes = buffer_.as<unsigned char>();
        for (std::size_t i = 0; i < buffer_.bytes(); ++i) {
            const auto channel = static_cast<std::int64_t>(i / size) % pitch_;
            const bool own = channel >= margin_.before && channel < margin_.before + view_.shape.c;
            if (!own && bytes[i] != 0xff) return false;
        }
        return true;
    }

private:
    Margin margin_;
    std::int64_t pitch_;
    cuda::DeviceBuffer buffer_;
    View view_;
};

// Scratch of exactly the size that a header says, and tickets, which must be zero again at the end.
class DeviceScratch {
public:
    explicit DeviceScratch(std::int64_t bytes)
        : memory_(static_cast<std::size_t>(bytes), "a test"),
          tickets_(std::vector<std::uint32_t>(static_cast<std::size_t>(cuda::ticket_count), 0)) {}
    DeviceScratch(const DeviceScratch&) = delete;
    DeviceScratch& operator=(const DeviceScratch&) = delete;
    ~DeviceScratch() {
        EXPECT_EQ(tickets_.values(),
                  std::vector<std::uint32_t>(static_cast<std::size_t>(cuda::ticket_count), 0));
    }
    cuda::Scratch get() const { return {memory_.data(), tickets_.data()}; }

private:
    cuda::DeviceBuffer memory_;
    DeviceArray<std::uint32_t> tickets_;
};

}  // namespace deeplab::testing
