#pragma once
// Running statistics of several batch-norm groups, as one network's.

#include <vector>

#include "deeplab/comm/communicator.h"
#include "deeplab/exec/backend.h"

namespace deeplab::weights {

// While an object lives the backend holds the statistics' average over ranks; collective. Each
// rank's stand for as many samples as any other's (in a group all ranks hold the group's), so the
// mean over ranks weights groups by their count.
class AveragedStates {
public:
    // differ: the ranks' statistics may differ; otherwise nothing is done.
    AveragedStates(exec::Backend& backend, const graph::Plan& plan, comm::Communicator& control,
                   bool differ);
    AveragedStates(const AveragedStates&) = delete;
    AveragedStates& operator=(const AveragedStates&) = delete;

    void restore();  // gives each rank its own back

private:
    exec::Backend& backend_;
    const graph::Plan& plan_;
    std::vector<std::vector<float>> own_;
};

}  // namespace deeplab::weights
