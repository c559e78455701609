#include "convolution.h"

#include "deeplab/base/error.h"
#include "depthwise.h"
#include "direct_convolution.h"
#include "tap_convolution.h"
#include "winograd.h"

namespace deeplab::cpu {

std::unique_ptr<Convolution> make_convolution(const Threads& threads, Pass pass,
                                              const graph::ConvGeometry& geometry,
                                              const ConvolutionTensors& tensors,
                                              const Buffer& scratch) {
    const ConvolutionTensors& t = tensors;
    expects(t.x.pitch == t.x.shape.c && t.y.pitch == t.y.shape.c,
            "a convolution reads and writes whole tensors");
    if (t.bias.buffer == nullptr) {
        if (graph::is_depthwise(geometry, t.w.shape))
            return std::make_unique<DepthwiseConvolution>(threads, pass, geometry, t, scratch);
        if (winograd_pays(geometry, t.x.shape, t.w.shape, t.y.shape))
            return std::make_unique<WinogradConvolution>(threads, pass, geometry, t, scratch);
        if (taps_pay(pass, geometry, t.x.shape, t.w.shape, t.y.shape))
            return std::make_unique<TapConvolution>(threads, pass, geometry, t, scratch);
    }
    expects(t.input == math::Activation::none, "a depthwise convolution alone activates its input");
    return std::make_unique<DirectConvolution>(pass, geometry, tensors, scratch);
}

}  // namespace deeplab::cpu
