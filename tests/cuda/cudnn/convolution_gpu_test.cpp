// Convolutions as cuDNN runs them, against the double loops of tests/reference; needs a GPU.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "convolution.h"
#include "convolution_cases.h"
#include "harness/compare.h"
#include "reference/ops.h"
#include "runtime.h"

namespace deeplab::cuda {
namespace {

using reference::Tensor;
using Values = std::vector<double>;

// A tensor on the device: N H W C with a pitch, f32 or bf16.
class DeviceTensor {
public:
    DeviceTensor(const Shape& shape, std::int64_t pitch, DType type, const Values& values)
        : shape_(shape),
          pitch_(pitch),
          type_(type),
          bytes_(static_cast<std::size_t>(shape.n * shape.h * shape.w * pitch) * size_of(type)),
          buffer_(bytes_, "a test") {
        std::vector<std::byte> host(bytes_, std::byte{0x7f});  // what lies in the gaps: large
        if (!values.empty()) {
            each([&](std::size_t from, std::size_t to) {
                if (type_ == DType::f32) {
                    const auto value = static_cast<float>(values[from]);
                    std::memcpy(&host[4 * to], &value, 4);
                } else {
                    const std::uint16_t value = to_bf16(static_cast<float>(values[from]));
                    std::memcpy(&host[2 * to], &value, 2);
                }
            });
        }
        check(cudaMemcpy(buffer_.data(), host.data(), bytes_, cudaMemcpyHostToDevice), "a test");
        check(cudaDeviceSynchronize(), "a test");  // before another stream reads it
    }

    void* data() const { return buffer_.data(); }

    Values download() const {
        std::vector<std::byte> host(bytes_);
        check(cudaMemcpy(host.data(), buffer_.data(), bytes_, cudaMemcpyDeviceToHost), "a test");
        Values values(static_cast<std::size_t>(shape_.elements()));
        each([&](std::size_t to, std::size_t from) {
            if (type_ == DType::f32) {
                float value = 0;
                std::memcpy(&value, &host[4 * from], 4);
                values[to] = static_cast<double>(value);
            } else {
                std::uint16_t value = 0;
                std::memcpy(&value, &host[2 * from], 2);
                values[to] = static_cast<double>(
                    std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16));
            }
        });
        return values;
    }

    static std::uint16_t to_bf16(float value) {
        const auto bits = std::bit_cast<std::uint32_t>(value);
        return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
    }

private:
    // use(index in N C H W order, index in device order)
    template <class Use>
    void each(const Use& use) const {
        std::size_t index = 0;
        for (std::int64_t n = 0; n < shape_.n; ++n) {
            for (std::int64_t c = 0; c < shape_.c; ++c) {
                for (std::int64_t h = 0; h < shape_.h; ++h) {
                    for (std::int64_t w = 0; w < shape_.w; ++w, ++index) {
                        use(index, static_cast<std::size_t>(
                                       ((n * shape_.h + h) * shape_.w + w) * pitch_ + c));
                    }
                }
            }
        }
    }

    Shape shape_;
    std::int64_t pitch_;
    DType type_;
    std::size_t bytes_;
    DeviceBuffer buffer_;
};

// What the device reads: values that the type has, so that only sums differ from the reference.
Tensor random(const Shape& shape, DType type, std::uint64_t seed) {
    Tensor t = reference::random_tensor(shape, seed);
    if (type == DType::f32) return t;
    for (double& value : t.data) {
        value = static_cast<double>(std::bit_cast<float>(
            static_cast<std::uint32_t>(DeviceTensor::to_bf16(static_cast<float>(value))) << 16));
    }
    return t;
}

// Relative error of a pass in the Euclidean norm.
double error(const testing::ConvolutionCase& c, Pass pass, Precision precision) {
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
    for (const testing::ConvolutionCase& c : testing::convolution_cases()) {
        for (const Pass pass : {Pass::forward, Pass::data, Pass::weights}) {
            SCOPED_TRACE(cat(c.name, ", ", name(pass)));
            EXPECT_LT(error(c, pass, Precision::fp32), 1e-5);
            EXPECT_LT(error(c, pass, Precision::tf32), 1e-3);
            EXPECT_LT(error(c, pass, Precision::bf16), 4e-3);
        }
    }
}

}  // namespace
}  // namespace deeplab::cuda
