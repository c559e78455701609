#pragma once
// Whole networks of other programs; private to this folder. Those that compute what a network here
// computes with some settings are taken, others are refused with what they do otherwise.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deeplab/model/backbone.h"
#include "deeplab/model/deeplab.h"

namespace deeplab::weights {

struct ForeignNetwork {
    std::string whose;               // "VainF's DeepLabV3Plus-Pytorch's"
    std::vector<std::string> marks;  // tensors that its files have, and no others have all of
    // Its module for each of ours: beginnings of names. The first that fits counts.
    std::vector<std::pair<std::string_view, std::string_view>> modules;
    // With which a network here computes what it computes. Backbone, widths and classes are a
    // file's, and so is the output stride, which no file tells.
    model::ModelConfig settings;
    // Its images are known to have the mean and the deviation of `settings`.
    bool normalised = false;
    // Its decoder concatenates the low-level features before ASPP's output, ours behind it.
    bool low_level_first = false;
};

const std::vector<ForeignNetwork>& foreign_networks();

// Networks that are called like those, or are DeepLabV3+ too, and that no setting makes the same
// function. Marks are whole names.
const std::vector<model::Lookalike>& foreign_lookalikes();

// In place: the input channels of the decoder's first convolution, of `rows` filters of `plane`
// values a channel, from low-level features first to ours.
void to_our_concatenation(std::vector<float>& weights, std::size_t rows, std::size_t plane,
                          std::size_t low_level);

}  // namespace deeplab::weights
