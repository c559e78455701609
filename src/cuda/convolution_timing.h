#pragma once
// Runs engine plans of one convolution on random data, to see whether they work and how long they
// take.

#include <limits>

#include "convolution.h"
#include "runtime.h"

namespace deeplab::cuda {

// Each function throws DeviceError where an engine plan fails, or memory does not suffice for it.
class PlanRunner {
public:
    // Allocates what engine plans read and write. The handle's stream is not the default one.
    PlanRunner(const ConvolutionProblem& problem, const CudnnHandle& handle);

    void run(const EnginePlan& plan);     // once, waited for
    double time(const EnginePlan& plan);  // ms, as a micro-batch runs it: in a CUDA graph

private:
    void reserve(std::int64_t workspace);
    void enqueue(const EnginePlan& plan);
    double measure(const EnginePlan& plan);
    template <class Work>
    double timed(const Work& work);

    const CudnnHandle& handle_;
    DeviceBuffer x_, w_, y_, bias_, workspace_;
    Event begin_, end_;
    double fastest_ = std::numeric_limits<double>::infinity();  // ms
};

}  // namespace deeplab::cuda
