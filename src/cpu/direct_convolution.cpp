#include "direct_convolution.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <unordered_map>

#include "deeplab/base/error.h"
#include "deeplab/base/limits.h"
#include "deeplab/base/text.h"
#include "onednn.h"

namespace deeplab::cpu {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;
using Arguments = std::unordered_map<int, memory>;

constexpr auto f32 = memory::data_type::f32;

std::int64_t align(std::int64_t bytes) { return (bytes + 63) / 64 * 64; }
std::int64_t size_of(const memory::desc& desc) {
    return align(static_cast<std::int64_t>(desc.get_size()));
}

memory::desc activation(const Shape& s) { return {{s.n, s.c, s.h, s.w}, f32, Tag::nhwc}; }

bool touches(std::int64_t tap, std::int64_t in, const graph::ConvGeometry& g, std::int64_t out) {
    for (std::int64_t p = 0; p < out; ++p) {
        const std::int64_t i = p * g.stride - g.pad + tap * g.dilation;
        if (i >= 0 && i < in) return true;
    }
    return false;
}

// oneDNN maps a little memory for the code that it generates, and does not look whether it got it:
// where an address-space limit has run out it crashes.
void require_room() {
    constexpr std::int64_t needed = std::int64_t{16} << 20;  // far more than a primitive's code
    if (can_map(needed, true)) return;
    if (can_map(needed, false)) {
        throw DeviceError(
            "this system lets no program make code while it runs — oneDNN's convolutions are made "
            "that way — allow executable memory for this program, or use another machine");
    }
    throw DeviceError(cat("no memory for oneDNN's code", memory_limit(),
                          " — the plan cannot run — use a smaller batch, crop or image, or raise "
                          "the limit"));
}

}  // namespace

Taps useful_taps(std::int64_t in, std::int64_t kernel, const graph::ConvGeometry& g,
                 std::int64_t out) {
    const Taps all{0, kernel, g.pad, g.pad};
    std::int64_t first = 0, last = kernel - 1;
    while (first < last && !touches(first, in, g, out)) ++first;
    while (last > first && !touches(last, in, g, out)) --last;
    if (first == 0 && last == kernel - 1) return all;
    const std::int64_t count = last - first + 1, pad_begin = g.pad - first * g.dilation;
    const std::int64_t pad_end = (out - 1) * g.stride + (count - 1) * g.dilation + 1 - in -
                                 pad_begin;
    if (pad_begin < 0 || pad_end <= -g.stride) return all;  // would have to crop the input
    return {first, count, pad_begin, std::max<std::int64_t>(pad_end, 0)};
}

struct DirectConvolution::Prepared {
    Pass pass;
    ConvolutionTensors tensors;
    const Buffer& scratch;
    std::int64_t trimmed_offset = 0;  // of the first useful tap in w, in elements
    bool trimmed = false;

    dnnl::primitive primitive;
    // x, y: activations or their gradients; weights: in oneDNN's layout, user: in the plan's; bias
    // may be empty.
    memory x, y, weights, user, bias, scratchpad;
    std::int64_t weights_bytes = 0, bias_bytes = 0, scratchpad_bytes = 0;
    Arguments arguments, reorder_arguments;
    bool reordered = false;
    dnnl::reorder copy, add;

    Prepared(Pass p, const ConvolutionTensors& t, const Buffer& s)
        : pass(p), tensors(t), scratch(s) {}

    onednn::Problem describe(const graph::ConvGeometry& g, memory::desc& user_desc);
    void prepare(const graph::ConvGeometry& g);
    void prepare_reorders(const memory::desc& user_desc, const memory::desc& weights_desc);
    void point();
};

onednn::Problem DirectConvolution::Prepared::describe(const graph::ConvGeometry& g,
                                                      memory::desc& user_desc) {
    const Shape &xs = tensors.x.shape, &ws = tensors.w.shape, &ys = tensors.y.shape;
    const Taps rows = useful_taps(xs.h, ws.h, g, ys.h), columns = useful_taps(xs.w, ws.w, g, ys.w);
    trimmed = rows.count != ws.h || columns.count != ws.w;
    trimmed_offset = rows.first * ws.w + columns.first;
    memory::dims dims = {ws.n, ws.c, rows.count, columns.count};
    memory::dims strides = {ws.c * ws.h * ws.w, ws.h * ws.w, ws.w, 1};
    if (g.groups > 1) {
        dims[0] /= g.groups;
        dims.insert(dims.begin(), g.groups);
        strides.insert(strides.begin(), strides[0] * dims[1]);
    }
    user_desc = memory::desc(dims, f32, strides);
    onednn::Problem problem;
    problem.x = activation(xs);
    problem.y = activation(ys);
    problem.w = memory::desc(dims, f32, Tag::any);
    if (tensors.bias.buffer != nullptr) problem.bias = memory::desc({ws.n}, f32, Tag::x);
    problem.strides = {g.stride, g.stride};
    problem.dilates = {g.dilation - 1, g.dilation - 1};
    problem.pad_begin = {rows.pad_begin, columns.pad_begin};
    problem.pad_end = {rows.pad_end, columns.pad_end};
    return problem;
}

void DirectConvolution::Prepared::prepare(const graph::ConvGeometry& g) {
    require_room();
    memory::desc user_desc, weights_desc, scratchpad_desc;
    const onednn::Problem problem = describe(g, user_desc);
    if (pass == Pass::forward) {
        const auto pd = onednn::forward(problem);
        primitive = dnnl::convolution_forward(pd);
        weights_desc = pd.weights_desc();
        scratchpad_desc = pd.scratchpad_desc();
    } else if (pass == Pass::data) {
        const auto pd = onednn::backward_data(problem);
        primitive = dnnl::convolution_backward_data(pd);
        weights_desc = pd.weights_desc();
        scratchpad_desc = pd.scratchpad_desc();
    } else {
        const auto pd = onednn::backward_weights(problem);
        primitive = dnnl::convolution_backward_weights(pd);
        weights_desc = pd.diff_weights_desc();
        scratchpad_desc = pd.scratchpad_desc();
    }
    const auto object = [](const memory::desc& desc) {
        return memory(desc, onednn::engine(), nullptr);
    };
    x = object(problem.x);
    y = object(problem.y);
    user = object(user_desc);
    weights = object(weights_desc);
    scratchpad_bytes = size_of(scratchpad_desc);
    prepare_reorders(user_desc, weights_desc);
    scratchpad = object(
        memory::desc({std::max<std::int64_t>(scratchpad_bytes, 1)}, memory::data_type::u8, Tag::x));

    const bool forward = pass == Pass::forward, by_weights = pass == Pass::weights;
    arguments = {
        {pass == Pass::data ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, x},
        {by_weights ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, reordered ? weights : user},
        {forward ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, y},
        {DNNL_ARG_SCRATCHPAD, scratchpad}};
    if (tensors.bias.buffer != nullptr) {
        bias = object(problem.bias);
        if (by_weights) bias_bytes = size_of(problem.bias);
        arguments.insert({by_weights ? DNNL_ARG_DIFF_BIAS : DNNL_ARG_BIAS, bias});
    }
}

void DirectConvolution::Prepared::prepare_reorders(const memory::desc& user_desc,
                                                   const memory::desc& weights_desc) {
    // Gradients go through scratch in any case: they may be added.
    reordered = pass == Pass::weights || user_desc != weights_desc;
    if (!reordered) return;
    weights_bytes = size_of(weights_desc);
    const auto make = [&](bool adding) {
        const auto pd = pass == Pass::weights ? onednn::reorder(weights_desc, user_desc, adding)
                                              : onednn::reorder(user_desc, weights_desc, adding);
        scratchpad_bytes = std::max(scratchpad_bytes, size_of(pd.scratchpad_desc()));
        return dnnl::reorder(pd);
    };
    copy = make(false);
    if (pass == Pass::weights) add = make(true);
}

// Buffers may have moved since the last run.
void DirectConvolution::Prepared::point() {
    std::byte* free = scratch.data();
    x.set_data_handle(tensors.x.f32());
    y.set_data_handle(tensors.y.f32());
    user.set_data_handle(tensors.w.f32() + trimmed_offset);
    if (reordered) weights.set_data_handle(free);
    free += weights_bytes;
    if (tensors.bias.buffer != nullptr) {
        bias.set_data_handle(pass == Pass::weights ? reinterpret_cast<float*>(free)
                                                   : tensors.bias.f32());
    }
    free += bias_bytes;
    scratchpad.set_data_handle(free);
}

DirectConvolution::DirectConvolution(Pass pass, const graph::ConvGeometry& geometry,
                                     const ConvolutionTensors& tensors, const Buffer& scratch)
    : prepared_(std::make_unique<Prepared>(pass, tensors, scratch)) {
    try {
        Prepared& p = *prepared_;
        p.prepare(geometry);
        if (p.reordered) {
            const bool out = pass == Pass::weights;
            p.reorder_arguments = {{DNNL_ARG_FROM, out ? p.weights : p.user},
                                   {DNNL_ARG_TO, out ? p.user : p.weights},
                                   {DNNL_ARG_SCRATCHPAD, p.scratchpad}};
        }
    } catch (const dnnl::error& error) {
        if (error.status == dnnl_out_of_memory) throw std::bad_alloc();
        throw DeviceError(
            cat("oneDNN cannot do the convolution of ", to_string(tensors.x.shape), " by ",
                to_string(tensors.w.shape), " to ", to_string(tensors.y.shape), " (", error.what(),
                ") — the plan cannot run — change the network or use another oneDNN"));
    }
}

DirectConvolution::~DirectConvolution() = default;

std::int64_t DirectConvolution::scratch_bytes() const {
    return prepared_->weights_bytes + prepared_->bias_bytes + prepared_->scratchpad_bytes + 64;
}

void DirectConvolution::run(bool adding) {
    Prepared& p = *prepared_;
    p.point();
    if (p.pass != Pass::weights) {
        if (p.reordered) p.copy.execute(onednn::stream(), p.reorder_arguments);
        p.primitive.execute(onednn::stream(), p.arguments);
    } else {
        p.primitive.execute(onednn::stream(), p.arguments);
        if (p.trimmed && !adding) {
            std::memset(p.tensors.w.f32(), 0,
                        static_cast<std::size_t>(p.tensors.w.shape.elements()) * sizeof(float));
        }
        (adding ? p.add : p.copy).execute(onednn::stream(), p.reorder_arguments);
        if (p.tensors.bias.buffer != nullptr) {
            const auto* from = static_cast<const float*>(p.bias.get_data_handle());
            float* to = p.tensors.bias.f32();
            for (std::int64_t k = 0; k < p.tensors.w.shape.n; ++k)
                to[k] = adding ? to[k] + from[k] : from[k];
        }
    }
    onednn::stream().wait();
}

}  // namespace deeplab::cpu
