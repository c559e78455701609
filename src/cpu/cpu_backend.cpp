#include "deeplab/cpu/cpu_backend.h"

#include <algorithm>

#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "executable.h"
#include "onednn.h"

namespace deeplab::cpu {
namespace {

class CpuBackend final : public exec::Backend {
public:
    explicit CpuBackend(int threads) : model_(std::make_shared<Model>(threads)) {}

    std::string description() const override {
        const int threads = model_->threads.count();
        return cat("CPU: ", onednn::version(), ", ", threads,
                   threads == 1 ? " thread" : " threads");
    }

    std::int64_t host_bytes() const override { return model_->bytes(); }

    void allocate(const graph::Plan& plan) override {
        expects(!allocated_, "a backend's state is allocated once");
        const std::int64_t bytes = plan.parameter_count * static_cast<std::int64_t>(sizeof(float));
        for (Buffer* buffer : {&model_->values, &model_->gradients, &model_->momenta})
            buffer->reserve(bytes);
        model_->states.reserve(plan.state_count * static_cast<std::int64_t>(sizeof(float)));
        parameter_hash_ = graph::parameter_hash(plan);
        allocated_ = true;
    }

    void upload(const graph::Parameter& p, exec::Slot slot, std::span<const float> data) override {
        copy_in(buffer(slot), p.offset, p.shape, data);
    }
    std::vector<float> download(const graph::Parameter& p, exec::Slot slot) override {
        return copy_out(buffer(slot), p.offset, p.shape);
    }
    void upload(const graph::State& s, std::span<const float> data) override {
        copy_in(model_->states, s.offset, s.shape, data);
    }
    std::vector<float> download(const graph::State& s) override {
        return copy_out(model_->states, s.offset, s.shape);
    }

    std::unique_ptr<exec::Executable> compile(const graph::Plan& plan,
                                              const exec::Communicators& communicators,
                                              const exec::CompileOptions& options) override {
        expects(allocated_, "allocate() comes before compile()");
        expects(graph::parameter_hash(plan) == parameter_hash_,
                "all plans of a backend have the parameters it allocated");
        const bool emulated = std::any_of(
            plan.tensors.begin(), plan.tensors.end(),
            [](const graph::Tensor& tensor) { return tensor.dtype == DType::bf16; });
        if (emulated && !told_) {
            log::info("bf16 is emulated on the CPU: the numbers of a GPU's bf16, slower than fp32");
        }
        told_ = told_ || emulated;
        return std::make_unique<CpuExecutable>(model_, plan, communicators, options);
    }

private:
    Buffer& buffer(exec::Slot slot) {
        switch (slot) {
            case exec::Slot::value: return model_->values;
            case exec::Slot::gradient: return model_->gradients;
            case exec::Slot::momentum: return model_->momenta;
        }
        throw LogicError("unknown slot");
    }

    float* at(const Buffer& buffer, std::int64_t offset, const Shape& shape) const {
        expects(allocated_ && offset >= 0 &&
                    (offset + shape.elements()) * static_cast<std::int64_t>(sizeof(float)) <=
                        buffer.bytes(),
                "a parameter or state lies in the allocated buffers");
        return reinterpret_cast<float*>(buffer.data()) + offset;
    }
    void copy_in(const Buffer& buffer, std::int64_t offset, const Shape& shape,
                 std::span<const float> data) const {
        expects(static_cast<std::int64_t>(data.size()) == shape.elements(),
                "an upload has its parameter's size");
        std::copy(data.begin(), data.end(), at(buffer, offset, shape));
    }
    std::vector<float> copy_out(const Buffer& buffer, std::int64_t offset,
                                const Shape& shape) const {
        const float* from = at(buffer, offset, shape);
        return {from, from + shape.elements()};
    }

    std::shared_ptr<Model> model_;  // executables may outlive the backend
    std::uint64_t parameter_hash_ = 0;
    bool allocated_ = false, told_ = false;
};

}  // namespace

std::unique_ptr<exec::Backend> make_cpu_backend(int threads) {
    expects(threads >= 0, "a number of threads is not negative");
    return std::make_unique<CpuBackend>(threads);
}

}  // namespace deeplab::cpu
