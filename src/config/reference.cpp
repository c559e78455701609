// The list of keys that users read: made from the table that reads them.

#include <algorithm>
#include <utility>

#include "keys.h"

namespace deeplab::config {

namespace {

using Line = std::pair<const char*, const char*>;

// What each key does; every key of the table has its line here.
constexpr Line meanings[] = {
    {"model.backbone", "the ResNet that makes the features"},
    {"model.output_stride",
     "pixels of the image for one of the backbone's last map; 8 costs about three times 16"},
    {"model.num_classes", "outputs of the classifier; with 0 those of the packed split"},
    {"model.dropout", "behind the ASPP's projection and the decoder's two 3x3 convolutions"},
    {"model.bn_eps", "added to the variance in batch normalization"},
    {"model.bn_momentum", "of the running statistics"},
    {"data.train_split", "the packed split that is trained on"},
    {"data.val_split", "the packed split that train.eval_every evaluates"},
    {"data.crop", "side of the square crops, in pixels"},
    {"data.workers", "threads of each rank that decode and augment"},
    {"data.resize.mode",
     "random size before the crop: the short edge in pixels, a factor, or the image's own"},
    {"data.resize.range", "of the short edge (whole pixels) or of the factor"},
    {"data.resize.step", "factors are low, low + step, …, with 0 any number of the range"},
    {"data.flip", "of mirroring left and right"},
    {"data.blur", "of a Gaussian blur of the image, radius up to 1"},
    {"data.random_crop", "a random place of the crop; false: the middle"},
    {"data.pad_label", "of the mask where an image is smaller than the crop: class 0 or ignored"},
    {"data.pad_color", "of the image there, red, green, blue"},
    {"data.cache",
     "where decoded samples are kept: nowhere, in host memory, or (on a GPU) all in its memory"},
    {"data.cache_gib", "GiB of host memory that the cache of a rank may take"},
    {"data.allow_overlap", "train and val may share images"},
    {"data.verify", "the shards' checksums are compared before the first step"},
    {"train.iterations", "optimizer steps of the whole run"},
    {"train.global_batch", "images of a step, over all ranks and accumulation"},
    {"train.accumulation", "micro-batches of a step, one after the other"},
    {"train.precision", "of activations and products; tf32 on a GPU only"},
    {"train.grad_dtype", "of the gradients that ranks send"},
    {"train.sync_bn", "ranks whose batch statistics are shared: all, those of a node, none"},
    {"train.freeze_bn", "running statistics stay as they are; weight and bias still learn"},
    {"train.seed", "of initial values, order of samples, augmentation and dropout"},
    {"train.deterministic", "the same ranks and threads give the same bits (src/README.md)"},
    {"train.overlap", "gradients travel while the backward pass goes on"},
    {"train.log_every", "steps for one line of progress and of metrics.jsonl"},
    {"train.eval_every", "steps between evaluations of data.val_split"},
    {"train.on_nonfinite",
     "a loss or gradient that is no number ends the run, or its step is passed"},
    {"train.watchdog_s", "without progress for this long the job is ended"},
    {"optimizer.lr", "learning rate at the start; never scaled by ranks or batch"},
    {"optimizer.momentum", "of SGD"},
    {"optimizer.weight_decay", "of all parameters, unless a group says otherwise"},
    {"optimizer.power", "rate of a step: lr * (1 - step / iterations) ^ power"},
    {"optimizer.warmup", "steps over which the rate rises from 0"},
    {"optimizer.clip_norm", "largest norm of the whole gradient; 0: any"},
    {"optimizer.accumulate_decay", "over a group's repeated steps decay piles up in the gradient"},
    {"optimizer.groups",
     "of parameters, by a pattern on their names: match, lr_multiplier (1), weight_decay "
     "(optimizer.weight_decay), steps_per_iteration (1)"},
    {"checkpoint.every", "steps between checkpoints"},
    {"checkpoint.minutes", "a checkpoint when the last is this old"},
    {"checkpoint.keep", "newest checkpoints that stay; best.h5 stays always"},
};

std::string meaning(const std::string& name) {
    const auto* found = std::find_if(std::begin(meanings), std::end(meanings),
                                     [&](const Line& line) { return line.first == name; });
    ensures(found != std::end(meanings), "every key has its meaning written down");
    return found->second;
}

}  // namespace

std::string config_reference() {
    Config defaults;
    defaults.model.num_classes = 0;
    std::string text, section;
    for (const Key& key : all_keys()) {
        const auto dot = key.name.find('.');
        const std::string table = key.name.substr(0, dot);
        if (table != section) {
            text += cat(text.empty() ? "" : "\n", "### [", table,
                        "]\n| key | default | takes | what it does |\n|---|---|---|---|\n");
            section = table;
        }
        text += cat("| ", key.name.substr(dot + 1), key.may_change ? " \u21bb" : "",
                    key.may_differ ? " \u2260" : "", " | `", io::to_json(key.get(defaults)), "` | ",
                    key.expected, " | ", meaning(key.name), " |\n");
    }
    return text;
}

}  // namespace deeplab::config
