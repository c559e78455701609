#pragma once
// A convolution as matrix products, one for each tap of its kernel.

#include <vector>

#include "convolution.h"

namespace deeplab::cpu {

// Pixels of a row of a map, `step` apart.
struct PixelRow {
    float* first;
    std::int64_t step, count;
};

// Each tap is a product over the pixels where it meets the map, and nothing is computed for those
// where it does not: an atrous rate of 18 on a 33x33 map leaves 40 % of the multiplications. The
// pixels of a tap become rows of a matrix, block by block: copied, but for those of a convolution
// that lie one after the other already (the middle tap's, at stride 1).
class TapConvolution final : public Convolution {
public:
    // One group, without bias.
    TapConvolution(const Threads& threads, Pass pass, const graph::ConvGeometry& geometry,
                   const ConvolutionTensors& tensors, const Buffer& scratch);

    std::int64_t scratch_bytes() const override;
    void run(bool add) override;

private:
    // Where a tap meets the map along one axis: `count` outputs from `out` on, whose inputs lie a
    // stride apart from `in` on.
    struct Range {
        std::int64_t out, in, count;
    };
    struct Tap {
        std::int64_t index;  // r * S + s
        Range rows, columns;
    };
    // What a tap pairs.
    struct Pairs {
        std::vector<PixelRow> in, out;
        std::int64_t pixels = 0;
    };

    bool one_tap() const { return weights_.shape.h * weights_.shape.w == 1; }
    Pairs pairs(const Tap& tap, std::int64_t first, std::int64_t last) const;
    const float* tap_major_weights(float* to) const;
    void convolve();
    void convolve_rows(const float* weights, float* rows, float* products, std::int64_t first,
                       std::int64_t last) const;
    void sum_weight_gradients(bool add);
    void sum_block(float* sums, std::int64_t first, std::int64_t last, float* inputs,
                   float* gradients) const;
    void write_weight_gradients(const float* sums, bool add) const;

    const Threads& threads_;
    Pass pass_;
    std::int64_t stride_;
    View x_, y_, weights_;  // or their gradients
    const Buffer& scratch_;
    std::vector<Tap> taps_;  // those that meet the map, the middle one first
    std::int64_t block_rows_ = 0, block_pixels_ = 0;  // at a time, at most
};

// Whether it takes less time than oneDNN's direct convolution.
bool taps_pay(Pass pass, const graph::ConvGeometry& geometry, const Shape& x, const Shape& w,
              const Shape& y);

}  // namespace deeplab::cpu
