#include "convolution.h"

#include <array>
#include <utility>

#include "convolution_timing.h"
#include "deeplab/base/error.h"
#include "deeplab/base/text.h"

namespace deeplab::cuda {

void execute(const CudnnHandle& handle, const EnginePlan& plan, const ConvolutionPointers& p) {
    constexpr std::array uids = {
        static_cast<std::int64_t>(TensorUid::x), static_cast<std::int64_t>(TensorUid::w),
        static_cast<std::int64_t>(TensorUid::y), static_cast<std::int64_t>(TensorUid::bias)};
    const std::array<void*, uids.size()> pointers = {p.x, p.w, p.y, p.bias};
    const std::int64_t count = p.bias != nullptr ? 4 : 3;
    Descriptor pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    pack.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, uids.data());
    pack.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, pointers.data());
    pack.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &p.workspace);
    pack.finalize();
    check(cudnnBackendExecute(handle.get(), plan.descriptor.get(), pack.get()), "a convolution");
}

std::string engine_key(const Target& target) {
    return cat("cudnn ", cudnnGetVersion(), " | ", target.device());
}

CudnnEngines::CudnnEngines(const ConvolutionProblem& problem, const Target& target,
                           const CudnnHandle* handle)
    : graph_(problem, target), handle_(handle) {}

CudnnEngines::~CudnnEngines() = default;

EnginePlan& CudnnEngines::taken() {
    expects(taken_.has_value(), "an engine plan has been taken");
    return *taken_;
}

std::string CudnnEngines::key() const {
    return cat(engine_key(graph_.target()), " | ", cuda::key(graph_.problem()));
}

std::vector<Candidate> CudnnEngines::candidates(bool thorough) {
    std::vector<Candidate> all;
    for (EngineConfig& config : graph_.configs(thorough))
        all.push_back({config.choice, config.runtime_compiled(), config.notes()});
    return all;
}

std::optional<std::int64_t> CudnnEngines::build(const Choice& choice) {
    built_.reset();  // the old one first: it may hold device memory
    built_ = graph_.engine_plan(choice);
    if (!built_) return std::nullopt;
    return built_->workspace;
}

void CudnnEngines::take() {
    expects(built_.has_value(), "an engine plan has been built");
    taken_ = std::exchange(built_, std::nullopt);
}

void CudnnEngines::prepare() {
    expects(handle_ != nullptr, "engine plans for a device that is described are not run");
    runner_ = std::make_unique<PlanRunner>(graph_.problem(), *handle_);
}

void CudnnEngines::run() { runner_->run(*built_); }

double CudnnEngines::time() { return runner_->time(*built_); }

void CudnnEngines::recover() {
    cudaGetLastError();
    if (handle_ != nullptr) check(cudaStreamSynchronize(handle_->stream()), "work on the device");
}

Convolution::Convolution(const ConvolutionProblem& problem, const CudnnHandle& handle,
                         const Target& target, EngineChoices& choices)
    : plan_([&] {
          CudnnEngines engines(problem, target, &handle);
          choices.choose(engines);
          return std::move(engines.taken());
      }()) {}

}  // namespace deeplab::cuda
