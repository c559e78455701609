#include <limits>
#include <numeric>
#include <utility>

#include "deeplab/base/error.h"
#include "deeplab/data/loader.h"
#include "deeplab/math/augment.h"

namespace deeplab::data {

std::vector<std::uint32_t> epoch_order(std::uint64_t epoch, std::uint64_t samples,
                                       std::uint64_t seed) {
    constexpr std::uint64_t limit = std::numeric_limits<std::uint32_t>::max();
    expects(samples <= limit && epoch <= limit, "samples and epochs are counted in 32 bits");
    std::vector<std::uint32_t> order(samples);
    std::iota(order.begin(), order.end(), 0u);
    const math::SampleKey key{static_cast<std::uint32_t>(epoch), 0};
    const auto stream = static_cast<std::uint32_t>(math::Stream::shuffle);
    math::Philox4 random{};
    // Fisher and Yates; exchange i takes word i % 4 of block i / 4.
    for (std::uint32_t i = 1; i < samples; ++i) {
        if (i == 1 || i % 4 == 0) random = math::sample_random(seed, key, stream, i / 4);
        const auto j = static_cast<std::uint32_t>(
            math::draw_below(random.v[i % 4], std::int64_t{i} + 1));
        std::swap(order[i], order[j]);
    }
    return order;
}

math::SampleKey sample_at(std::uint64_t position, std::uint64_t samples, std::uint64_t seed) {
    expects(samples > 0, "a stream has samples");
    const std::uint64_t epoch = position / samples;
    return math::SampleKey{static_cast<std::uint32_t>(epoch),
                           epoch_order(epoch, samples, seed)[position % samples]};
}

}  // namespace deeplab::data
