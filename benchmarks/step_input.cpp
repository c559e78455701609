#include "step_input.h"

#include "deeplab/math/philox.h"

namespace deeplab::bench {

Input generated_input(std::int64_t batch, std::int64_t crop, int classes, std::int64_t seed) {
    Input in;
    for (std::int64_t n = 0; n < batch; ++n) {
        in.samples.push_back({0, static_cast<std::uint32_t>(n)});
        for (std::int64_t c = 0; c < 3; ++c) {
            for (std::int64_t p = 0; p < crop * crop; ++p) {
                const std::int64_t truth = (p / crop / 16 + 3 * (p % crop / 16) + n) % classes;
                const math::Philox4 r = math::philox(
                    static_cast<std::uint64_t>(seed),
                    {{static_cast<std::uint32_t>(p), static_cast<std::uint32_t>(c),
                      static_cast<std::uint32_t>(n), 0}});
                in.images.push_back(4.0f * static_cast<float>(truth) / static_cast<float>(classes) -
                                    2.5f + math::uniform(r.v[0]));
                if (c > 0) continue;
                const bool ignored = p / crop % 16 == 0 || p % crop % 16 == 0;
                in.labels.push_back(ignored ? 255 : static_cast<std::uint8_t>(truth));
                in.valid += ignored ? 0 : 1;
            }
        }
    }
    return in;
}

}  // namespace deeplab::bench
