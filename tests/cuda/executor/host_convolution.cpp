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
#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "host_engines.h"

namespace deeplab::testing {

namespace {

std::int64_t engine_of(const char* name) { return shim::setting("DEEPLAB_TEST_ENGINES", name, -1); }

std::function<void(const std::string&, std::int64_t)> failure_of(const char* name) {
    const std::int64_t bad = engine_of(name);
    if (bad < 0) return nullptr;
    return [bad, name](const std::string&, std::int64_t engine) {
        if (engine == bad) throw DeviceError(cat("CUDNN_STATUS_EXECUTION_FAILED (", name, ")"));
    };
}

HostLibrary as_told() {
    HostLibrary library;
    if (const std::int64_t fastest = engine_of("fastest"); fastest >= 0) {
        library.milliseconds = [fastest](const std::string&, std::int64_t engine) {
            return engine == fastest ? 1.0 : 2.0;
        };
    }
    library.fails = failure_of("unbuildable");
    library.fails_when_tried = failure_of("unrunnable");
    library.fails_in_a_step = failure_of("failing");
    return library;
}

}  // namespace

HostLibrary& host_library() {
    static HostLibrary library = as_told();
    return library;
}

}  // namespace deeplab::testing

namespace deeplab::cuda {
namespace {

struct HostPlan {
    ConvolutionProblem problem;
    std::string key;
    std::int64_t engine = 0;
};
// By descriptor.
std::map<const void*, HostPlan>& plans() {
    static std::map<const void*, HostPlan> all;
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
void products(const ConvolutionProblem& p, bool backwards, const Visit& visit) {
    const graph::ConvGeometry& g = p.geometry;
    const std::int64_t per_group = p.w.c, outputs = p.w.n / g.groups;
    const auto turned = [&](std::int64_t i, std::int64_t count) {
        return backwards ? count - 1 - i : i;
    };
    for (std::int64_t n_ = 0; n_ < p.y.n; ++n_)
        for (std::int64_t oh_ = 0; oh_ < p.y.h; ++oh_)
            for (std::int64_t ow = 0; ow < p.y.w; ++ow)
                for (std::int64_t r_ = 0; r_ < p.w.h; ++r_)
                    for (std::int64_t s = 0; s < p.w.w; ++s) {
                        const std::int64_t n = turned(n_, p.y.n), oh = turned(oh_, p.y.h),
                                           r = turned(r_, p.w.h);
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

template <class Sum>
void compute(const ConvolutionProblem& p, bool backwards, const ConvolutionPointers& at);

// Of memory whose types are known. Engine 0 sums in f64, 1 in f32, 2 in f32 from the other end:
// each has bits of its own.
void compute_typed(const HostPlan& plan, const ConvolutionPointers& at) {
    const ConvolutionProblem& p = plan.problem;
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
    if (plan.engine == 0)
        compute<double>(p, false, at);
    else
        compute<float>(p, plan.engine == 2, at);
    note_written(written);
}

template <class Sum>
void compute(const ConvolutionProblem& p, bool backwards, const ConvolutionPointers& at) {
    const auto size = [](const Shape& shape, std::int64_t pitch) {
        return static_cast<std::size_t>(shape.n * shape.h * shape.w * pitch);
    };
    std::vector<Sum> sums;
    const auto sum = [&](std::int64_t i) -> Sum& { return sums[static_cast<std::size_t>(i)]; };
    switch (p.pass) {
        case Pass::forward:
            sums.resize(size(p.y, p.y_pitch));
            products(p, backwards, [&](std::int64_t x, std::int64_t w, std::int64_t y) {
                sum(y) += static_cast<Sum>(read(at.x, p.in, x)) *
                          static_cast<Sum>(read(at.w, p.in, w));
            });
            elements(p.y, p.y_pitch, [&](std::int64_t i, std::int64_t k) {
                const float bias = p.bias ? read(at.bias, p.in, k) : 0.0f;
                write(at.y, p.out, i, static_cast<double>(sum(i) + static_cast<Sum>(bias)));
            });
            break;
        case Pass::data:
            sums.resize(size(p.x, p.x_pitch));
            products(p, backwards, [&](std::int64_t x, std::int64_t w, std::int64_t y) {
                sum(x) += static_cast<Sum>(read(at.y, p.in, y)) *
                          static_cast<Sum>(read(at.w, p.in, w));
            });
            elements(p.x, p.x_pitch, [&](std::int64_t i, std::int64_t) {
                write(at.x, p.out, i, static_cast<double>(sum(i)));
            });
            break;
        case Pass::weights:
            sums.resize(static_cast<std::size_t>(p.w.elements()));
            products(p, backwards, [&](std::int64_t x, std::int64_t w, std::int64_t y) {
                sum(w) += static_cast<Sum>(read(at.x, p.in, x)) *
                          static_cast<Sum>(read(at.y, p.in, y));
            });
            for (std::int64_t i = 0; i < p.w.elements(); ++i)
                write(at.w, p.out, i, static_cast<double>(sum(i)));
            break;
    }
}

constexpr std::int64_t engine_count = 3;
constexpr std::int64_t nanoseconds_of_a_convolution = 100'000;  // on the device's clock

class HostEngines final : public Engines {
public:
    HostEngines(const ConvolutionProblem& problem, const Target& target)
        : problem_(problem), key_(cat(engine_key(target), " | ", cuda::key(problem))) {}

    EnginePlan& taken() { return *taken_; }

    std::string key() const override { return key_; }
    std::vector<Candidate> candidates(bool) override {
        std::vector<Candidate> all;
        for (std::int64_t engine = 0; engine < engine_count; ++engine)
            all.push_back({{engine, {}, 0}, false, ""});
        return all;
    }
    std::optional<std::int64_t> build(const Choice& choice) override {
        if (choice.engine < 0 || choice.engine >= engine_count) return std::nullopt;
        testing::HostLibrary& library = testing::host_library();
        if (library.fails) library.fails(key_, choice.engine);
        built_.emplace(choice, Descriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR), library.workspace);
        plans()[built_->descriptor.get()] = {problem_, key_, choice.engine};
        return built_->workspace;
    }
    void take() override {
        testing::host_library().chosen[key_] = built_->choice.engine;
        taken_ = std::exchange(built_, std::nullopt);
    }
    void prepare() override {}
    void run() override {
        const auto& fails = testing::host_library().fails_when_tried;
        if (fails) fails(key_, built_->choice.engine);
    }
    double time() override {
        ++testing::host_library().timed;
        run();
        const auto& milliseconds = testing::host_library().milliseconds;
        return milliseconds ? milliseconds(key_, built_->choice.engine) : 1.0;
    }
    void recover() override {}

private:
    ConvolutionProblem problem_;
    std::string key_;
    std::optional<EnginePlan> built_, taken_;
};

}  // namespace

Descriptor::Descriptor(cudnnBackendDescriptorType_t) {
    static std::uintptr_t count = 0;
    handle_ = reinterpret_cast<cudnnBackendDescriptor_t>(++count);
}
Descriptor::~Descriptor() { plans().erase(handle_); }
CudnnHandle::CudnnHandle(cudaStream_t stream) : stream_(stream) {}
CudnnHandle::~CudnnHandle() = default;
Target::Target(const CudnnHandle&) : device_(testing::host_library().device) {}

std::string engine_key(const Target& target) { return cat("host | ", target.device()); }

Convolution::Convolution(const ConvolutionProblem& problem, const CudnnHandle&,
                         const Target& target, EngineChoices& choices)
    : plan_([&] {
          HostEngines engines(problem, target);
          choices.choose(engines);
          return std::move(engines.taken());
      }()) {}

// Enqueued like any launch: a captured one runs when its graph does.
void execute(const CudnnHandle& handle, const EnginePlan& plan,
             const ConvolutionPointers& pointers) {
    const HostPlan& host = plans().at(plan.descriptor.get());
    if (const auto& fails = testing::host_library().fails_in_a_step; fails)
        fails(host.key, host.engine);
    if (!shim::capturing && shim::device_failed())
        throw DeviceError("CUDNN_STATUS_EXECUTION_FAILED in a convolution");
    shim::Uses uses;
    shim::use_words(uses, pointers);
    shim::Stream::Item item;
    item.work = [plan = host, pointers, workspace = plan.workspace] {
        if (workspace > 0) {  // it is scratch
            const auto bytes = static_cast<std::size_t>(workspace);
            std::memset(pointers.workspace, 0x5a, bytes);
            shim::note_written(pointers.workspace, bytes, shim::Type::other);
        }
        compute_typed(plan, pointers);
    };
    item.uses = std::move(uses);
    item.takes = nanoseconds_of_a_convolution;
    shim::enqueue(handle.stream(), std::move(item));
}

}  // namespace deeplab::cuda
