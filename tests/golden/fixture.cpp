#include "golden/fixture.h"

#include <cmath>

#include "deeplab/base/text.h"
#include "deeplab/math/philox.h"
#include "reference/ops.h"

namespace deeplab::testing {

std::vector<std::uint8_t> random_labels(std::size_t count, std::uint32_t classes, double valid,
                                        std::uint64_t seed) {
    std::vector<std::uint8_t> labels(count, 255);
    for (std::size_t i = 0; i < count; ++i) {
        const math::Philox4 r = math::philox(seed, {{static_cast<std::uint32_t>(i), 0, 0, 0}});
        if (static_cast<double>(math::uniform(r.v[0])) < valid)
            labels[i] = static_cast<std::uint8_t>(r.v[1] % classes);
    }
    return labels;
}

std::vector<float> kink_free_value(const std::string& name, const Shape& shape) {
    reference::Tensor r = reference::random_tensor(shape, fnv1a(name.data(), name.size()));
    const std::string kind = name.substr(name.rfind('.') + 1);
    const bool classifier = name.starts_with("decoder.classifier");
    const bool relu6 = name.starts_with("backbone.features.");
    const std::string layer = name.substr(0, name.size() - kind.size() - 1);
    const bool linear = relu6 && layer.substr(0, layer.rfind('.')).ends_with(".conv");
    const bool filters = kind == "weight" && shape.n > 1, scale = kind == "weight" && !filters;
    const auto plane = static_cast<std::size_t>(shape.h * shape.w);
    const auto paired = [](std::size_t c, std::size_t channels) {
        return c % 4 == 2 && c < channels / 4 * 4;
    };
    if ((filters && shape.c == 1) || (scale && (relu6 || name.starts_with("backbone.blocks.") ||
                                                name.find(".dw_bn.") != std::string::npos))) {
        const auto channels = static_cast<std::size_t>(shape.n * shape.c);
        for (std::size_t i = 0; i < r.data.size(); ++i) {
            if (paired(i / plane, channels)) r.data[i] = 0.0625 * r.data[i] + r.data[i - 2 * plane];
        }
    }
    if (filters) {
        const auto fan_in = static_cast<double>(shape.c * shape.h * shape.w);
        const double bound = (classifier ? 0.25 : 1.0) * std::sqrt(6.0 / fan_in);
        const auto channels = static_cast<std::size_t>(shape.c);
        for (std::size_t i = 0; i < r.data.size(); ++i) {
            if (paired(i / plane % channels, channels))
                r.data[i] = 0.0625 * r.data[i] - r.data[i - 2 * plane];
        }
        for (double& v : r.data) v *= bound;
    } else if (kind == "running_var") {
        for (double& v : r.data) v = std::abs(v) + 0.5;
    } else if (scale) {
        for (double& v : r.data) v = (0.25 + 0.125 * v) * (relu6 ? 0.5 : 1.0);
    } else if (kind == "bias" && !classifier) {
        const double shift = linear ? 0.5 : relu6 ? 3.0 : 4.0;
        for (std::size_t i = 0; i < r.data.size(); ++i) r.data[i] = i % 2 == 0 ? shift : -shift;
    }
    return {r.data.begin(), r.data.end()};
}

std::vector<float> images(std::int64_t batch, std::int64_t height, std::int64_t width,
                          std::uint64_t seed) {
    const reference::Tensor noise = reference::random_tensor({batch, 3, height, width}, seed);
    const reference::Tensor offset = reference::random_tensor({batch, 3, 1, 1}, seed + 1000);
    const std::size_t plane = noise.data.size() / offset.data.size();
    std::vector<float> values;
    for (std::size_t i = 0; i < noise.data.size(); ++i) {
        values.push_back(static_cast<float>(noise.data[i]) +
                         static_cast<float>(offset.data[i / plane]));
    }
    return values;
}

}  // namespace deeplab::testing
