#include "convolution_graph.h"

#include <algorithm>
#include <array>
#include <exception>

#include "deeplab/base/error.h"

namespace deeplab::cuda {
namespace {

constexpr std::int64_t alignment = 16;  // bytes; what vector loads of the engines want

cudnnDataType_t data_type(DType type) {
    expects(type == DType::f32 || type == DType::bf16, "convolutions are of f32 or bf16");
    return type == DType::f32 ? CUDNN_DATA_FLOAT : CUDNN_DATA_BFLOAT16;
}

// Virtual: between two operations of an operation graph, never in memory.
Descriptor tensor(TensorUid uid, DType type, const Shape& s, std::int64_t pitch,
                  bool is_virtual = false) {
    Descriptor d(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    d.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, static_cast<std::int64_t>(uid));
    d.set(CUDNN_ATTR_TENSOR_DATA_TYPE, data_type(type));
    d.set(CUDNN_ATTR_TENSOR_DIMENSIONS, {s.n, s.c, s.h, s.w});
    d.set(CUDNN_ATTR_TENSOR_STRIDES, {s.h * s.w * pitch, 1, s.w * pitch, pitch});
    d.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, alignment);
    d.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    d.finalize();
    return d;
}

Descriptor convolution(const graph::ConvGeometry& g) {
    Descriptor d(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    d.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, std::int64_t{2});
    d.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT);
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    d.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    d.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, {g.pad, g.pad});
    d.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, {g.pad, g.pad});
    d.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, {g.dilation, g.dilation});
    d.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, {g.stride, g.stride});
    d.finalize();
    return d;
}

// The attributes of the three operations differ in their names alone.
struct Names {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t x, w, y, convolution, alpha, beta;
};

Names names(Pass pass) {
    switch (pass) {
        case Pass::forward:
            return {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
        case Pass::data:
            return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
        case Pass::weights:
            return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
    }
    throw LogicError("unknown pass");
}

// y = sums + bias, rounded once.
Descriptor bias_operation(const ConvolutionProblem& p, const Descriptor& sums,
                          const Descriptor& y) {
    Descriptor addition(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    const cudnnPointwiseMode_t mode = CUDNN_POINTWISE_ADD;
    addition.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    addition.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT);
    addition.finalize();
    Descriptor operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, addition);
    operation.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, sums);
    operation.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
                  tensor(TensorUid::bias, p.in, {1, p.y.c, 1, 1}, p.y.c));
    operation.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    operation.finalize();
    return operation;
}

Descriptor build(const ConvolutionProblem& p, const Target& target) {
    expects(!p.bias || p.pass == Pass::forward, "a bias belongs to the forward pass");
    const auto type = [&](Pass writer) { return p.pass == writer ? p.out : p.in; };
    const Names n = names(p.pass);
    // Operations copy what they are given.
    const Descriptor y = tensor(TensorUid::y, type(Pass::forward), p.y, p.y_pitch);
    const Descriptor sums = tensor(TensorUid::sums, DType::f32, p.y, p.y_pitch, true);
    std::vector<Descriptor> operations;
    operations.emplace_back(n.type)
        .set(n.x, tensor(TensorUid::x, type(Pass::data), p.x, p.x_pitch))
        .set(n.w, tensor(TensorUid::w, type(Pass::weights), p.w, p.w.c))
        .set(n.y, p.bias ? sums : y)
        .set(n.convolution, convolution(p.geometry))
        .set(n.alpha, 1.0)
        .set(n.beta, 0.0)
        .finalize();
    if (p.bias) operations.push_back(bias_operation(p, sums, y));

    Descriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    std::vector<cudnnBackendDescriptor_t> handles;
    for (const Descriptor& operation : operations) handles.push_back(operation.get());
    graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
              static_cast<std::int64_t>(handles.size()), handles.data());
    target.set_handle(graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE);
    graph.finalize();
    return graph;
}

template <class Note>
bool has(const std::vector<Note>& notes, Note note) {
    return std::find(notes.begin(), notes.end(), note) != notes.end();
}

EngineConfig read_config(const Descriptor& config) {
    EngineConfig result;
    const auto engines = config.get_descriptors(CUDNN_ATTR_ENGINECFG_ENGINE,
                                                CUDNN_BACKEND_ENGINE_DESCRIPTOR, 1);
    ensures(engines.size() == 1, "a configuration has one engine");
    const Descriptor& engine = engines.front();
    result.choice.engine = engine.get_int64(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
    result.numerics = engine.get_list<cudnnBackendNumericalNote_t>(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                                                   CUDNN_TYPE_NUMERICAL_NOTE);
    result.behaviour = engine.get_list<cudnnBackendBehaviorNote_t>(CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE,
                                                                   CUDNN_TYPE_BEHAVIOR_NOTE);
    // cuDNN does not say how many there are before it has filled them.
    for (const Descriptor& knob :
         config.get_descriptors(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                                CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, CUDNN_KNOB_TYPE_COUNTS)) {
        const auto type = knob.get_list<cudnnBackendKnobType_t>(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE,
                                                                CUDNN_TYPE_KNOB_TYPE);
        ensures(type.size() == 1, "a knob has one type");
        result.choice.knobs.emplace_back(type.front(),
                                         knob.get_int64(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE));
    }
    return result;
}

// a[0], b[0], a[1], b[1], …
std::vector<EngineConfig> in_turns(const std::vector<EngineConfig>& a,
                                   const std::vector<EngineConfig>& b) {
    std::vector<EngineConfig> all;
    for (std::size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
        if (i < a.size()) all.push_back(a[i]);
        if (i < b.size()) all.push_back(b[i]);
    }
    return all;
}

}  // namespace

bool EngineConfig::runtime_compiled() const {
    return has(behaviour, CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION);
}

std::string EngineConfig::notes() const {
    // In the order of the enumerators.
    constexpr std::array numeric = {"tensor-core",  "down-converts",    "reduced-precision",
                                    "fft",          "nondeterministic", "winograd",
                                    "winograd-4x4", "winograd-6x6",     "winograd-13x13",
                                    "strict-nan"};
    static_assert(numeric.size() == CUDNN_NUMERICAL_NOTE_TYPE_COUNT);
    std::string text;
    for (const cudnnBackendNumericalNote_t note : numerics) {
        if (!text.empty()) text += ' ';
        text += note < CUDNN_NUMERICAL_NOTE_TYPE_COUNT ? numeric[note] : "unknown";
    }
    if (runtime_compiled()) text += text.empty() ? "runtime-compiled" : " runtime-compiled";
    return text;
}

ConvolutionGraph::ConvolutionGraph(const ConvolutionProblem& problem, const Target& target)
    : problem_(problem), target_(&target), graph_(build(problem, target)) {}

bool ConvolutionGraph::allowed(const EngineConfig& config) const {
    const auto& notes = config.numerics;
    // Sums are f32 and inputs keep their bits; with f32 inputs, tensor cores see tf32.
    if (has(notes, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION)) return false;
    if (has(notes, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS)) return false;
    if (problem_.in == DType::f32 && !problem_.tf32 &&
        has(notes, CUDNN_NUMERICAL_NOTE_TENSOR_CORE)) {
        return false;
    }
    return !problem_.deterministic || !has(notes, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC);
}

std::vector<EngineConfig> ConvolutionGraph::ask(cudnnBackendHeurMode_t mode) const {
    Descriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph_);
    heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    target_->set_properties(heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP);
    std::vector<EngineConfig> configs;
    if (!heuristics.finalize_if_supported()) return configs;
    const std::int64_t count = heuristics.count(CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                CUDNN_TYPE_BACKEND_DESCRIPTOR);
    for (const Descriptor& config : heuristics.get_descriptors(
             CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, count)) {
        configs.push_back(read_config(config));
    }
    return configs;
}

std::vector<EngineConfig> ConvolutionGraph::configs(bool thorough) const {
    // Heuristics that fail do not matter while others answer.
    std::exception_ptr failure;
    const auto answer = [&](cudnnBackendHeurMode_t mode) -> std::vector<EngineConfig> {
        try {
            return ask(mode);
        } catch (const DeviceError&) {
            failure = std::current_exception();
            cudaGetLastError();
            return {};
        }
    };
    std::vector<EngineConfig> proposed = answer(CUDNN_HEUR_MODE_A);
    if (thorough) proposed = in_turns(proposed, answer(CUDNN_HEUR_MODE_B));
    const std::vector<EngineConfig> fallback = answer(CUDNN_HEUR_MODE_FALLBACK);
    proposed.insert(proposed.end(), fallback.begin(), fallback.end());
    std::vector<EngineConfig> distinct;
    for (const EngineConfig& config : proposed) {
        const bool known = std::any_of(
            distinct.begin(), distinct.end(),
            [&](const EngineConfig& other) { return other.choice == config.choice; });
        if (!known && allowed(config)) distinct.push_back(config);
    }
    if (distinct.empty() && failure) std::rethrow_exception(failure);
    return distinct;
}

std::optional<EnginePlan> ConvolutionGraph::engine_plan(const Choice& choice) const {
    if (choice.engine < 0 ||
        choice.engine >= graph_.get_int64(CUDNN_ATTR_OPERATIONGRAPH_ENGINE_GLOBAL_COUNT)) {
        return std::nullopt;
    }
    Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    engine.set(CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph_);
    engine.set(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, choice.engine);
    target_->set_properties(engine, CUDNN_ATTR_ENGINE_DEVICEPROP);
    if (!engine.finalize_if_supported()) return std::nullopt;

    std::vector<Descriptor> knobs;
    std::vector<cudnnBackendDescriptor_t> handles;
    for (const auto& [type, value] : choice.knobs) {
        const auto knob_type = static_cast<cudnnBackendKnobType_t>(type);
        Descriptor& knob = knobs.emplace_back(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        knob.set(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &knob_type);
        knob.set(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, value);
        knob.finalize();
        handles.push_back(knob.get());
    }
    Descriptor config(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    config.set(CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    if (!handles.empty()) {
        config.set(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                   static_cast<std::int64_t>(handles.size()), handles.data());
    }
    if (!config.finalize_if_supported()) return std::nullopt;

    EnginePlan result{choice, Descriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)};
    result.descriptor.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    target_->set_handle(result.descriptor, CUDNN_ATTR_EXECUTION_PLAN_HANDLE);
    target_->set_properties(result.descriptor, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
    if (!result.descriptor.finalize_if_supported()) return std::nullopt;
    result.workspace = result.descriptor.get_int64(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
    return result;
}

}  // namespace deeplab::cuda
