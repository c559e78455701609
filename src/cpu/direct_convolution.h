#pragma once
// A convolution as oneDNN's direct one: primitive, layouts of its weights, memory objects.

#include "convolution.h"

namespace deeplab::cpu {

// Weights are kept in the plan's order and brought into oneDNN's inside each run, as PyTorch does.
class DirectConvolution final : public Convolution {
public:
    DirectConvolution(Pass pass, const graph::ConvGeometry& geometry,
                      const ConvolutionTensors& tensors, const Buffer& scratch);
    ~DirectConvolution() override;

    std::int64_t scratch_bytes() const override;
    void run(bool add) override;

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
