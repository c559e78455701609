#include "convolution_timing.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "deeplab/math/philox.h"

namespace deeplab::cuda {
namespace {

constexpr int repetitions = 5, most_runs = 20;
constexpr double shortest_launch = 0.5;  // ms of runs between two events
constexpr double hopeless = 3;           // times the fastest so far: one run is enough
constexpr double launch = 0.05;          // ms; upper bound of what starting one run takes

// Bit patterns of f32 or bf16 in +-[1, 2): power draw and so clocks depend on the bits, and zeros
// would flatter.
std::vector<std::uint32_t> make_words(DType type) {
    std::vector<std::uint32_t> words(std::size_t{1} << 18);
    for (std::size_t i = 0; i < words.size(); ++i) {
        const std::uint32_t bits = math::philox(1, {{static_cast<std::uint32_t>(i), 0, 0, 0}}).v[0];
        words[i] = type == DType::f32 ? (bits & 0x807fffffu) | 0x3f800000u
                                      : (bits & 0x807f807fu) | 0x3f803f80u;
    }
    return words;
}

const std::vector<std::uint32_t>& random_words(DType type) {
    static const std::vector<std::uint32_t> f32 = make_words(DType::f32),
                                            bf16 = make_words(DType::bf16);
    return type == DType::f32 ? f32 : bf16;
}

// A device tensor of random values: a block of them, doubled until it is full.
DeviceBuffer random_tensor(DType type, std::int64_t elements, cudaStream_t stream) {
    const std::size_t bytes = static_cast<std::size_t>(elements) * size_of(type);
    DeviceBuffer buffer(bytes, "the tensors of a convolution to be tried");
    const std::vector<std::uint32_t>& words = random_words(type);
    auto* data = static_cast<std::byte*>(buffer.data());
    std::size_t done = std::min(bytes, words.size() * sizeof(words[0]));
    check(cudaMemcpyAsync(data, words.data(), done, cudaMemcpyHostToDevice, stream),
          "random tensors");
    while (done < bytes) {
        const std::size_t next = std::min(done, bytes - done);
        check(cudaMemcpyAsync(data + done, data, next, cudaMemcpyDeviceToDevice, stream),
              "random tensors");
        done += next;
    }
    check(cudaStreamSynchronize(stream), "random tensors");
    return buffer;
}

// Several runs of an engine plan, captured on a stream and launched as one.
class CapturedRuns {
public:
    CapturedRuns(cudaStream_t stream, int runs, const std::function<void()>& run) {
        check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
        cudaGraph_t graph = nullptr;
        try {
            for (int i = 0; i < runs; ++i) run();
        } catch (...) {
            cudaStreamEndCapture(stream, &graph);
            cudaGraphDestroy(graph);
            cudaGetLastError();
            throw;
        }
        check(cudaStreamEndCapture(stream, &graph), "capture");
        const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
        cudaGraphDestroy(graph);
        check(status, "capture");
    }
    ~CapturedRuns() { cudaGraphExecDestroy(executable_); }
    CapturedRuns(const CapturedRuns&) = delete;
    CapturedRuns& operator=(const CapturedRuns&) = delete;

    void start(cudaStream_t stream) { check(cudaGraphLaunch(executable_, stream), "a CUDA graph"); }

private:
    cudaGraphExec_t executable_ = nullptr;
};

}  // namespace

PlanRunner::PlanRunner(const ConvolutionProblem& p, const CudnnHandle& handle) : handle_(handle) {
    const auto type = [&](Pass writer) { return p.pass == writer ? p.out : p.in; };
    const cudaStream_t stream = handle_.stream();
    const std::int64_t x_pixels = p.x.n * p.x.h * p.x.w, y_pixels = p.y.n * p.y.h * p.y.w;
    x_ = random_tensor(type(Pass::data), x_pixels * p.x_pitch, stream);
    w_ = random_tensor(type(Pass::weights), p.w.elements(), stream);
    y_ = random_tensor(type(Pass::forward), y_pixels * p.y_pitch, stream);
    if (p.bias) bias_ = random_tensor(p.in, p.y.c, stream);
}

void PlanRunner::reserve(std::int64_t workspace) {
    if (static_cast<std::int64_t>(workspace_.bytes()) >= workspace) return;
    workspace_ = DeviceBuffer();  // the old one first: both may not fit
    workspace_ = DeviceBuffer(static_cast<std::size_t>(workspace),
                              "the workspace of a convolution to be tried");
}

void PlanRunner::enqueue(const EnginePlan& plan) {
    execute(handle_, plan, {x_.data(), w_.data(), y_.data(), bias_.data(), workspace_.data()});
}

void PlanRunner::run(const EnginePlan& plan) {
    reserve(plan.workspace);
    enqueue(plan);
    check(cudaStreamSynchronize(handle_.stream()), "a convolution");
}

double PlanRunner::time(const EnginePlan& plan) {
    reserve(plan.workspace);
    const double milliseconds = measure(plan);
    fastest_ = std::min(fastest_, milliseconds);
    return milliseconds;
}

double PlanRunner::measure(const EnginePlan& plan) {
    const cudaStream_t stream = handle_.stream();
    const auto once = [&] { enqueue(plan); };
    once();  // loads the kernels
    const double first = timed(once);
    if (first > hopeless * fastest_ + launch) return first;
    const int runs = std::clamp(static_cast<int>(shortest_launch / first), 1, most_runs);
    CapturedRuns captured(stream, runs, once);
    captured.start(stream);
    std::vector<double> times;
    for (int i = 0; i < repetitions; ++i)
        times.push_back(timed([&] { captured.start(stream); }) / runs);
    std::nth_element(times.begin(), times.begin() + repetitions / 2, times.end());
    return times[repetitions / 2];
}

template <class Work>
double PlanRunner::timed(const Work& work) {
    begin_.record(handle_.stream());
    work();
    end_.record(handle_.stream());
    check(cudaEventSynchronize(end_.get()), "a timed convolution");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin_.get(), end_.get()), "a timed convolution");
    return std::max(static_cast<double>(milliseconds), 1e-3);
}

}  // namespace deeplab::cuda
