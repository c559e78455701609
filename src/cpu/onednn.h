#pragma once
// What differs between oneDNN 2 and 3: how convolutions are described. The rest of the folder is
// the same for both.

#include <dnnl.hpp>
#include <string>

#include "deeplab/base/types.h"

namespace deeplab::cpu::onednn {

const dnnl::engine& engine();
dnnl::stream& stream();
std::string version();  // "oneDNN 2.6.3"

// Shapes are logical, (N, C, H, W) and (G, K/G, C/G, R, S) or, with one group, (K, C, R, S).
// Padding at the end follows from the output's size and may differ from the one at the beginning.
struct Problem {
    dnnl::memory::desc x, w, y, bias;  // bias: zero descriptor when there is none
    dnnl::memory::dims strides, dilates, pad_begin, pad_end;  // dilates: rate - 1
};

// Scratchpads are the caller's. `dnnl::error` when oneDNN has no implementation.
dnnl::convolution_forward::primitive_desc forward(const Problem& problem);
dnnl::convolution_backward_data::primitive_desc backward_data(const Problem& problem);
dnnl::convolution_backward_weights::primitive_desc backward_weights(const Problem& problem);

// Copies between layouts; `add` adds to the destination.
dnnl::reorder::primitive_desc reorder(const dnnl::memory::desc& from, const dnnl::memory::desc& to,
                                      bool add);

}  // namespace deeplab::cpu::onednn
