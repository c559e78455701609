#include "deeplab/weights/averaged_states.h"

namespace deeplab::weights {

AveragedStates::AveragedStates(exec::Backend& backend, const graph::Plan& plan,
                               comm::Communicator& control, bool differ)
    : backend_(backend), plan_(plan) {
    if (!differ || control.size() == 1) return;
    for (const auto& state : plan.states) {
        own_.push_back(backend.download(state));
        std::vector<double> sum(own_.back().begin(), own_.back().end());
        control.all_reduce(sum.data(), sum.size(), DType::f64, comm::ReduceOp::sum,
                           "running statistics");
        std::vector<float> mean;
        for (const double v : sum) mean.push_back(static_cast<float>(v / control.size()));
        backend.upload(state, mean);
    }
}

void AveragedStates::restore() {
    for (std::size_t i = 0; i < own_.size(); ++i) backend_.upload(plan_.states[i], own_[i]);
}

}  // namespace deeplab::weights
