#pragma once
// The confusion matrix and the metrics of semantic segmentation.

#include <cstdint>
#include <span>
#include <vector>

#include "deeplab/comm/communicator.h"

namespace deeplab::evaluate {

struct Metrics {
    double pixel_accuracy = 0, mean_pixel_accuracy = 0, miou = 0, fwiou = 0;
    std::vector<double> class_iou;  // NaN for a class in neither truth nor prediction
    // Without any labelled pixel all are NaN.
};

// counts[truth * classes + predicted] over pixels whose truth is a class.
class Confusion {
public:
    explicit Confusion(int classes);

    void add(std::span<const std::uint8_t> truth,
             std::span<const std::uint8_t> predicted);  // truth >= classes: ignored
    void reduce(comm::Communicator& communicator);      // sums over ranks, before any ratio
    int classes() const { return classes_; }
    const std::vector<std::int64_t>& counts() const { return counts_; }
    // PA = trace/sum; MPA = mean_i C_ii/row_i; IoU_i = C_ii/(row_i+col_i-C_ii); mIoU over classes
    // in truth or prediction; FWIoU = sum row_i*IoU_i / sum.
    Metrics metrics() const;

private:
    int classes_;
    std::vector<std::int64_t> counts_;
};

}  // namespace deeplab::evaluate
