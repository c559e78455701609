#pragma once
// Upsampling to the labels' size, softmax and cross-entropy, one image row at a time: no full-size
// logits.

#include <cstdint>
#include <vector>

#include "buffer.h"
#include "deeplab/graph/plan.h"
#include "resize.h"
#include "threads.h"

namespace deeplab::cpu {

class SegmentationLossKernel {
public:
    // logits (N,K,h,w), labels (N,1,H,W) u8.
    SegmentationLossKernel(const graph::SegmentationLoss& op, const Shape& logits,
                           const Shape& labels);

    std::int64_t scratch_bytes(const Threads& threads) const;
    // dlogits: none in a plan without gradients. The bits do not depend on the number of threads.
    void run(const Threads& threads, const View& logits, const View& labels, const View& loss,
             const View& dlogits, const Buffer& scratch) const;

private:
    struct Planes;
    // The image rows between logits rows i and i + 1, of sample n: their loss and their gradients
    // to the two logits rows.
    double band(const View& logits, const View& labels, std::int64_t n, std::int64_t i,
                const Planes& planes, float* to_upper, float* to_lower) const;
    void interpolate(const Planes& planes, float t) const;
    double cross_entropy(const Planes& planes, const std::uint8_t* labels) const;
    void accumulate(const Planes& planes, const std::uint8_t* labels, float t) const;
    void collect(const float* planes, float* row) const;

    graph::SegmentationLoss op_;
    Shape logits_, labels_;
    Axis rows_, columns_;
    std::vector<std::int64_t> band_first_;  // rows of band i: [band_first_[i], band_first_[i + 1])
    std::vector<std::int32_t> left_, right_;  // columns_.taps as arrays
    std::vector<float> t_;
};

}  // namespace deeplab::cpu
