#include "continuity.h"

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/config/fields.h"
#include "deeplab/config/model_fields.h"
#include "deeplab/data/split_content.h"
#include "deeplab/io/features.h"
#include "deeplab/weights/class_names.h"

namespace deeplab::train {

namespace {

void check_configuration(const config::Config& was, const config::Config& config,
                         const std::filesystem::path& file) {
    const auto names = config::frozen_differences(was, config);
    if (names.empty()) return;
    std::string list;
    for (const auto& name : names) list += cat(list.empty() ? "" : ", ", name);
    throw UsageError(cat(list, names.size() == 1 ? " differs" : " differ",
                         " from the run's configuration (", file.string(),
                         ") — the resumed run would be another one — restore the old value, or "
                         "start a new run with --init ",
                         file.string()));
}

config::Config configuration_of(const weights::WeightsInfo& info,
                                const std::filesystem::path& file) {
    try {
        return config::parse_config(info.config_toml, cat("configuration in ", file.string()), {});
    } catch (const UsageError& error) {
        const std::string text = error.what();  // "what is wrong — why — what to do"
        throw io::NewerFile(cat("the run's configuration is not one that this program knows: ",
                                text.substr(0, text.find(" — ")),
                                " — the run would go on as another one — use the version of "
                                "deeplab-hpc that wrote it, or a newer one"));
    }
}

// "" when the split is as it was, or when that cannot be told.
std::string difference(const char* what, const std::string& before, const std::string& now) {
    if (before.empty() || now.empty()) return "";
    const std::string text = data::content_difference(data::parse_content(before),
                                                      data::parse_content(now));
    return text.empty() ? "" : cat("the shards of ", what, " had ", text);
}

}  // namespace

Continuation check_resumed(const weights::WeightsInfo& before, const weights::WeightsInfo& now,
                           const config::Config& config, const TrainOptions& options,
                           const std::filesystem::path& file) {
    // Before the configuration, whose model.num_classes is the data's.
    const std::size_t had = before.classes.classes.size(), has = now.classes.classes.size();
    if (had != has)
        throw DataError(cat("the run has learned ", had, " classes, the data has ", has, " (",
                            file.string(),
                            ") — the classifier has an output for each: no option makes this run "
                            "go on — give the --data folder of the run's start, or start a new run "
                            "in another --out with --init ",
                            file.string(), " --reset-classifier"));
    const config::Config was = configuration_of(before, file);
    check_configuration(was, config, file);
    const auto train_split = cat("split ", config.data.train_split),
               val_split = cat("split ", config.data.val_split);
    if (before.train_list_hash != now.train_list_hash) {
        throw DataError(cat("the images of ", train_split,
                            " are not those that the run was started on (list hash ",
                            now.train_list_hash, ", the run's ", before.train_list_hash,
                            ") — the order of samples would not go on — give the --data folder of "
                            "the run's start"));
    }
    const weights::ClassDifference differs = weights::compare_classes(before.classes, now.classes);
    std::string changed = differs.text;
    const int was_ignored = before.classes.ignore, ignored = now.classes.ignore;
    for (const std::string& text :
         {was_ignored == ignored
              ? std::string()
              : cat("the label ", was_ignored, " was ignored and now ", ignored, " is"),
          difference(train_split.c_str(), before.train_content, now.train_content),
          difference(val_split.c_str(), before.val_content, now.val_content)}) {
        if (!text.empty()) changed += cat(changed.empty() ? "" : "; ", text);
    }
    if (!changed.empty() && !options.allow_changed_data) {
        throw DataError(cat("the data is not that of the run's start (", file.string(),
                            "): ", changed,
                            " — steps before and after would learn from different masks, and their "
                            "mIoU could not be compared — give the --data folder of the run's "
                            "start, go on deliberately with --allow-changed-data, or start a new "
                            "run with --init ",
                            file.string(), differs ? " --reset-classifier" : ""));
    }
    Continuation result{config::other_differences(was, config), {}};
    if (!changed.empty())
        result.notes.push_back(
            cat("going on with changed data, as --allow-changed-data says: ", changed));
    if (before.train_content.empty()) {
        result.notes.push_back(
            cat(file.filename().string(),
                " was written by an older version, which kept no checksums of the shards: the ids "
                "of the images and the names of the classes were compared, their masks were not"));
    }
    return result;
}

void check_initial_network(const weights::WeightsFile& file, const model::ModelConfig& model) {
    if (const auto trained = weights::trained_as(file)) {
        const config::Switches theirs = config::switches(*trained, model);
        if (!theirs.text.empty()) {
            throw UsageError(cat("the weights (", file.path().string(), ") were trained with ",
                                 theirs.text,
                                 ", which this run has not — the same weights would be another "
                                 "function — give ",
                                 theirs.options, ", or the same in [model]"));
        }
    }
    const auto seen = weights::normalisation_of(file);
    if (!seen || (seen->mean == model.mean && seen->std == model.std)) return;
    const auto text = [](const std::array<float, 3>& values) {
        std::string list;
        for (const float v : values)
            list += cat(list.empty() ? "[" : ", ", io::to_json(config::Real::value(v)));
        return list + "]";
    };
    throw UsageError(cat("model.mean and model.std are ", text(model.mean), " and ",
                         text(model.std), ", and the weights (", file.path().string(),
                         ") were trained with ", text(seen->mean), " and ", text(seen->std),
                         " — the network would see images of another brightness and contrast than "
                         "it knows — give --set model.mean=\"",
                         text(seen->mean), "\" --set model.std=\"", text(seen->std),
                         "\", or the same in [model]"));
}

std::vector<std::string> check_initial_classes(const weights::WeightsFile& file,
                                               const data::ClassTable& classes,
                                               const TrainOptions& options) {
    // What no training has touched knows no classes.
    if (options.reset_classifier || !file.info() || !file.untrained().empty()) return {};
    const weights::ClassDifference differs = weights::compare_classes(file.info()->classes,
                                                                      classes);
    if (!differs) return {};
    if (options.keep_classifier)
        return {cat("the classifier is kept, as --keep-classifier says: ", differs.text)};
    throw UsageError(cat(differs.text, " (", file.path().string(),
                         ") — the classifier's outputs would be taken for other classes — give "
                         "--reset-classifier to start it afresh and keep the rest",
                         differs.moved
                             ? ", or pack the data with the classes in the weights' order"
                             : ", or --keep-classifier when they are the same under other names"));
}

}  // namespace deeplab::train
