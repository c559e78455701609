#pragma once
// What is checked before anything is allocated or written.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "deeplab/data/shard.h"
#include "deeplab/graph/plan.h"
#include "deeplab/model/deeplab.h"
#include "deeplab/train/run_folder.h"
#include "deeplab/train/run_training.h"

namespace deeplab::train {

struct Setup {
    config::Config config;  // as asked for, with the number of classes of the data set
    data::Manifest train;
    std::optional<data::Manifest> val;  // when the run evaluates
    std::int64_t micro_batch_size = 0;  // samples of one micro-batch on this rank
    graph::Plan plan;
};

// The ranks among which batch-norm sums travel. Collective.
std::unique_ptr<comm::Communicator> batch_norm_group(config::SyncBn sync, comm::Communicator& sums);

// Cheap: manifests, classes, batch, pooling, plan. The same on all ranks, or the same Error on all.
Setup prepare(const TrainOptions& options, comm::Communicator& control,
              std::int64_t batch_norm_ranks);

// Reads shards: train and val share no id; every file's checksum, once a host.
void check_shards(const TrainOptions& options, const Setup& setup, comm::Communicator& control);

// What this run's checkpoints take: parameters and momentum, and running statistics.
CheckpointRoom room_for_checkpoints(const Setup& setup, const std::filesystem::path& run);

// A run with a checkpoint is gone on with only when asked to: UsageError otherwise. Touches
// nothing.
void check_run_folder(const TrainOptions& options);

}  // namespace deeplab::train
