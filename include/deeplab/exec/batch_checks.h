#pragma once
// What a plan asks of every micro-batch; a backend holds them to it.

#include <cstdint>
#include <span>
#include <vector>

#include "deeplab/exec/backend.h"

namespace deeplab::exec {

// An input tensor's part of the micro-batch's images, or of its labels: those of one element type
// follow one another in the order of their ids.
struct BatchInput {
    graph::TensorId tensor = graph::none;
    bool labels = false;
    std::int64_t first = 0;  // element of the micro-batch's span
};

class BatchChecks {
public:
    // LogicError when the plan's dropouts have batches of different sizes.
    explicit BatchChecks(const graph::Plan& plan);

    const std::vector<BatchInput>& inputs() const { return inputs_; }
    std::int64_t image_elements() const { return image_elements_; }
    std::int64_t label_elements() const { return label_elements_; }
    std::int64_t samples() const { return samples_; }  // 0 for a plan without dropout

    // LogicError unless a micro-batch of a plan with dropout has the plan's samples.
    void check_samples(const MicroBatch& micro_batch) const;
    // LogicError unless images and labels have the plan's sizes; DataError as below.
    void check_images_and_labels(const MicroBatch& micro_batch) const;
    // DataError when a label is neither a class of the plan's loss nor ignored: it would read
    // another pixel's logit. `first_sample` is the number of the labels' first sample in the batch,
    // `pixels` how many each sample has.
    void check_labels(std::span<const std::uint8_t> labels, std::int64_t first_sample,
                      std::int64_t pixels) const;

private:
    std::vector<BatchInput> inputs_;
    std::int64_t image_elements_ = 0, label_elements_ = 0, samples_ = 0;
    std::int64_t classes_ = 0, label_pixels_ = 1;  // 0 classes: a plan without loss
    std::int32_t ignore_ = -1;
};

}  // namespace deeplab::exec
