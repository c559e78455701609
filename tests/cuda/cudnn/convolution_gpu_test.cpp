// Convolutions as cuDNN runs them, against the double loops of tests/reference; needs a GPU.
#include <gtest/gtest.h>

#include "convolution.h"
#include "convolution_cases.h"
#include "device_tensor.h"
#include "harness/compare.h"
#include "reference/ops.h"

namespace deeplab::cuda {
namespace {

using reference::Tensor;
using testing::DeviceTensor;
using testing::random;
using testing::Values;

// Relative error of a pass in the Euclidean norm.
double error(const testing::PitchedCase& c, Pass pass, Precision precision) {
    const ConvolutionProblem p = testing::problem_of(c, pass, precision, true);
    const Tensor x = random(p.x, p.in, 1), w = random(p.w, p.in, 2), dy = random(p.y, p.in, 3);
    const Tensor b = random({1, p.y.c, 1, 1}, p.in, 4);
    const graph::ConvGeometry& g = p.geometry;
    Values expected;
    if (pass == Pass::forward) {
        expected = reference::conv2d(x, w, p.bias ? b.data : Values{}, g).data;
    } else if (pass == Pass::data) {
        expected = reference::conv2d_grad_data(dy, w, p.x, g).data;
    } else {
        expected = reference::conv2d_grad_weights(x, dy, p.w, g).data;
    }
    const auto input = [&](Pass writer, const Values& values) {
        return pass == writer ? Values{} : values;
    };
    const DeviceTensor dx(p.x, p.x_pitch, p.in, input(Pass::data, x.data));
    const DeviceTensor dw(p.w, p.w.c, p.in, input(Pass::weights, w.data));
    const DeviceTensor y(p.y, p.y_pitch, p.in, input(Pass::forward, dy.data));
    const DeviceTensor bias({1, p.y.c, 1, 1}, p.y.c, p.in, b.data);

    Stream stream;
    const CudnnHandle handle(stream.get());
    const Target target(handle);
    CudaOptions options;
    options.engines = EnginePolicy::first;
    EngineChoices choices(options, engine_key(target));
    const Convolution convolution(p, handle, target, choices);
    const DeviceBuffer workspace(static_cast<std::size_t>(convolution.workspace_bytes()), "a test");
    convolution.run(
        handle, {dx.data(), dw.data(), y.data(), p.bias ? bias.data() : nullptr, workspace.data()});
    stream.synchronize();
    const DeviceTensor& written = pass == Pass::forward ? y : pass == Pass::data ? dx : dw;
    return testing::relative_error(written.download(), expected);
}

// Limits: fp32 as on the CPU (2e-6) with room for Winograd; tf32 and bf16 have 10 and 7 bits behind
// the point: inputs (tf32) or the result (bf16) are rounded to half a unit of that.
TEST(GpuConvolution, EveryShapeAgreesWithTheReference) {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0)
        GTEST_SKIP() << "skipped: no GPU";
    for (const testing::PitchedCase& c : testing::pitched_cases()) {
        for (const Pass pass : {Pass::forward, Pass::data, Pass::weights}) {
            SCOPED_TRACE(cat(c.what, ", ", name(pass)));
            EXPECT_LT(error(c, pass, Precision::fp32), 1e-5);
            EXPECT_LT(error(c, pass, Precision::tf32), 1e-3);
            EXPECT_LT(error(c, pass, Precision::bf16), 4e-3);
        }
    }
}

}  // namespace
}  // namespace deeplab::cuda
