#pragma once
// Several gradients of one tensor, read pixel by pixel as their sum.

#include <array>
#include <vector>

#include "buffer.h"
#include "deeplab/base/error.h"
#include "vector.h"

namespace deeplab::cpu {

class GradientRows {
public:
    static constexpr std::size_t limit = 8;

    explicit GradientRows(const std::vector<View>& views)
        : count_(views.size()), channels_(views.front().shape.c) {
        expects(count_ <= limit, "at most eight gradients meet in one op");
        for (std::size_t i = 0; i < count_; ++i) rows_[i] = {views[i].f32(), views[i].pitch};
    }

    // The channels of pixel p; in `buffer` when there is something to add.
    const float* row(std::int64_t p, float* buffer) const {
        const float* first = rows_[0].data + p * rows_[0].pitch;
        if (count_ == 1) return first;
        const float* second = rows_[1].data + p * rows_[1].pitch;
#pragma omp simd
        for (std::int64_t c = 0; c < channels_; ++c) buffer[c] = first[c] + second[c];
        for (std::size_t i = 2; i < count_; ++i) {
            const float* next = rows_[i].data + p * rows_[i].pitch;
#pragma omp simd
            for (std::int64_t c = 0; c < channels_; ++c) buffer[c] += next[c];
        }
        return buffer;
    }

    // For the pixels a few rows after p.
    void prefetch(std::int64_t p) const {
        for (std::size_t i = 0; i < count_; ++i)
            prefetch_after(rows_[i].data + p * rows_[i].pitch, channels_);
    }

private:
    struct Rows {
        const float* data;
        std::int64_t pitch;
    };
    std::array<Rows, limit> rows_{};
    std::size_t count_;
    std::int64_t channels_;
};

}  // namespace deeplab::cpu
