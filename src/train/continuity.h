#pragma once
// Whether a run's start and the weights that it begins from belong together.

#include <filesystem>
#include <string>
#include <vector>

#include "deeplab/train/run_training.h"
#include "deeplab/weights/checkpoint.h"
#include "deeplab/weights/weights.h"

namespace deeplab::train {

struct Continuation {
    std::vector<std::string> changes;  // of keys that may change: "train.iterations: 5 -> 8"
    std::vector<std::string> notes;    // what the user should know, in sentences
};

// A resumed run goes on with the same configuration (but for keys that may change), images, masks
// and classes as the checkpoint `file`: UsageError or DataError otherwise. `now` describes this
// start.
Continuation check_resumed(const weights::WeightsInfo& before, const weights::WeightsInfo& now,
                           const config::Config& config, const TrainOptions& options,
                           const std::filesystem::path& file);

// Weights of --init see the images that they were trained on, by mean and deviation, and are
// dilated by the same rule: UsageError otherwise.
void check_initial_network(const weights::WeightsFile& file, const model::ModelConfig& model);

// A classifier that is taken from --init knows the data's classes, in their order: UsageError
// otherwise, unless options say so. Returns notes as above.
std::vector<std::string> check_initial_classes(const weights::WeightsFile& file,
                                               const data::ClassTable& classes,
                                               const TrainOptions& options);

}  // namespace deeplab::train
