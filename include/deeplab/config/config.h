#pragma once
// A training run's configuration: TOML in, TOML out (RUN/config.toml holds every value).

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "deeplab/data/loader.h"
#include "deeplab/io/value.h"
#include "deeplab/model/deeplab.h"

namespace deeplab::config {

enum class SyncBn { global, node, none };

struct Config {
    model::ModelConfig model;  // num_classes 0 (what load_config starts from): the manifest's
    struct Data {
        std::string train_split = "train_aug", val_split = "val";
        data::Augmentation augmentation;
        std::int64_t workers = 0;  // 0: chosen from the threads of the rank
        // Decoded samples: "host" keeps them in host memory; "device", on a GPU, all images and
        // masks of train_split in its memory, and the masks in host memory, too.
        std::string cache = "none";
        double cache_gib = 8;  // of host memory: at most, on each rank
        bool allow_overlap = false, verify = true;
    } data;
    struct Train {
        std::int64_t iterations = 30000, global_batch = 16, accumulation = 1;
        Precision precision = Precision::fp32;
        std::string grad_dtype = "fp32";
        SyncBn sync_bn = SyncBn::global;
        bool freeze_bn = false;
        // The same ranks and threads give the same bits. The CPU backend always does: false changes
        // nothing there. See src/README.md, "The same bits again".
        bool deterministic = true;
        bool overlap = true;
        std::int64_t seed = 1;
        std::int64_t log_every = 10, eval_every = 0;
        std::string on_nonfinite = "stop";
        // A rank without progress for this long ends the job (train/watchdog.h); 0: none does.
        double watchdog_s = 600;
    } train;
    struct Optimizer {
        double lr = 0.007, momentum = 0.9, weight_decay = 4e-5, power = 0.9;
        std::int64_t warmup = 0;
        double clip_norm = 0;
        bool accumulate_decay = false;  // over a group's steps_per_iteration (math/sgd.h)
        std::vector<model::GroupRule> groups;
    } optimizer;
    struct Checkpoint {
        std::int64_t every = 0;  // steps; 0: only at the end
        double minutes = 0;      // and when this long since the last; 0: off
        std::int64_t keep = 3;
    } checkpoint;
};

// Reads `file` ("" : defaults only) and applies `overrides` ("train.seed=3"). UsageError names key,
// line and the nearest valid key.
Config load_config(const std::filesystem::path& file, const std::vector<std::string>& overrides);
// The same from text; `what` names it in errors.
Config parse_config(const std::string& text, const std::string& what,
                    const std::vector<std::string>& overrides);
std::string to_toml(const Config& config);
// A crop as data.crop has it: [height, width], or N for a square. A square given as [N, N] is N
// from there on: in files, hashes and comparisons.
io::Value crop_value(const data::CropSize& crop);
// One flat object, for scripts: every key by its full name ("train.iterations") with its value.
std::string to_json(const Config& config);
// What weights files keep of it: without the keys that came after the first files and have their
// default. Equal configurations give equal files, and older programs read them.
std::string to_stored_toml(const Config& config);
// Every key with its default, what it takes and what it does, as a Markdown table per section:
// jobs/configs/README.md.
std::string config_reference();
// Names of the keys that differ between two configurations and may not change on --resume.
std::vector<std::string> frozen_differences(const Config& run, const Config& now);
// Of the keys that may: "train.iterations: 5 -> 8".
std::vector<std::string> other_differences(const Config& run, const Config& now);

// Names and values (as JSON) of the keys that all ranks of a job must share.
std::vector<std::pair<std::string, std::string>> shared_values(const Config& config);

// Of the update that follows `step` updates: lr * (1 - step/iterations)^power, times
// (step+1)/warmup while step < warmup.
double learning_rate(const Config& config, std::int64_t step);

}  // namespace deeplab::config
