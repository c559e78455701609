#pragma once
// Which layer of a backbone gives up its stride to an output stride, and who is dilated for it;
// private to this folder.

#include <cstdint>

#include "deeplab/model/deeplab.h"

namespace deeplab::model {

// Asked for one layer (or unit that dilates as one) after the other, from the images on.
class Strides {
public:
    Strides(std::int64_t output_stride, Dilation rule)
        : output_stride_(output_stride), rule_(rule) {}

    struct Layer {
        std::int64_t stride = 1, dilation = 1;
    };
    // `stride`: the layer's own, in a network without an output stride.
    Layer next(std::int64_t stride) {
        if (reached_ * stride <= output_stride_) {
            reached_ *= stride;
            return {stride, rate_};
        }
        const std::int64_t before = rate_;
        rate_ *= stride;
        return {1, rule_ == Dilation::layer ? before : rate_};
    }

private:
    std::int64_t output_stride_, reached_ = 1, rate_ = 1;
    Dilation rule_;
};

}  // namespace deeplab::model
