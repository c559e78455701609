#pragma once
// What a training step gets in benchmarks that have no data set.

#include <cstdint>
#include <vector>

#include "deeplab/exec/backend.h"

namespace deeplab::bench {

struct Input {
    std::vector<float> images;
    std::vector<std::uint8_t> labels;
    std::vector<math::SampleKey> samples;
    double valid = 0;  // pixels
};

// Squares whose brightness is their class, with noise: large values beside small ones. A grid of
// pixels between them is ignored (255). A pure function of its arguments.
Input generated_input(std::int64_t batch, std::int64_t crop, int classes, std::int64_t seed);

}  // namespace deeplab::bench
