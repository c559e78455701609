#include "startup.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <vector>

#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/activity.h"
#include "deeplab/comm/agreement.h"
#include "deeplab/graph/builder.h"
#include "deeplab/train/rank_agreement.h"
#include "deeplab/train/run_folder.h"

namespace deeplab::train {

namespace {

void check_batch(const config::Config& config, std::int64_t ranks) {
    const std::int64_t parts = ranks * config.train.accumulation;
    if (config.train.global_batch % parts == 0) return;
    throw UsageError(cat("train.global_batch ", config.train.global_batch, " is not divisible by ",
                         ranks, " ranks x ", config.train.accumulation,
                         " accumulation — ranks would hold different numbers of samples — use a "
                         "multiple of ",
                         parts, ", or another number of ranks"));
}

// The batch norm behind the image pooling sees one value per channel and sample.
void check_pooling(const config::Config& config, std::int64_t micro_batch_size,
                   std::int64_t batch_norm_ranks) {
    if (config.train.freeze_bn || micro_batch_size * batch_norm_ranks > 1) return;
    throw UsageError(cat(
        "batch normalization behind the image pooling would see one value per channel (a "
        "micro-batch of ",
        micro_batch_size, " on this rank, sync_bn over ", batch_norm_ranks,
        " ranks) — its variance would be zero and the branch would learn nothing — use a larger "
        "train.global_batch, train.sync_bn = \"global\" on more ranks, or train.freeze_bn = true"));
}

void check_classes(const std::string& first, const data::ClassTable& a, const std::string& second,
                   const data::ClassTable& b) {
    bool same = a.classes.size() == b.classes.size() && a.ignore == b.ignore;
    for (std::size_t i = 0; same && i < a.classes.size(); ++i)
        same = a.classes[i].name == b.classes[i].name;
    if (same) return;
    throw DataError(cat("the splits ", first, " and ", second,
                        " have different class tables — a class of one would be judged "
                        "as another class — pack both with the same --classes"));
}

// Without a labelled pixel the loss is 0 from the first step, and with one class soon.
void check_labels(const data::Manifest& manifest, std::int64_t least_classes) {
    const std::int64_t classes = data::classes_that_occur(manifest);
    if (classes >= least_classes) return;
    throw DataError(cat("in the split ", manifest.split,
                        classes == 0 ? " every pixel is ignored" : " only one class occurs",
                        " (label ", manifest.classes.ignore, ": ", manifest.ignore_pixels,
                        " pixels) — there is nothing to ", least_classes > 1 ? "learn" : "judge",
                        " — check masks and --classes of deeplab-pack, and pack again"));
}

void check_data_folder(const std::filesystem::path& data, const std::string& split) {
    std::error_code problem;
    const auto status = std::filesystem::status(data, problem);
    if (std::filesystem::is_directory(status)) return;
    if (!std::filesystem::exists(status) && status.type() != std::filesystem::file_type::none) {
        throw DataError(cat("the data folder ", data.string(),
                            " does not exist — there is nothing to train on — check the path, or "
                            "pack the data there: deeplab-pack --out ",
                            data.string(), " with --voc VOC --split ", split,
                            ", or with --images, --masks, --list and --classes"));
    }
    if (problem) {
        throw DataError(cat("the data folder ", data.string(),
                            " cannot be looked at: ", problem.message(),
                            " — there is nothing to train on — check its permissions and the file "
                            "system"));
    }
    throw DataError(cat("--data ", data.string(),
                        " is a file — the shards stand in a folder — give the folder that "
                        "deeplab-pack wrote"));
}

}  // namespace

std::unique_ptr<comm::Communicator> batch_norm_group(config::SyncBn sync,
                                                     comm::Communicator& sums) {
    switch (sync) {
        case config::SyncBn::global: return sums.duplicate();
        case config::SyncBn::node: return sums.split_by_host();
        case config::SyncBn::none: return comm::make_self();
    }
    throw LogicError("unknown sync_bn");
}

Setup prepare(const TrainOptions& options, comm::Communicator& control,
              std::int64_t batch_norm_ranks) {
    Setup setup;
    comm::agreed(control, true, "the splits' manifests", [&] {
        setup.config = options.config;
        config::Config& config = setup.config;
        check_data_folder(options.data, config.data.train_split);
        setup.train = data::load_manifest(options.data, config.data.train_split);
        const auto classes = static_cast<int>(setup.train.classes.classes.size());
        if (config.model.num_classes == 0) config.model.num_classes = classes;
        if (config.model.num_classes != classes) {
            throw UsageError(
                cat("model.num_classes is ", config.model.num_classes, ", but the split ",
                    setup.train.split, " has ", classes,
                    " classes — labels would have no output, or outputs no label — set it to ",
                    classes, " or leave it out"));
        }
        if (setup.train.records == 0) {
            throw DataError(cat("the split ", setup.train.split,
                                " has no records — there is nothing to train on — pack it again"));
        }
        check_labels(setup.train, 2);
        if (config.train.eval_every > 0) {
            setup.val = data::load_manifest(options.data, config.data.val_split);
            check_classes(setup.train.split, setup.train.classes, setup.val->split,
                          setup.val->classes);
            check_labels(*setup.val, 1);
        }
    });
    require_same_data(control, {&setup.train, setup.val ? &*setup.val : nullptr});
    comm::agreed(control, true, "start-up checks", [&] {
        const config::Config& config = setup.config;
        check_batch(config, control.size());
        setup.micro_batch_size = config.train.global_batch /
                                 (control.size() * config.train.accumulation);
        check_pooling(config, setup.micro_batch_size, batch_norm_ranks);

        const auto& o = config.optimizer;
        setup.plan = model::training_plan(config.model,
                                          {.batch = setup.micro_batch_size,
                                           .height = config.data.augmentation.crop.height,
                                           .width = config.data.augmentation.crop.width,
                                           .freeze_bn = config.train.freeze_bn,
                                           .ignore_label = setup.train.classes.ignore},
                                          {.momentum = static_cast<float>(o.momentum),
                                           .weight_decay = static_cast<float>(o.weight_decay),
                                           .clip_norm = static_cast<float>(o.clip_norm),
                                           .groups = o.groups,
                                           .accumulate_decay = o.accumulate_decay});
        if (config.train.precision == Precision::bf16)
            graph::set_activation_type(setup.plan, DType::bf16);
    });
    require_same_plan(control, graph::hash(setup.plan));
    return setup;
}

void check_shards(const TrainOptions& options, const Setup& setup, comm::Communicator& control) {
    const config::Config& config = setup.config;
    comm::agreed(control, control.rank() == 0, "overlap of the splits", [&] {
        if (!setup.val || config.data.allow_overlap) return;
        const auto train = data::ShardSet(options.data, setup.train.split).ids();
        const auto val = data::ShardSet(options.data, setup.val->split).ids();
        const std::set<std::string> seen(train.begin(), train.end());
        std::vector<std::string> shared;
        std::copy_if(val.begin(), val.end(), std::back_inserter(shared),
                     [&](const auto& id) { return seen.contains(id); });
        if (shared.empty()) return;
        throw DataError(cat("the splits ", setup.train.split, " and ", setup.val->split, " share ",
                            shared.size(), " images, e.g. ", shared.front(),
                            " — the evaluation would be on training data — pack disjoint lists, or "
                            "set data.allow_overlap = true"));
    });
    if (!config.data.verify) return;
    const comm::Phase phase("checking the shards");
    const auto host = control.split_by_host();
    comm::agreed(control, true, "checksums of the shards", [&] {
        for (const data::Manifest* manifest : {&setup.train, setup.val ? &*setup.val : nullptr}) {
            if (manifest == nullptr) continue;
            const auto shards = static_cast<std::int64_t>(manifest->shards.size());
            const data::ShardSet set(options.data, manifest->split);
            for (std::int64_t i = host->rank(); i < shards; i += host->size()) {
                set.verify_files({i});
                comm::beat();
            }
        }
    });
}

CheckpointRoom room_for_checkpoints(const Setup& setup, const std::filesystem::path& run) {
    return checkpoint_room(run, setup.plan.parameter_count * 8 + setup.plan.state_count * 4,
                           setup.config.checkpoint.keep);
}

void check_run_folder(const TrainOptions& options) {
    if (options.resume) return;
    if (const auto file = latest_checkpoint(options.run)) {
        throw UsageError(cat(
            "the run ", options.run.string(), " already has a checkpoint (",
            file->filename().string(),
            ") — it would be overwritten — continue it with --resume, or choose another --out"));
    }
}

}  // namespace deeplab::train
