#pragma once
// 3x3 convolutions of stride 1 with fewer multiplications.

#include <vector>

#include "convolution.h"

namespace deeplab::cpu {

// Winograd's F(2x2, 3x3) (A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural Networks,
// 2015): a tile of 2x2 outputs is A' [(G g G') * (B' d B)] A, where g are the 3x3 weights and d the
// tile's 4x4 inputs. Over the channels the product in the middle is 16 matrix products, one for
// each element of the 4x4 tile: 16 multiplications where a direct convolution has 36. Its rounding
// is about the direct one's: the transforms are sums of four numbers, halves at most, and the long
// sum is over channels alone.
//
// A rate d > 1 takes the outputs of a tile, and the inputs, d apart. The gradient of the data is
// the same convolution with mirrored weights; that of the weights is G' [(A dy A') * (B' d B)] G,
// summed over tiles by the matrix products.
class WinogradConvolution final : public Convolution {
public:
    // Of shapes for which winograd_pays(); without bias.
    WinogradConvolution(const Threads& threads, Pass pass, const graph::ConvGeometry& geometry,
                        const ConvolutionTensors& tensors, const Buffer& scratch);

    std::int64_t scratch_bytes() const override;
    void run(bool add) override;

private:
    struct Tile {
        std::int64_t n, h, w;  // of its first output
    };
    Tile tile(std::int64_t i) const;
    void read_inputs(const Tile& tile, float* to, std::int64_t step);
    void read_gradients(const Tile& tile, float* to, std::int64_t step);
    void write_outputs(const Tile& tile, const float* from, std::int64_t step,
                       float* nowhere) const;
    void convolve();
    void sum_weight_gradients(bool add);

    const Threads& threads_;
    Pass pass_;
    std::int64_t rate_, pad_;  // of the convolution that reads in_ and writes out_
    View in_, out_, weights_;  // of the weights' pass: x, dy, dw
    const Buffer& scratch_;
    std::vector<std::pair<std::int64_t, std::int64_t>> tiles_;  // (h, w) of one image's
    std::int64_t tile_count_ = 0, block_ = 0;                   // of all images; at a time
    std::vector<float> zeros_;                                  // what lies outside a map
};

// Whether it takes less time than a direct convolution, which skips what lies outside the map.
bool winograd_pays(const graph::ConvGeometry& geometry, const Shape& x, const Shape& w,
                   const Shape& y);

}  // namespace deeplab::cpu
