#include <cmath>

#include "deeplab/base/error.h"
#include "deeplab/config/config.h"

namespace deeplab::config {

// "Poly" of Chen et al., arXiv 1606.00915, section 4.1; per iteration, not per epoch.
double learning_rate(const Config& config, std::int64_t step) {
    const std::int64_t iterations = config.train.iterations, warmup = config.optimizer.warmup;
    expects(step >= 0 && step < iterations, "the step is one of the run's");
    const double left = 1.0 - static_cast<double>(step) / static_cast<double>(iterations);
    double rate = config.optimizer.lr * std::pow(left, config.optimizer.power);
    if (step < warmup) rate *= static_cast<double>(step + 1) / static_cast<double>(warmup);
    return rate;
}

}  // namespace deeplab::config
