#pragma once
// A convolution pass as a cuDNN operation graph, the engines that can do it, and their engine
// plans.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "choice_cache.h"
#include "convolution_problem.h"
#include "descriptor.h"

namespace deeplab::cuda {

// Names of an operation graph's tensors in a variant pack.
enum class TensorUid : std::int64_t { x = 1, w = 2, y = 3, bias = 4, sums = 5 };

// What cuDNN's heuristics propose.
struct EngineConfig {
    Choice choice;
    std::vector<cudnnBackendNumericalNote_t> numerics;
    std::vector<cudnnBackendBehaviorNote_t> behaviour;

    bool runtime_compiled() const;  // seconds to make an engine plan of it
    std::string notes() const;      // "tensor-core nondeterministic"
};

struct EnginePlan {
    Choice choice;
    Descriptor descriptor;
    std::int64_t workspace = 0;  // bytes
};

class ConvolutionGraph {
public:
    // The target outlives the operation graph. DeviceError where cuDNN does not take the problem at
    // all.
    ConvolutionGraph(const ConvolutionProblem& problem, const Target& target);

    const ConvolutionProblem& problem() const { return problem_; }
    const Target& target() const { return *target_; }

    // The configurations that the problem's precision and determinism allow, best first by cuDNN's
    // heuristics. thorough: also asks the slower heuristics (mode B), in turns with the fast ones.
    std::vector<EngineConfig> configs(bool thorough) const;

    // Nothing where this cuDNN does not know the engine or cannot do it after all; DeviceError
    // where it fails otherwise: engines that are compiled at run time have many ways to.
    std::optional<EnginePlan> engine_plan(const Choice& choice) const;

private:
    std::vector<EngineConfig> ask(cudnnBackendHeurMode_t mode) const;
    bool allowed(const EngineConfig& config) const;

    ConvolutionProblem problem_;
    const Target* target_;
    Descriptor graph_;
};

}  // namespace deeplab::cuda
