#pragma once
// Stochastic gradient descent with momentum, one parameter (torch.optim.SGD, no Nesterov, no
// dampening).

#include "deeplab/math/macros.h"

namespace deeplab::math {

struct SgdRule {
    float learning_rate, momentum, weight_decay;
    int steps;  // on the same gradient: what a parameter listed several times in torch's groups got
    // torch before 1.5 added weight decay to the stored gradient: step i on it has added it i
    // times.
    bool accumulate_decay = false;
};

// `buffer` starts a run as zero: the first step makes it the gradient, as torch does.
DEEPLAB_HD inline void sgd(float& value, float& buffer, float gradient, const SgdRule& rule) {
    for (int i = 0; i < rule.steps; ++i) {
        const float decayed = gradient + rule.weight_decay * value;
        if (rule.accumulate_decay) gradient = decayed;
        buffer = rule.momentum * buffer + decayed;
        value -= rule.learning_rate * buffer;
    }
}

// torch.nn.utils.clip_grad_norm_: what the gradient is multiplied by. limit 0: nothing is clipped.
DEEPLAB_HD inline double clip_factor(double norm, double limit) {
    if (!(limit > 0)) return 1.0;
    const double factor = limit / (norm + 1e-6);
    return factor < 1.0 ? factor : 1.0;
}

}  // namespace deeplab::math
