// Device memory summed on the host.
#include <bit>
#include <cstring>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/device_communicator.h"

namespace deeplab::comm {
namespace {

float from_bf16(std::uint16_t value) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16);
}

// To nearest, ties to even; a NaN stays one.
std::uint16_t to_bf16(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if (value != value) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
    return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

class Staged final : public DeviceCommunicator {
public:
    Staged(Communicator& host, std::unique_ptr<Staging> staging)
        : host_(host), staging_(std::move(staging)) {}

    int rank() const override { return host_.rank(); }
    int size() const override { return host_.size(); }
    std::string description() const override {
        return cat("through host memory, ", host_.description());
    }

    void all_reduce(void* data, std::size_t count, DType type, DeviceStream stream,
                    const char* what) override {
        expects(type == DType::f32 || type == DType::f64 || type == DType::bf16,
                "device memory of f32, f64 or bf16 is summed");
        last_ = what;
        if (count == 0) return;
        const std::size_t bytes = count * size_of(type);
        void* memory = staging_->reserve(bytes);
        staging_->to_host(memory, data, bytes, stream);
        if (type == DType::bf16) {
            sum_bf16(memory, count, what);
        } else {
            host_.all_reduce(memory, count, type, ReduceOp::sum, what);
        }
        staging_->to_device(data, memory, bytes, stream);
    }

    void group_start() override {}
    void group_end() override {}
    bool capturable() const override { return false; }
    void check() override {}
    void abort(std::span<DeviceCommunicator* const> others) noexcept override { abort_all(others); }
    std::string last_collective() const override { return last_; }

private:
    void sum_bf16(void* memory, std::size_t count, const char* what) {
        auto* bytes = static_cast<unsigned char*>(memory);
        wide_.resize(count);
        for (std::size_t i = 0; i < count; ++i) {
            std::uint16_t value = 0;
            std::memcpy(&value, bytes + 2 * i, sizeof value);
            wide_[i] = from_bf16(value);
        }
        host_.all_reduce(wide_.data(), count, DType::f32, ReduceOp::sum, what);
        for (std::size_t i = 0; i < count; ++i) {
            const std::uint16_t value = to_bf16(wide_[i]);
            std::memcpy(bytes + 2 * i, &value, sizeof value);
        }
    }

    Communicator& host_;
    std::unique_ptr<Staging> staging_;
    std::vector<float> wide_;
    std::string last_ = "nothing yet";
};

}  // namespace

std::unique_ptr<DeviceCommunicator> make_staged(Communicator& host,
                                                std::unique_ptr<Staging> staging) {
    return std::make_unique<Staged>(host, std::move(staging));
}

}  // namespace deeplab::comm
