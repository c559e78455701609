#include "convolution.h"

#include <array>
#include <cmath>
#include <limits>

#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"

namespace deeplab::cuda {
namespace {

EnginePlan search(const ConvolutionGraph& graph, const TuningOptions& options,
                  const PlanTimer& time) {
    std::optional<EnginePlan> best;
    std::int64_t smallest_refused = std::numeric_limits<std::int64_t>::max();
    int tried = 0;
    for (const EngineConfig& config : graph.configs(time != nullptr)) {
        if (config.runtime_compiled() && !options.runtime_compiled) continue;
        std::optional<EnginePlan> plan = graph.plan(config.choice);
        if (!plan) continue;
        if (plan->workspace > options.workspace_limit) {
            smallest_refused = std::min(smallest_refused, plan->workspace);
            continue;
        }
        if (!time) return std::move(*plan);
        plan->choice.milliseconds = time(*plan);
        const bool works = std::isfinite(plan->choice.milliseconds);
        if (works && (!best || plan->choice.milliseconds < best->choice.milliseconds))
            best = std::move(plan);
        if (++tried >= options.candidates && best) break;
    }
    if (best) return std::move(*best);
    const bool small = smallest_refused < std::numeric_limits<std::int64_t>::max();
    throw DeviceError(cat(
        "cuDNN has no engine on ", graph.target().device(), " for ", key(graph.problem()),
        small ? cat(" within ", human_bytes(static_cast<std::uint64_t>(options.workspace_limit)),
                    " of workspace (", human_bytes(static_cast<std::uint64_t>(smallest_refused)),
                    " would do)")
              : std::string(),
        " — the network cannot run there — use another precision, a smaller batch or a newer "
        "cuDNN"));
}

}  // namespace

std::string cache_key(const ConvolutionGraph& graph, const TuningOptions& options) {
    return cat("cudnn ", cudnnGetVersion(), " | ", graph.target().device(), " | ",
               key(graph.problem()), " | workspace ", options.workspace_limit,
               options.runtime_compiled ? " runtime" : "");
}

EnginePlan choose_plan(const ConvolutionGraph& graph, ChoiceCache& cache,
                       const TuningOptions& options, const PlanTimer& time) {
    if (time == nullptr) return search(graph, options, time);
    const std::string entry = cache_key(graph, options);
    if (const std::optional<Choice> known = cache.find(entry)) {
        try {
            std::optional<EnginePlan> plan = graph.plan(*known);
            if (plan && plan->workspace <= options.workspace_limit) return std::move(*plan);
        } catch (const DeviceError&) {
            // Knobs that the engine does not have; the warning below tells.
        }
        log::warn(cat("the cached engine ", known->engine, " cannot do ", key(graph.problem()),
                      " — engines are timed anew"));
        cache.erase(entry);
    }
    EnginePlan plan = search(graph, options, time);
    cache.insert(entry, plan.choice);
    return plan;
}

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

Convolution::Convolution(const ConvolutionProblem& problem, const CudnnHandle& handle,
                         const Target& target, ChoiceCache& cache, const TuningOptions& options)
    : plan_(choose_plan(ConvolutionGraph(problem, target), cache, options,
                        device_timer(problem, handle))) {}

}  // namespace deeplab::cuda
