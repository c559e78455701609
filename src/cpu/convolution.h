#pragma once
// One convolution node, prepared.

#include <cstdint>
#include <memory>

#include "buffer.h"
#include "deeplab/graph/plan.h"
#include "threads.h"

namespace deeplab::cpu {

enum class Pass { forward, data, weights };

// The tensors of a convolution or of their gradients, whichever the pass works on. Without bias:
// bias.buffer is null. `input`: the activation of x as it is read; `masks`: the x by which the data
// gradient is masked then.
struct ConvolutionTensors {
    View x, w, y, bias, masks;
    math::Activation input = math::Activation::none;
};

class Convolution {
public:
    virtual ~Convolution() = default;
    virtual std::int64_t scratch_bytes() const = 0;  // must be in the scratch when run() is called
    virtual void run(bool add) = 0;  // add: to the gradients of weights and bias instead of writing
};

// Takes the algorithm that costs least, by shapes alone. `threads` and `scratch` must outlive it.
std::unique_ptr<Convolution> make_convolution(const Threads& threads, Pass pass,
                                              const graph::ConvGeometry& geometry,
                                              const ConvolutionTensors& tensors,
                                              const Buffer& scratch);

}  // namespace deeplab::cpu
