// In cuDNN's place where the executor runs on the host: the same classes, plain loops over the same
// layouts. Sums in f64, one rounding to the output's type. Memory that was last written as another
// type than it is read as is complained about.

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "convolution.h"
#include "deeplab/base/text.h"

namespace deeplab::cuda {
namespace {

// What a "device" remembers of a plan: the problem stands where an engine would.
std::map<std::int64_t, ConvolutionProblem>& problems() {
    static std::map<std::int64_t, ConvolutionProblem> all;
    return all;
}

float read(const void* data, DType type, std::int64_t i) {
    return type == DType::f32 ? static_cast<const float*>(data)[i]
                              : __bfloat162float(static_cast<const __nv_bfloat16*>(data)[i]);
}
void write(void* data, DType type, std::int64_t i, double value) {
    if (type == DType::f32)
        static_cast<float*>(data)[i] = static_cast<float>(value);
    else
        static_cast<__nv_bfloat16*>(data)[i] = __float2bfloat16_rn(static_cast<float>(value));
}

// Offsets into x, w and y of every product of the convolution.
using Visit = std::function<void(std::int64_t x, std::int64_t w, std::int64_t y)>;
void products(const ConvolutionProblem& p, const Visit& visit) {
    const graph::ConvGeometry& g = p.geometry;
    const std::int64_t per_group = p.w.c, outputs = p.w.n / g.groups;
    for (std::int64_t n = 0; n < p.y.n; ++n)
        for (std::int64_t oh = 0; oh < p.y.h; ++oh)
            for (std::int64_t ow = 0; ow < p.y.w; ++ow)
                for (std::int64_t r = 0; r < p.w.h; ++r)
                    for (std::int64_t s = 0; s < p.w.w; ++s) {
                        const std::int64_t h = oh * g.stride - g.pad + r * g.dilation,
                                           w = ow * g.stride - g.pad + s * g.dilation;
                        if (h < 0 || h >= p.x.h || w < 0 || w >= p.x.w) continue;
                        for (std::int64_t k = 0; k < p.w.n; ++k)
                            for (std::int64_t c = 0; c < per_group; ++c)
                                visit(((n * p.x.h + h) * p.x.w + w) * p.x_pitch +
                                          k / outputs * per_group + c,
                                      ((k * p.w.h + r) * p.w.w + s) * per_group + c,
                                      ((n * p.y.h + oh) * p.y.w + ow) * p.y_pitch + k);
                    }
}

// Calls at(offset, channel) for every element of a tensor of rows `pitch` apart.
template <class At>
void elements(const Shape& shape, std::int64_t pitch, const At& at) {
    for (std::int64_t pixel = 0; pixel < shape.n * shape.h * shape.w; ++pixel)
        for (std::int64_t c = 0; c < shape.c; ++c) at(pixel * pitch + c, c);
}

// A tensor of a convolution in memory.
struct Operand {
    const char* name;
    void* data;
    DType type;
    std::int64_t rows, values, pitch;  // values of a row
};

shim::Type shim_type(DType type) { return type == DType::f32 ? shim::Type::f32 : shim::Type::bf16; }

void check_read(const ConvolutionProblem& p, const Operand& o) {
    const std::int64_t size = static_cast<std::int64_t>(size_of(o.type));
    for (std::int64_t row = 0; row < o.rows; ++row) {
        if (shim::holds(static_cast<const char*>(o.data) + row * o.pitch * size,
                        static_cast<std::size_t>(o.values * size), shim_type(o.type)))
            continue;
        shim::complain(cat("the ", o.name, " of convolution ", to_string(p.w), " is read as ",
                           name(o.type), ", but was last written as another type"));
        return;
    }
}
void note_written(const Operand& o) {
    const std::int64_t size = static_cast<std::int64_t>(size_of(o.type));
    for (std::int64_t row = 0; row < o.rows; ++row)
        shim::note_written(static_cast<const char*>(o.data) + row * o.pitch * size,
                           static_cast<std::size_t>(o.values * size), shim_type(o.type));
}

void compute(const ConvolutionProblem& p, const ConvolutionPointers& at);

// As compute(), of memory whose types are known.
void compute_typed(const ConvolutionProblem& p, const ConvolutionPointers& at) {
    const auto pixels = [](const Shape& s) { return s.n * s.h * s.w; };
    const Operand x{"input",     at.x,  p.pass == Pass::data ? p.out : p.in,
                    pixels(p.x), p.x.c, p.x_pitch},
        w{"weights", at.w,           p.pass == Pass::weights ? p.out : p.in,
          1,         p.w.elements(), p.w.elements()},
        y{"output", at.y, p.pass == Pass::forward ? p.out : p.in, pixels(p.y), p.y.c, p.y_pitch};
    const Operand& written = p.pass == Pass::forward ? y : (p.pass == Pass::data ? x : w);
    for (const Operand* read : {&x, &w, &y})
        if (read != &written) check_read(p, *read);
    if (p.bias) check_read(p, {"bias", at.bias, p.in, 1, p.w.n, p.w.n});
    compute(p, at);
    note_written(written);
}

void compute(const ConvolutionProblem& p, const ConvolutionPointers& at) {
    const auto size = [](const Shape& shape, std::int64_t pitch) {
        return static_cast<std::size_t>(shape.n * shape.h * shape.w * pitch);
    };
    std::vector<double> sums;
    const auto sum = [&](std::int64_t i) -> double& { return sums[static_cast<std::size_t>(i)]; };
    switch (p.pass) {
        case Pass::forward:
            sums.resize(size(p.y, p.y_pitch));
            products(p, [&](std::int64_t x, std::int64_t w, std::int64_t y) {
                sum(y) += static_cast<double>(read(at.x, p.in, x)) *
                          static_cast<double>(read(at.w, p.in, w));
            });
            elements(p.y, p.y_pitch, [&](std::int64_t i, std::int64_t k) {
                const float bias = p.bias ? read(at.bias, p.in, k) : 0.0f;
                write(at.y, p.out, i, sum(i) + static_cast<double>(bias));
            });
            break;
        case Pass::data:
            sums.resize(size(p.x, p.x_pitch));
            products(p, [&](std::int64_t x, std::int64_t w, std::int64_t y) {
                sum(x) += static_cast<double>(read(at.y, p.in, y)) *
                          static_cast<double>(read(at.w, p.in, w));
            });
            elements(p.x, p.x_pitch,
                     [&](std::int64_t i, std::int64_t) { write(at.x, p.out, i, sum(i)); });
            break;
        case Pass::weights:
            sums.resize(static_cast<std::size_t>(p.w.elements()));
            products(p, [&](std::int64_t x, std::int64_t w, std::int64_t y) {
                sum(w) += static_cast<double>(read(at.x, p.in, x)) *
                          static_cast<double>(read(at.y, p.in, y));
            });
            for (std::int64_t i = 0; i < p.w.elements(); ++i) write(at.w, p.out, i, sum(i));
            break;
    }
}

}  // namespace

Descriptor::Descriptor(cudnnBackendDescriptorType_t) {}
Descriptor::~Descriptor() = default;
CudnnHandle::CudnnHandle(cudaStream_t stream) : stream_(stream) {}
CudnnHandle::~CudnnHandle() = default;
Target::Target(const CudnnHandle&) : device_("host") {}

Convolution::Convolution(const ConvolutionProblem& problem, const CudnnHandle&, const Target&,
                         ChoiceCache&, const TuningOptions&)
    : plan_{{static_cast<std::int64_t>(problems().size()), {}, 0},
            Descriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR),
            512} {
    problems().emplace(plan_.choice.engine, problem);
}

// Enqueued like any launch: a captured one runs when its graph does.
void execute(const CudnnHandle& handle, const EnginePlan& plan,
             const ConvolutionPointers& pointers) {
    shim::Uses uses;
    shim::use_words(uses, pointers);
    shim::enqueue(
        handle.stream(),
        [p = problems().at(plan.choice.engine), pointers, workspace = plan.workspace] {
            if (workspace > 0) {  // it is scratch
                std::memset(pointers.workspace, 0x5a, 512);
                shim::note_written(pointers.workspace, 512, shim::Type::other);
            }
            compute_typed(p, pointers);
        },
        std::move(uses));
}

}  // namespace deeplab::cuda
