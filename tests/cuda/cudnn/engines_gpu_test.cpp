// Every engine that cuDNN proposes for a convolution of this project, run against the double loops
// of tests/reference; needs a GPU. Timing takes whichever is fastest, so all have to be right.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <deque>
#include <functional>
#include <future>
#include <iostream>
#include <map>
#include <set>
#include <thread>

#include "convolution.h"
#include "convolution_cases.h"
#include "deeplab/model/deeplab.h"
#include "device_tensor.h"
#include "harness/compare.h"
#include "reference/ops.h"

namespace deeplab::cuda {
namespace {

using reference::Tensor;
using testing::DeviceTensor;
using testing::Values;

constexpr std::int64_t most_workspace = std::int64_t{1} << 30;  // bytes, as for a step

// The same channels, kernel, stride, rate and pitches, which engines differ by, on a small map that
// is not square: taps on all sides meet it and miss it.
ConvolutionProblem reduced(ConvolutionProblem p) {
    const graph::ConvGeometry& g = p.geometry;
    const std::int64_t side = std::max({std::int64_t{7}, g.dilation + 5, 2 * p.w.h});
    const auto out = [&](std::int64_t in) {
        return reference::output_size(in, p.w.h, g.stride, g.pad, g.dilation);
    };
    p.x.n = p.y.n = g.dilation > 4 ? 1 : 2;
    p.x.h = std::min(p.x.h, side);
    p.x.w = std::min(p.x.w, side - 1);
    p.y.h = out(p.x.h);
    p.y.w = out(p.x.w);
    return p;
}

// bf16 first: a time limit may end the list early.
std::vector<ConvolutionProblem> problems() {
    std::vector<ConvolutionProblem> all;
    std::set<std::string> keys;
    const auto add = [&](const ConvolutionProblem& p) {
        if (keys.insert(key(p)).second) all.push_back(p);
    };
    for (const Precision precision : {Precision::bf16, Precision::fp32, Precision::tf32}) {
        for (const char* backbone : {"resnet101", "resnet50", "resnet18"}) {
            for (const int stride : {16, 8}) {
                model::ModelConfig config;
                config.backbone = backbone;
                config.num_classes = 21;
                config.output_stride = stride;
                const graph::Plan plan = model::training_plan(
                    config, {.batch = 2, .height = 513, .width = 513}, {});
                for (const ConvolutionProblem& p : convolution_problems(plan, precision, true))
                    add(reduced(p));
            }
        }
        for (const testing::PitchedCase& c : testing::pitched_cases()) {
            for (const Pass pass : {Pass::forward, Pass::data, Pass::weights})
                add(testing::problem_of(c, pass, precision, true));
        }
    }
    return all;
}

struct Subject {
    Tensor x, w, dy, bias;
    Values expected;
};

Subject make_subject(const ConvolutionProblem& p) {
    Subject s{testing::random(p.x, p.in, 1),
              testing::random(p.w, p.in, 2),
              testing::random(p.y, p.in, 3),
              testing::random({1, p.y.c, 1, 1}, p.in, 4),
              {}};
    const graph::ConvGeometry& g = p.geometry;
    if (p.pass == Pass::forward)
        s.expected = reference::conv2d(s.x, s.w, p.bias ? s.bias.data : Values{}, g).data;
    else if (p.pass == Pass::data)
        s.expected = reference::conv2d_grad_data(s.dy, s.w, p.x, g).data;
    else
        s.expected = reference::conv2d_grad_weights(s.x, s.dy, p.w, g).data;
    return s;
}

// Subjects of a list of problems, made ahead of their use by as many threads as there are
// processors.
class Subjects {
public:
    explicit Subjects(const std::vector<ConvolutionProblem>& problems) : problems_(problems) {}

    Subject next() {
        const std::size_t ahead = std::max(2u, std::thread::hardware_concurrency());
        while (made_.size() < ahead && begun_ < problems_.size())
            made_.push_back(std::async(std::launch::async, make_subject, problems_[begun_++]));
        Subject subject = made_.front().get();
        made_.pop_front();
        return subject;
    }

private:
    const std::vector<ConvolutionProblem>& problems_;
    std::size_t begun_ = 0;
    std::deque<std::future<Subject>> made_;
};

// As in convolution_gpu_test.cpp.
double limit(const ConvolutionProblem& p) {
    return p.in == DType::bf16 ? 4e-3 : p.tf32 ? 1e-3 : 1e-5;
}

struct Tally {
    std::int64_t checked = 0, compiled = 0, unable = 0, problems = 0;
    std::map<std::string, double> worst;  // by precision
};

class Bench {
public:
    Bench() : handle_(stream_.get()), target_(handle_) {}

    const Target& target() const { return target_; }

    // All engines of one kind for a problem: those that are there, or those that are compiled when
    // their engine plan is made (the first configuration of each).
    void check_engines(const ConvolutionProblem& p, const Subject& subject, bool compiled,
                       const std::function<bool()>& time_is_left, Tally& tally) {
        const auto input = [&](Pass writer, const Tensor& tensor) {
            return p.pass == writer ? Values{} : tensor.data;
        };
        DeviceTensor x(p.x, p.x_pitch, p.in, input(Pass::data, subject.x));
        DeviceTensor w(p.w, p.w.c, p.in, input(Pass::weights, subject.w));
        DeviceTensor y(p.y, p.y_pitch, p.in, input(Pass::forward, subject.dy));
        const DeviceTensor bias({1, p.y.c, 1, 1}, p.y.c, p.in, subject.bias.data);
        DeviceTensor& written = p.pass == Pass::forward ? y : p.pass == Pass::data ? x : w;
        const ConvolutionGraph graph(p, target_);
        std::set<std::int64_t> compiled_engines;
        for (const EngineConfig& config : graph.configs(true)) {
            if (config.runtime_compiled() != compiled || !time_is_left()) continue;
            if (compiled && !compiled_engines.insert(config.choice.engine).second) continue;
            SCOPED_TRACE(cat(key(p), ", engine ", config.choice.engine, " ", config.notes()));
            std::vector<std::byte> bytes[2];
            try {
                const std::optional<EnginePlan> plan = graph.engine_plan(config.choice);
                if (!plan || plan->workspace > most_workspace) continue;
                const DeviceBuffer workspace(static_cast<std::size_t>(plan->workspace), "a test");
                for (int run = 0; run < 2; ++run) {
                    // What an engine finds in its workspace is no part of its result.
                    check(cudaMemset(workspace.data(), run == 0 ? 0xff : 0x11, workspace.bytes()),
                          "a test");
                    written.spoil();
                    execute(handle_, *plan,
                            {x.data(), w.data(), y.data(), p.bias ? bias.data() : nullptr,
                             workspace.data()});
                    stream_.synchronize();
                    bytes[run] = written.bytes();
                }
            } catch (const DeviceError& error) {
                cudaGetLastError();
                ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess)
                    << "the device is lost: " << error.what();
                ++tally.unable;  // timing leaves it out, too
                continue;
            }
            const double e = testing::relative_error(written.values(bytes[0]), subject.expected);
            EXPECT_LT(e, limit(p));
            EXPECT_TRUE(written.gaps_are_whole(bytes[0])) << "the gaps of the pitch were written";
            EXPECT_EQ(bytes[0], bytes[1]) << "other bits in the second run";
            ++tally.checked;
            tally.compiled += compiled;
            double& worst = tally.worst[p.in == DType::bf16 ? "bf16" : p.tf32 ? "tf32" : "fp32"];
            if (!(e <= worst)) worst = e;
        }
    }

private:
    Stream stream_;
    CudnnHandle handle_;
    Target target_;
};

// DEEPLAB_TEST_SECONDS bounds it: engines that are compiled at run time, seconds each, come last.
TEST(GpuConvolution, EveryEngineAgreesWithTheReference) {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0)
        GTEST_SKIP() << "skipped: no GPU";
    const char* given = std::getenv("DEEPLAB_TEST_SECONDS");
    const std::chrono::duration<double> seconds(given != nullptr ? std::atof(given) : 600);
    const auto end = std::chrono::steady_clock::now() + seconds;
    const auto time_is_left = [&] { return std::chrono::steady_clock::now() < end; };

    const std::vector<ConvolutionProblem> all = problems();
    Bench bench;
    Tally tally;
    std::int64_t problems_compiled = 0;
    for (const bool compiled : {false, true}) {
        Subjects subjects(all);
        for (const ConvolutionProblem& p : all) {
            if (!time_is_left()) break;
            ASSERT_NO_FATAL_FAILURE(
                bench.check_engines(p, subjects.next(), compiled, time_is_left, tally));
            ++(compiled ? problems_compiled : tally.problems);
        }
    }
    std::cout << "engines checked: " << tally.checked << ", of " << tally.problems << " of "
              << all.size() << " convolutions; " << tally.compiled
              << " of them compiled at run time, of " << problems_compiled << "; " << tally.unable
              << " could not run";
    for (const auto& [precision, worst] : tally.worst)
        std::cout << "; worst error in " << precision << ' ' << worst;
    std::cout << std::endl;
    EXPECT_GT(tally.checked, 0);
}

}  // namespace
}  // namespace deeplab::cuda
