#include "deeplab/cuda/cuda_backend.h"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "executable.h"

namespace deeplab::cuda {
namespace {

const CudaOptions& made_current(const CudaOptions& options) {
    check(cudaSetDevice(options.device), "the device");
    return options;
}

// What is not known before a step and an evaluation have run: code that libraries load, batches on
// their way, the activations of an evaluation that do not fit where the step's lie, and what trying
// engines for it takes: a workspace of up to 1 GiB beside the convolution's tensors.
constexpr std::size_t later_memory = std::size_t{2} << 30;

std::size_t floats(std::int64_t count) { return static_cast<std::size_t>(count) * sizeof(float); }

class CudaBackend final : public exec::Backend {
public:
    explicit CudaBackend(const CudaOptions& options) : model_(std::make_shared<Model>(options)) {}

    std::string description() const override {
        return cat("CUDA device ", model_->options.device, ": ", model_->target.device(),
                   ", cuDNN ", cudnnGetVersion());
    }

    std::string identity() const override {
        std::array<char, 32> bus{};
        check(
            cudaDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()), model_->options.device),
            "the device's place");
        return cat(log::host(), " ", bus.data());
    }

    bool on_host() const override { return false; }

    exec::EngineCounts engines() const override { return model_->engines.counts(); }

    bool takes_decoded_samples() const override { return true; }

    void keep_samples(std::span<const std::int64_t> pixels) override {
        KeptSamples& kept = model_->kept;
        expects(kept.places.empty(), "samples are kept once");
        std::vector<std::int64_t> places = {0};
        for (const std::int64_t p : pixels) places.push_back(places.back() + sample_bytes(p));
        check(cudaSetDevice(model_->options.device), "the device");
        std::size_t free = 0, total = 0;
        check(cudaMemGetInfo(&free, &total), "the device's free memory");
        const auto needed = static_cast<std::size_t>(places.back());
        if (needed + later_memory > free) {
            throw DeviceError(cat(
                "the ", pixels.size(), " samples need ", human_bytes(needed), " of CUDA device ",
                model_->options.device, "'s memory, and ", human_bytes(later_memory),
                " more are left to evaluation and the libraries; ", human_bytes(free), " of ",
                human_bytes(total),
                " are free beside the network — data.cache = \"device\" keeps all images and masks "
                "of the training split there — use data.cache = \"host\" or \"none\", or a smaller "
                "batch"));
        }
        kept.memory = DeviceBuffer(needed, "the samples that stay on the device");
        kept.present.assign(pixels.size(), false);
        kept.places = std::move(places);
    }

    void allocate(const graph::Plan& plan) override {
        expects(!allocated_, "a backend's state is allocated once");
        Model& m = *model_;
        m.parameter_count = plan.parameter_count;
        m.state_count = plan.state_count;
        const std::pair<DeviceBuffer*, const char*> buffers[] = {
            {&m.values, "parameters"}, {&m.gradients, "gradients"}, {&m.momenta, "momentum"}};
        for (const auto& [buffer, what] : buffers)
            *buffer = DeviceBuffer(floats(plan.parameter_count), what);
        m.states = DeviceBuffer(floats(plan.state_count), "running statistics");
        for (const DeviceBuffer* buffer : {&m.values, &m.gradients, &m.momenta, &m.states})
            check(cudaMemsetAsync(buffer->data(), 0, buffer->bytes(), m.stream.get()),
                  "parameters");
        std::int64_t largest = 0;
        for (const auto& p : plan.parameters) largest = std::max(largest, p.shape.elements());
        for (const auto& state : plan.states) largest = std::max(largest, state.shape.elements());
        m.transfers.reserve(floats(largest));
        parameter_hash_ = graph::parameter_hash(plan);
        allocated_ = true;
    }

    void upload(const graph::Parameter& p, exec::Slot slot, std::span<const float> data) override {
        model_->transfers.send(data, view(buffer(slot), p.offset, p.shape));
        if (slot == exec::Slot::value) model_->bf16_stale = true;
    }
    std::vector<float> download(const graph::Parameter& p, exec::Slot slot) override {
        return model_->transfers.fetch(view(buffer(slot), p.offset, p.shape));
    }
    void upload(const graph::State& s, std::span<const float> data) override {
        model_->transfers.send(data, view(model_->states, s.offset, s.shape));
    }
    std::vector<float> download(const graph::State& s) override {
        return model_->transfers.fetch(view(model_->states, s.offset, s.shape));
    }

    std::unique_ptr<exec::Executable> compile(const graph::Plan& plan,
                                              const exec::Communicators& communicators,
                                              const exec::CompileOptions& options) override {
        expects(allocated_, "allocate() comes before compile()");
        expects(graph::parameter_hash(plan) == parameter_hash_,
                "all plans of a backend have the parameters it allocated");
        check(cudaSetDevice(model_->options.device), "the device");
        return std::make_unique<CudaExecutable>(model_, plan, communicators, options);
    }

private:
    const DeviceBuffer& buffer(exec::Slot slot) const {
        switch (slot) {
            case exec::Slot::value: return model_->values;
            case exec::Slot::gradient: return model_->gradients;
            case exec::Slot::momentum: return model_->momenta;
        }
        throw LogicError("unknown slot");
    }

    // The tensor as a kernel sees it: K R S C/groups, where the host has K C/groups R S.
    View view(const DeviceBuffer& buffer, std::int64_t offset, const Shape& shape) const {
        expects(allocated_ && offset >= 0 && floats(offset + shape.elements()) <= buffer.bytes(),
                "a parameter or state lies in the allocated buffers");
        check(cudaSetDevice(model_->options.device), "the device");
        return {shape, shape.c, DType::f32, buffer.as<float>() + offset};
    }

    std::shared_ptr<Model> model_;  // executables may outlive the backend
    std::uint64_t parameter_hash_ = 0;
    bool allocated_ = false;
};

}  // namespace

Model::Model(const CudaOptions& given)
    : options(made_current(given)),
      cudnn(stream.get()),
      target(cudnn),
      engines(given, engine_key(target)),
      tickets(static_cast<std::size_t>(ticket_count) * sizeof(std::uint32_t), "tickets") {
    options.ranks = nullptr;  // may go away
    check(cudaMemsetAsync(tickets.data(), 0, tickets.bytes(), stream.get()), "tickets");
}

Model::~Model() {
    cudaStreamSynchronize(stream.get());
    cudaStreamSynchronize(copies.get());
}

Availability availability() {
    int devices = 0;
    const cudaError_t status = cudaGetDeviceCount(&devices);
    if (status == cudaSuccess && devices > 0) return {devices, ""};
    NoDevice found{.error = cudaGetErrorString(status),
                   .visible = std::getenv("CUDA_VISIBLE_DEVICES")};
    // A machine without a driver answers "insufficient driver" (35), not "no device".
    if (status == cudaErrorInsufficientDriver) {
        found.kind = NoDevice::Kind::driver;
        cudaDriverGetVersion(&found.driver);
        cudaRuntimeGetVersion(&found.runtime);
    } else if (status == cudaErrorNoDevice || status == cudaSuccess) {
        found.kind = NoDevice::Kind::none_visible;
    }
    return {0, reason_of(found)};
}

std::unique_ptr<exec::Backend> make_cuda_backend(const CudaOptions& options) {
    const Availability found = availability();
    if (found.devices == 0) throw DeviceError(found.reason);
    if (options.device < 0 || options.device >= found.devices) {
        throw DeviceError(
            cat("CUDA device ", options.device, " of ", found.devices,
                " visible ones — nothing can run there — check CUDA_VISIBLE_DEVICES"));
    }
    return std::make_unique<CudaBackend>(options);
}

std::int64_t device_bytes_in_use() {
    std::size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "the device's free memory");
    return static_cast<std::int64_t>(total - free);
}

}  // namespace deeplab::cuda
