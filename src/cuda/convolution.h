#pragma once
// One convolution pass, ready to be enqueued: the engine is chosen once, when a plan is compiled.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "convolution_graph.h"
#include "engine_choices.h"

namespace deeplab::cuda {

// Device memory, 16-byte aligned. The tensor that the pass writes is overwritten whole, but for the
// gaps of its pitch. Passes that may run at the same time have distinct workspaces.
struct ConvolutionPointers {
    void *x = nullptr, *w = nullptr, *y = nullptr;
    void* bias = nullptr;  // where the problem has one
    void* workspace = nullptr;
};
void execute(const CudnnHandle& handle, const EnginePlan& plan, const ConvolutionPointers& p);

class PlanRunner;

// What library and device are, as keys of choices begin: "cudnn 91900 | NVIDIA H200, …".
std::string engine_key(const Target& target);

// cuDNN's engines for a problem.
class CudnnEngines final : public Engines {
public:
    // The target outlives the engines, as the handle does. Without a handle engine plans can be
    // built alone. DeviceError where cuDNN does not take the problem at all.
    CudnnEngines(const ConvolutionProblem& problem, const Target& target,
                 const CudnnHandle* handle);
    ~CudnnEngines() override;

    const ConvolutionGraph& graph() const { return graph_; }
    EnginePlan& taken();  // there is one

    std::string key() const override;
    std::vector<Candidate> candidates(bool thorough) override;
    std::optional<std::int64_t> build(const Choice& choice) override;
    void take() override;
    void prepare() override;
    void run() override;
    double time() override;
    void recover() override;

private:
    ConvolutionGraph graph_;
    const CudnnHandle* handle_;
    std::optional<EnginePlan> built_, taken_;
    std::unique_ptr<PlanRunner> runner_;
};

class Convolution {
public:
    // Allocates while engines are tried, and waits for the handle's stream then.
    Convolution(const ConvolutionProblem& problem, const CudnnHandle& handle, const Target& target,
                EngineChoices& choices);

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

}  // namespace deeplab::cuda
