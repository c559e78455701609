#pragma once
// How far a tensor is from its reference.

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "deeplab/base/error.h"

namespace deeplab::bench {

// Absolute differences divided by `rms`, the root mean square of the reference (by 1 where that is
// zero). `p99`: 99 % of the elements differ by at most this. A NaN that the reference lacks counts
// as infinite.
struct TensorErrors {
    double rms = 0, mean = 0, p99 = 0, max = 0;
};

inline TensorErrors tensor_errors(std::span<const float> actual, std::span<const float> reference) {
    expects(actual.size() == reference.size() && !actual.empty(), "tensors of one shape");
    const auto count = static_cast<double>(reference.size());
    TensorErrors e;
    for (const float v : reference) e.rms += static_cast<double>(v) * static_cast<double>(v);
    e.rms = std::sqrt(e.rms / count);
    const double scale = e.rms > 0 ? e.rms : 1.0;
    std::vector<double> all(actual.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
        const double difference = static_cast<double>(actual[i]) -
                                  static_cast<double>(reference[i]);
        all[i] = std::isnan(difference) ? std::numeric_limits<double>::infinity()
                                        : std::abs(difference) / scale;
        e.mean += all[i] / count;
        e.max = std::max(e.max, all[i]);
    }
    const auto rank = static_cast<std::ptrdiff_t>(std::ceil(0.99 * count)) - 1;
    std::nth_element(all.begin(), all.begin() + rank, all.end());
    e.p99 = all[static_cast<std::size_t>(rank)];
    return e;
}

}  // namespace deeplab::bench
