#pragma once
// Texts about a run: environment.json, --dry-run, pictures.

#include <cstdint>
#include <span>
#include <string>

#include "deeplab/graph/memory_plan.h"
#include "startup.h"

namespace deeplab::train {

// Decode-and-augment threads of a rank: as configured, else half its threads, at most 16.
int loader_workers(const config::Config& config, int threads);

// NCCL's variables as this rank has them once the plan is compiled. Collective.
std::string environment_json(const TrainOptions& options, exec::Backend& backend,
                             comm::Communicator& control, comm::Communicator& gradients,
                             std::int64_t first_step);
// The plan as lines, for RUN/plan.txt.
std::string plan_text(const graph::Plan& plan);
// For scripts: what a run needs, as one flat JSON object. A rank's memory lies on its GPU
// (`on_device`) or in the host's; what convolutions take beside it, and batches on their way, do
// not count.
std::string needs_json(const Setup& setup, std::int64_t ranks, bool on_device,
                       const CheckpointRoom& checkpoints);
// Rank 0 prints to stdout; the ranks and their devices are preflight's.
void print_dry_run(const Setup& setup, const graph::MemoryPlan& memory,
                   comm::Communicator& control);

// input | truth | prediction.
io::Image side_by_side(const io::Image& image, const io::Mask& truth, const io::Mask& predicted,
                       std::span<const io::Rgb> palette);

}  // namespace deeplab::train
