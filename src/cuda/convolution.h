#pragma once
// One convolution pass, ready to be enqueued: the engine is chosen once, when a plan is compiled.

#include <cstdint>
#include <functional>

#include "choice_cache.h"
#include "convolution_graph.h"

namespace deeplab::cuda {

struct TuningOptions {
    std::int64_t workspace_limit = std::int64_t{1} << 30;  // bytes; engines that want more are out
    int candidates = 16;                                   // engine configurations that are timed
    bool runtime_compiled = true;  // engines that are compiled when their plan is made, too
};

// Milliseconds that a plan takes; infinity where it fails.
using PlanTimer = std::function<double(const EnginePlan&)>;

// A plan for the problem: the cache's choice, else the fastest of the candidates by `time`, which
// enters the cache (save() is the caller's). Where `time` is empty (no device): the first of the
// heuristics, and the cache is left alone. DeviceError where no engine can do it.
EnginePlan choose_plan(const ConvolutionGraph& graph, ChoiceCache& cache,
                       const TuningOptions& options, const PlanTimer& time);

// Key of a graph's entry in the cache: cuDNN's version, device, problem, what is allowed.
std::string cache_key(const ConvolutionGraph& graph, const TuningOptions& options);

// Device memory, 16-byte aligned. The tensor that the pass writes is overwritten whole, but for the
// gaps of its pitch. Passes that may run at the same time have distinct workspaces.
struct ConvolutionPointers {
    void *x = nullptr, *w = nullptr, *y = nullptr;
    void* bias = nullptr;  // where the problem has one
    void* workspace = nullptr;
};
void execute(const CudnnHandle& handle, const EnginePlan& plan, const ConvolutionPointers& p);

class Convolution {
public:
    // Times the candidates on the handle's device unless the cache knows better: allocates for that
    // while it lasts, and waits for the stream.
    Convolution(const ConvolutionProblem& problem, const CudnnHandle& handle, const Target& target,
                ChoiceCache& cache, const TuningOptions& options);

    const Choice& choice() const { return plan_.choice; }
    std::int64_t workspace_bytes() const { return plan_.workspace; }

    // Enqueues on the stream of a handle of the same device; nothing is allocated, nothing waited
    // for.
    void run(const CudnnHandle& handle, const ConvolutionPointers& pointers) const {
        execute(handle, plan_, pointers);
    }

private:
    EnginePlan plan_;
};

// Times plans of one problem with random data as a step runs them, in a CUDA graph; those that
// cannot be captured or fail are infinitely slow. The handle's stream is not the default one.
PlanTimer device_timer(const ConvolutionProblem& problem, const CudnnHandle& handle);

}  // namespace deeplab::cuda
