#pragma once
// One convolution node, prepared: oneDNN primitive, layouts of its weights, memory objects.

#include <cstdint>
#include <memory>

#include "buffer.h"
#include "deeplab/graph/plan.h"

namespace deeplab::cpu {

enum class Pass { forward, data, weights };

// The tensors of a convolution or of their gradients, whichever the pass works on. Without bias:
// bias.buffer is null.
struct ConvolutionTensors {
    View x, w, y, bias;
};

// Weights are kept in the plan's order and brought into oneDNN's inside each run, as PyTorch does.
class Convolution {
public:
    Convolution(Pass pass, const graph::ConvGeometry& geometry, const ConvolutionTensors& tensors,
                const Buffer& scratch);
    ~Convolution();
    Convolution(const Convolution&) = delete;
    Convolution& operator=(const Convolution&) = delete;

    std::int64_t scratch_bytes() const;  // must be in `scratch` when run() is called
    void run(bool add);  // add: to the gradients of weights and bias instead of writing them

private:
    struct Prepared;
    std::unique_ptr<Prepared> prepared_;
};

// The taps of a kernel's axis that ever meet the input. An atrous rate above the map's size leaves
// only the centre of a 3x3: rates 6, 12 and 18 on the 5x5 map of a crop of 65 are 1x1 convolutions.
struct Taps {
    std::int64_t first, count, pad_begin, pad_end;
};
Taps useful_taps(std::int64_t in, std::int64_t kernel, const graph::ConvGeometry& g,
                 std::int64_t out);

}  // namespace deeplab::cpu
