#include "onednn.h"

#include "deeplab/base/text.h"

namespace deeplab::cpu::onednn {
namespace {

using dnnl::algorithm;
using dnnl::prop_kind;

dnnl::primitive_attr user_scratchpad() {
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    return attributes;
}

dnnl::convolution_forward::primitive_desc forward(const Problem& p,
                                                  const dnnl::memory::desc& bias) {
#if DNNL_VERSION_MAJOR >= 3
    return {engine(),
            prop_kind::forward_training,
            algorithm::convolution_direct,
            p.x,
            p.w,
            bias,
            p.y,
            p.strides,
            p.dilates,
            p.pad_begin,
            p.pad_end,
            user_scratchpad()};
#else
    return {{prop_kind::forward_training, algorithm::convolution_direct, p.x, p.w, bias, p.y,
             p.strides, p.dilates, p.pad_begin, p.pad_end},
            user_scratchpad(),
            engine()};
#endif
}

}  // namespace

const dnnl::engine& engine() {
    static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
    return cpu;
}

dnnl::stream& stream() {
    static dnnl::stream in_order(engine());
    return in_order;
}

std::string version() {
    const dnnl_version_t* v = dnnl_version();
    return cat("oneDNN ", v->major, ".", v->minor, ".", v->patch);
}

dnnl::convolution_forward::primitive_desc forward(const Problem& p) { return forward(p, p.bias); }

// The forward descriptor is a hint that must agree in everything but the weights' layout.
dnnl::convolution_backward_data::primitive_desc backward_data(const Problem& p) {
    const auto hint = forward(p, dnnl::memory::desc());
#if DNNL_VERSION_MAJOR >= 3
    return {engine(),
            algorithm::convolution_direct,
            p.x,
            p.w,
            p.y,
            p.strides,
            p.dilates,
            p.pad_begin,
            p.pad_end,
            hint,
            user_scratchpad()};
#else
    return {{algorithm::convolution_direct, p.x, p.w, p.y, p.strides, p.dilates, p.pad_begin,
             p.pad_end},
            user_scratchpad(),
            engine(),
            hint};
#endif
}

dnnl::convolution_backward_weights::primitive_desc backward_weights(const Problem& p) {
    const auto hint = forward(p, p.bias);
#if DNNL_VERSION_MAJOR >= 3
    return {engine(),    algorithm::convolution_direct,
            p.x,         p.w,
            p.bias,      p.y,
            p.strides,   p.dilates,
            p.pad_begin, p.pad_end,
            hint,        user_scratchpad()};
#else
    return {{algorithm::convolution_direct, p.x, p.w, p.bias, p.y, p.strides, p.dilates,
             p.pad_begin, p.pad_end},
            user_scratchpad(),
            engine(),
            hint};
#endif
}

dnnl::reorder::primitive_desc reorder(const dnnl::memory::desc& from, const dnnl::memory::desc& to,
                                      bool add) {
    dnnl::primitive_attr attributes = user_scratchpad();
    if (add) {
        dnnl::post_ops sum;
        sum.append_sum(1.0f);
        attributes.set_post_ops(sum);
    }
    return {engine(), from, engine(), to, attributes};
}

}  // namespace deeplab::cpu::onednn
