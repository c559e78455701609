#include "keys.h"

#include <regex>

#include "deeplab/base/text.h"
#include "deeplab/config/model_fields.h"

namespace deeplab::config {

namespace {

using io::Array;
using io::Object;
using io::Value;

// std::regex compiles and searches recursively: a longer one could exhaust the stack.
constexpr std::size_t longest_pattern = 1000;

constexpr Real probability{.low = 0, .high = 1};
constexpr Whole positive{.low = 1};

using Words = std::vector<std::string>;

void add_model_keys(Table<Config>& t) {
    for (const auto& f : model_fields()) {
        if (!f.key) continue;
        t.add({f, f.name, [f](Config& c, const Item& i) { f.set(c.model, i); },
               [f](const Config& c) { return f.get(c.model); }, f.takes, f.does});
    }
}

Key crop_size() {
    constexpr Whole side{.low = 33, .high = 4097};
    const std::string takes = cat(side.text(), ", or [height, width] of two such");
    const auto take = [=](const Value& value, const Item& i) {
        return side.take<std::int64_t>({value, i.name, i.where}, takes);
    };
    return {{},
            "data.crop",
            [=](Config& c, const Item& i) {
                if (!i.value.is<Array>()) return void(c.data.augmentation.crop = take(i.value, i));
                const Array& sides = list(i, 2, takes);
                c.data.augmentation.crop = {take(sides[0], i), take(sides[1], i)};
            },
            [](const Config& c) { return crop_value(c.data.augmentation.crop); },
            takes,
            "size of the crops in pixels: the side of squares, or height and width"};
}

Key resize_range() {
    constexpr Real range{.low = 1e-3, .high = 1e5};
    const std::string takes = range.text(2);
    return {{},
            "data.resize.range",
            [=](Config& c, const Item& i) {
                const Array& values = list(i, 2, takes);
                auto& a = c.data.augmentation;
                a.range_low = range.take<double>({values[0], i.name, i.where}, takes);
                a.range_high = range.take<double>({values[1], i.name, i.where}, takes);
                if (a.range_low > a.range_high)
                    i.wrong("two positive numbers, the lower one first");
            },
            [](const Config& c) {
                return Value(Array{Value(c.data.augmentation.range_low),
                                   Value(c.data.augmentation.range_high)});
            },
            takes,
            "of the short edge (whole pixels) or of the factor"};
}

void add_data_keys(Table<Config>& t) {
    using Resize = data::Augmentation::Resize;
    using PadLabel = data::Augmentation::PadLabel;
    t.text("data.train_split", DEEPLAB_MEMBER(data.train_split), "the name of a packed split",
           "the packed split that is trained on");
    t.text("data.val_split", DEEPLAB_MEMBER(data.val_split), "the name of a packed split",
           "the packed split that train.eval_every evaluates");
    t.add(crop_size());
    t.number("data.workers", DEEPLAB_MEMBER(data.workers),
             Whole{.low = 1, .high = 256, .zero = "to choose from the threads"},
             "threads of each rank that decode and augment",
             {.may_change = true, .may_differ = true});
    t.choice(
        "data.resize.mode", DEEPLAB_MEMBER(data.augmentation.resize),
        Named<Resize>{
            {"short_edge", Resize::short_edge}, {"factor", Resize::factor}, {"none", Resize::none}},
        "random size before the crop: the short edge in pixels, a factor, or the image's own");
    t.add(resize_range());
    t.number("data.resize.step", DEEPLAB_MEMBER(data.augmentation.step),
             Real{.low = 0, .high = 1e5},
             "factors are low, low + step, …, with 0 any number of the range");
    t.number("data.flip", DEEPLAB_MEMBER(data.augmentation.flip), probability,
             "probability of mirroring left and right");
    t.number("data.blur", DEEPLAB_MEMBER(data.augmentation.blur), probability,
             "probability of a Gaussian blur of the image, radius up to 1");
    t.flag("data.random_crop", DEEPLAB_MEMBER(data.augmentation.random_crop),
           "a random place of the crop; false: the middle");
    t.choice("data.pad_label", DEEPLAB_MEMBER(data.augmentation.pad_label),
             Named<PadLabel>{{"background", PadLabel::background}, {"ignore", PadLabel::ignore}},
             "of the mask where an image is smaller than the crop: class 0 or ignored");
    t.numbers("data.pad_color", DEEPLAB_MEMBER(data.augmentation.pad_color),
              Whole{.low = 0, .high = 255}, "of the image there, red, green, blue");
    // Where samples are kept changes no number: what fits the machine that a run goes on on.
    t.choice("data.cache", DEEPLAB_MEMBER(data.cache), Words{"none", "host", "device"},
             "where decoded samples are kept: nowhere, in host memory, or (on a GPU) all in its "
             "memory",
             {.may_change = true});
    t.number("data.cache_gib", DEEPLAB_MEMBER(data.cache_gib), Real{.low = 0, .high = 1e6},
             "GiB of host memory that the cache of a rank may take",
             {.may_change = true, .may_differ = true});
    t.flag("data.allow_overlap", DEEPLAB_MEMBER(data.allow_overlap),
           "train and val may share images");
    t.flag("data.verify", DEEPLAB_MEMBER(data.verify),
           "the shards' checksums are compared before the first step");
}

void add_train_keys(Table<Config>& t) {
    constexpr Whole batch{.low = 1, .high = 1 << 20};
    t.number("train.iterations", DEEPLAB_MEMBER(train.iterations), positive,
             "optimizer steps of the whole run", {.may_change = true});
    t.number("train.global_batch", DEEPLAB_MEMBER(train.global_batch), batch,
             "images of a step, over all ranks and accumulation");
    t.number("train.accumulation", DEEPLAB_MEMBER(train.accumulation), batch,
             "micro-batches of a step, one after the other");
    t.choice("train.precision", DEEPLAB_MEMBER(train.precision),
             Named<Precision>{
                 {"fp32", Precision::fp32}, {"tf32", Precision::tf32}, {"bf16", Precision::bf16}},
             "of activations and products; tf32 on a GPU only");
    t.choice("train.grad_dtype", DEEPLAB_MEMBER(train.grad_dtype), Words{"fp32", "bf16"},
             "of the gradients that ranks send");
    t.choice(
        "train.sync_bn", DEEPLAB_MEMBER(train.sync_bn),
        Named<SyncBn>{{"global", SyncBn::global}, {"node", SyncBn::node}, {"none", SyncBn::none}},
        "ranks whose batch statistics are shared: all, those of a host, none");
    t.flag("train.freeze_bn", DEEPLAB_MEMBER(train.freeze_bn),
           "running statistics stay as they are; weight and bias still learn");
    t.number("train.seed", DEEPLAB_MEMBER(train.seed), Whole{.low = 0, .high = INT64_MAX},
             "of initial values, order of samples, augmentation and dropout");
    t.flag("train.deterministic", DEEPLAB_MEMBER(train.deterministic),
           "the same ranks and threads give the same bits (src/README.md)");
    t.flag("train.overlap", DEEPLAB_MEMBER(train.overlap),
           "gradients travel while the backward pass goes on");
    // With each line the ranks' times are summed: it may not differ between them.
    t.number("train.log_every", DEEPLAB_MEMBER(train.log_every), positive,
             "steps for one line of progress and of metrics.jsonl", {.may_change = true});
    t.number("train.eval_every", DEEPLAB_MEMBER(train.eval_every),
             Whole{.low = 1, .zero = "for never"}, "steps between evaluations of data.val_split",
             {.may_change = true});
    t.choice("train.on_nonfinite", DEEPLAB_MEMBER(train.on_nonfinite), Words{"stop", "rollback"},
             "a loss or gradient that is no number ends the run, or its step is passed");
    t.number("train.watchdog_s", DEEPLAB_MEMBER(train.watchdog_s),
             Real{.ends = Ends::high, .zero = "for no limit"},
             "without progress for this many seconds the job is ended", {.may_change = true});
}

const char* const groups_taken = "a list of tables ([[optimizer.groups]])";

model::GroupRule read_group(const Item& item) {
    const auto* object = item.value.get_if<Object>();
    if (object == nullptr) item.wrong(groups_taken);
    const std::vector<std::string> names = {"match", "lr_multiplier", "weight_decay",
                                            "steps_per_iteration"};
    const Real not_negative;
    const Whole steps{.low = 1, .high = 1000};
    model::GroupRule rule;
    rule.weight_decay = unset_weight_decay;
    for (const auto& [name, value] : object->members()) {
        const Item part{value, cat(item.name, ".", name),
                        value.line > 0 ? cat("line ", value.line) : item.where};
        if (name == "match") {
            rule.match = word(part, "a regular expression on parameter names");
            if (rule.match.size() > longest_pattern)
                part.wrong(cat("a pattern of at most ", longest_pattern, " characters"));
            try {
                const std::regex check(rule.match);
            } catch (const std::regex_error& error) {
                part.wrong(cat("a regular expression (", error.what(), ")"));
            }
        } else if (name == "lr_multiplier") {
            rule.lr_multiplier = not_negative.take<float>(part, not_negative.text());
        } else if (name == "weight_decay") {
            rule.weight_decay = not_negative.take<float>(part, not_negative.text());
        } else if (name == "steps_per_iteration") {
            rule.steps = steps.take<int>(part, steps.text());
        } else {
            const std::string near = nearest(name, names);
            throw UsageError(cat("unknown key ", part.name, " (", part.where,
                                 ") — it would do nothing — ",
                                 near.empty() ? "remove it" : cat("did you mean ", near, "?")));
        }
    }
    if (rule.match.empty())
        item.wrong("complete: a group needs match = \"regular expression on parameter names\"");
    return rule;
}

void add_optimizer_keys(Table<Config>& t) {
    t.number("optimizer.lr", DEEPLAB_MEMBER(optimizer.lr), Real{},
             "learning rate at the start; never scaled by ranks or batch");
    t.number("optimizer.momentum", DEEPLAB_MEMBER(optimizer.momentum),
             Real{.low = 0, .high = 1, .ends = Ends::low}, "of SGD");
    t.number("optimizer.weight_decay", DEEPLAB_MEMBER(optimizer.weight_decay), Real{},
             "of all parameters, unless a group says otherwise");
    t.number("optimizer.power", DEEPLAB_MEMBER(optimizer.power), Real{.low = 0, .high = 100},
             "rate of a step: lr * (1 - step / iterations) ^ power");
    t.number("optimizer.warmup", DEEPLAB_MEMBER(optimizer.warmup), Whole{},
             "steps over which the rate rises from 0");
    t.number("optimizer.clip_norm", DEEPLAB_MEMBER(optimizer.clip_norm),
             Real{.ends = Ends::high, .zero = "for any"}, "largest norm of the whole gradient");
    t.flag("optimizer.accumulate_decay", DEEPLAB_MEMBER(optimizer.accumulate_decay),
           "over a group's repeated steps decay piles up in the gradient");
    t.add({{},
           "optimizer.groups",
           [](Config& c, const Item& i) {
               const auto* rules = i.value.get_if<Array>();
               if (rules == nullptr) i.wrong(groups_taken);
               c.optimizer.groups.clear();
               for (const Value& v : *rules)
                   c.optimizer.groups.push_back(read_group({v, i.name, i.where}));
           },
           [](const Config& c) {
               Array rules;
               for (const auto& rule : c.optimizer.groups) {
                   Object group;
                   group["match"] = rule.match;
                   group["lr_multiplier"] = Real::value(rule.lr_multiplier);
                   group["weight_decay"] = Real::value(rule.weight_decay);
                   group["steps_per_iteration"] = rule.steps;
                   rules.emplace_back(group);
               }
               return Value(rules);
           },
           groups_taken,
           "of parameters, by a pattern on their names: match, lr_multiplier (1), weight_decay "
           "(optimizer.weight_decay), steps_per_iteration (1)"});
}

void add_checkpoint_keys(Table<Config>& t) {
    t.number("checkpoint.every", DEEPLAB_MEMBER(checkpoint.every),
             Whole{.low = 1, .zero = "for only at the end"}, "steps between checkpoints",
             {.may_change = true});
    t.number("checkpoint.minutes", DEEPLAB_MEMBER(checkpoint.minutes),
             Real{.ends = Ends::high, .zero = "to look at steps alone"},
             "a checkpoint when the last is this old", {.may_change = true});
    t.number("checkpoint.keep", DEEPLAB_MEMBER(checkpoint.keep), positive,
             "newest checkpoints that stay; best.h5 stays always", {.may_change = true});
}

}  // namespace

io::Value crop_value(const data::CropSize& crop) {
    if (crop.height == crop.width) return Value(crop.height);
    return Value(Array{Value(crop.height), Value(crop.width)});
}

const Fields<Config>& all_keys() {
    static const auto keys = [] {
        Table<Config> t;
        add_model_keys(t);
        add_data_keys(t);
        add_train_keys(t);
        add_optimizer_keys(t);
        add_checkpoint_keys(t);
        return std::move(t).fields();
    }();
    return keys;
}

}  // namespace deeplab::config
