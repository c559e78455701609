#pragma once
// Dropout, sums, rounding.

#include <cstdint>
#include <span>
#include <vector>

#include "buffer.h"
#include "deeplab/math/philox.h"
#include "threads.h"

namespace deeplab::cpu {

// Forward and backward are the same: kept elements times 1 / (1 - probability), zero elsewhere.
struct DropoutRule {
    std::uint64_t seed;
    float probability;
    std::uint32_t layer;
};
std::int64_t dropout_scratch_bytes(const Threads& threads, const Shape& shape);
void dropout(const Threads& threads, const DropoutRule& rule,
             std::span<const math::SampleKey> samples, const View& x, const View& y,
             const Buffer& scratch);

// Activations in place; or parameters, which lie without gaps, from one place to another.
void round_to_bf16(const Threads& threads, const View& from, const View& to);

void sum(const Threads& threads, const std::vector<View>& in, const View& out);

}  // namespace deeplab::cpu
