#include "keys.h"

#include <charconv>
#include <regex>
#include <type_traits>
#include <utility>

namespace deeplab::config {

namespace {

using io::Array;
using io::Object;
using io::Value;

double number(const Item& item, double low, double high, const std::string& expected) {
    double v = 0;
    if (const auto* real = item.value.get_if<double>())
        v = *real;
    else if (const auto* whole = item.value.get_if<std::int64_t>())
        v = static_cast<double>(*whole);
    else
        item.wrong(expected);
    if (!(v >= low && v <= high)) item.wrong(expected);
    return v;
}

std::int64_t integer(const Item& item, std::int64_t low, std::int64_t high,
                     const std::string& expected) {
    const auto* v = item.value.get_if<std::int64_t>();
    if (v == nullptr || *v < low || *v > high) item.wrong(expected);
    return *v;
}

std::string text(const Item& item, const std::string& expected) {
    const auto* v = item.value.get_if<std::string>();
    if (v == nullptr || v->empty()) item.wrong(expected);
    return *v;
}

const Array& array(const Item& item, std::size_t size, const char* expected) {
    const auto* v = item.value.get_if<Array>();
    if (v == nullptr || v->size() != size) item.wrong(expected);
    return *v;
}

// The double whose shortest decimal form is the float's: 0.1, not 0.10000000149.
double tidy(float value) {
    char buffer[64];
    const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value).ptr;
    double result = 0;
    std::from_chars(buffer, end, result);
    return result;
}

constexpr double huge = 1e30;
// std::regex compiles and searches recursively: a longer one could exhaust the stack.
constexpr std::size_t longest_pattern = 1000;
constexpr std::int64_t huge_int = std::int64_t{1} << 40;

// A key of the table bound to one field; `field` takes a Config& or a const Config& and returns a
// reference.
template <class Field>
Key real_key(const char* name, Field field, double low, double high, const char* expected,
             bool may_change = false) {
    return {name, [=](Config& c, const Item& i) { field(c) = number(i, low, high, expected); },
            [=](const Config& c) { return Value(static_cast<double>(field(c))); }, expected,
            may_change};
}

template <class Field>
Key float_key(const char* name, Field field, double low, double high, const char* expected) {
    return {name,
            [=](Config& c, const Item& i) {
                field(c) = static_cast<float>(number(i, low, high, expected));
            },
            [=](const Config& c) { return Value(tidy(field(c))); }, expected};
}

template <class Field>
Key int_key(const char* name, Field field, std::int64_t low, std::int64_t high,
            const char* expected, bool may_change = false) {
    return {name,
            [=](Config& c, const Item& i) {
                field(c) = static_cast<std::decay_t<decltype(field(c))>>(
                    integer(i, low, high, expected));
            },
            [=](const Config& c) { return Value(static_cast<std::int64_t>(field(c))); }, expected,
            may_change};
}

template <class Field>
Key bool_key(const char* name, Field field) {
    return {name,
            [=](Config& c, const Item& i) {
                const auto* v = i.value.get_if<bool>();
                if (v == nullptr) i.wrong("true or false");
                field(c) = *v;
            },
            [=](const Config& c) { return Value(static_cast<bool>(field(c))); }, "true or false"};
}

template <class Field>
Key text_key(const char* name, Field field, const char* expected) {
    return {name, [=](Config& c, const Item& i) { field(c) = text(i, expected); },
            [=](const Config& c) { return Value(std::string(field(c))); }, expected};
}

// One of a few words, each a value of the field. `later` holds words that are promised but not
// there yet.
template <class Field, class T>
Key choice_key(const char* name, Field field, std::vector<std::pair<std::string, T>> words,
               std::vector<std::string> promised = {}) {
    std::string expected = "one of";
    for (std::size_t i = 0; i < words.size(); ++i)
        expected += cat(i == 0 ? " \"" : ", \"", words[i].first, "\"");
    return {name,
            [=](Config& c, const Item& i) {
                const auto* v = i.value.get_if<std::string>();
                if (v == nullptr) i.wrong(expected);
                for (const auto& [word, value] : words) {
                    if (word == *v) {
                        field(c) = value;
                        return;
                    }
                }
                for (const auto& word : promised) {
                    if (word == *v)
                        i.later(cat("\"", word,
                                    "\" is not implemented yet — this run would not do it — use ",
                                    expected));
                }
                i.wrong(expected);
            },
            [=](const Config& c) {
                for (const auto& [word, value] : words) {
                    if (value == field(c)) return Value(word);
                }
                throw LogicError(cat("configuration key ", name, " holds a value without a word"));
            },
            expected};
}

using Words = std::vector<std::pair<std::string, std::string>>;

#define DEEPLAB_FIELD(path) \
    [](auto& c) -> auto& { return c.path; }

void add_model_keys(std::vector<Key>& keys) {
    Words backbones;
    for (const auto& name : model::backbone_names()) backbones.emplace_back(name, name);
    keys.push_back(choice_key("model.backbone", DEEPLAB_FIELD(model.backbone), backbones));
    keys.push_back({"model.output_stride",
                    [](Config& c, const Item& i) {
                        const auto v = integer(i, 8, 16, "8 or 16");
                        if (v != 8 && v != 16) i.wrong("8 or 16");
                        c.model.output_stride = static_cast<int>(v);
                    },
                    [](const Config& c) { return Value(c.model.output_stride); }, "8 or 16"});
    keys.push_back(int_key("model.num_classes", DEEPLAB_FIELD(model.num_classes), 0, 255,
                           "an integer from 2 to 255, or 0 for the data set's"));
    const char* dropout = "three probabilities in [0, 1), e.g. [0.5, 0.5, 0.1]";
    keys.push_back(
        {"model.dropout",
         [expected = dropout](Config& c, const Item& i) {
             const Array& values = array(i, 3, expected);
             for (std::size_t k = 0; k < 3; ++k) {
                 const double p = number({values[k], i.key, i.where}, 0, 0.999, expected);
                 c.model.dropout[k] = static_cast<float>(p);
             }
         },
         [](const Config& c) {
             Array values;
             for (const float p : c.model.dropout) values.emplace_back(tidy(p));
             return Value(values);
         },
         dropout});
    keys.push_back(
        float_key("model.bn_eps", DEEPLAB_FIELD(model.bn_eps), 1e-12, 1, "a number in (0, 1]"));
    keys.push_back(float_key("model.bn_momentum", DEEPLAB_FIELD(model.bn_momentum), 0, 1,
                             "a number in [0, 1] (PyTorch's sense: the weight of the new batch)"));
}

void add_data_keys(std::vector<Key>& keys) {
    using Resize = data::Augmentation::Resize;
    using PadLabel = data::Augmentation::PadLabel;
    keys.push_back(text_key("data.train_split", DEEPLAB_FIELD(data.train_split),
                            "the name of a packed split"));
    keys.push_back(
        text_key("data.val_split", DEEPLAB_FIELD(data.val_split), "the name of a packed split"));
    keys.push_back(int_key("data.crop", DEEPLAB_FIELD(data.augmentation.crop), 33, 4097,
                           "an integer from 33 to 4097"));
    keys.push_back(int_key("data.workers", DEEPLAB_FIELD(data.workers), 0, 256,
                           "an integer from 1 to 256, or 0 to choose from the threads", true));
    keys.push_back(
        choice_key("data.resize.mode", DEEPLAB_FIELD(data.augmentation.resize),
                   std::vector<std::pair<std::string, Resize>>{{"short_edge", Resize::short_edge},
                                                               {"factor", Resize::factor},
                                                               {"none", Resize::none}}));
    const char* range = "two positive numbers, low and high";
    keys.push_back(
        {"data.resize.range",
         [expected = range](Config& c, const Item& i) {
             const Array& values = array(i, 2, expected);
             const double low = number({values[0], i.key, i.where}, 1e-3, 1e5, expected);
             const double high = number({values[1], i.key, i.where}, 1e-3, 1e5, expected);
             if (low > high) i.wrong("two positive numbers, the lower one first");
             c.data.augmentation.range_low = low;
             c.data.augmentation.range_high = high;
         },
         [](const Config& c) {
             return Value(Array{Value(c.data.augmentation.range_low),
                                Value(c.data.augmentation.range_high)});
         },
         range});
    keys.push_back(real_key("data.resize.step", DEEPLAB_FIELD(data.augmentation.step), 0, 1e5,
                            "a number not below 0 (0: any factor of the range)"));
    keys.push_back(
        real_key("data.flip", DEEPLAB_FIELD(data.augmentation.flip), 0, 1, "a probability"));
    keys.push_back(
        real_key("data.blur", DEEPLAB_FIELD(data.augmentation.blur), 0, 1, "a probability"));
    keys.push_back(bool_key("data.random_crop", DEEPLAB_FIELD(data.augmentation.random_crop)));
    keys.push_back(
        choice_key("data.pad_label", DEEPLAB_FIELD(data.augmentation.pad_label),
                   std::vector<std::pair<std::string, PadLabel>>{
                       {"background", PadLabel::background}, {"ignore", PadLabel::ignore}}));
    const char* levels = "three integers from 0 to 255";
    keys.push_back({"data.pad_color",
                    [expected = levels](Config& c, const Item& i) {
                        const Array& values = array(i, 3, expected);
                        for (std::size_t k = 0; k < 3; ++k) {
                            c.data.augmentation.pad_color[k] = static_cast<std::uint8_t>(
                                integer({values[k], i.key, i.where}, 0, 255, expected));
                        }
                    },
                    [](const Config& c) {
                        Array values;
                        for (const auto v : c.data.augmentation.pad_color)
                            values.emplace_back(static_cast<int>(v));
                        return Value(values);
                    },
                    levels});
    keys.push_back(choice_key("data.cache", DEEPLAB_FIELD(data.cache),
                              Words{{"none", "none"}, {"host", "host"}, {"device", "device"}}));
    // Where samples are kept changes no number: what fits the machine that a run goes on on.
    keys.back().may_change = true;
    keys.push_back(real_key("data.cache_gib", DEEPLAB_FIELD(data.cache_gib), 0, 1e6,
                            "GiB of host memory for each rank", true));
    keys.push_back(bool_key("data.allow_overlap", DEEPLAB_FIELD(data.allow_overlap)));
    keys.push_back(bool_key("data.verify", DEEPLAB_FIELD(data.verify)));
}

void add_train_keys(std::vector<Key>& keys) {
    const char* positive = "a positive integer";
    keys.push_back(
        int_key("train.iterations", DEEPLAB_FIELD(train.iterations), 1, huge_int, positive, true));
    keys.push_back(
        int_key("train.global_batch", DEEPLAB_FIELD(train.global_batch), 1, 1 << 20, positive));
    keys.push_back(
        int_key("train.accumulation", DEEPLAB_FIELD(train.accumulation), 1, 1 << 20, positive));
    keys.push_back(choice_key("train.precision", DEEPLAB_FIELD(train.precision),
                              Words{{"fp32", "fp32"}, {"tf32", "tf32"}, {"bf16", "bf16"}}));
    keys.push_back(choice_key("train.grad_dtype", DEEPLAB_FIELD(train.grad_dtype),
                              Words{{"fp32", "fp32"}, {"bf16", "bf16"}}));
    keys.push_back(choice_key(
        "train.sync_bn", DEEPLAB_FIELD(train.sync_bn),
        std::vector<std::pair<std::string, SyncBn>>{
            {"global", SyncBn::global}, {"node", SyncBn::node}, {"none", SyncBn::none}}));
    keys.push_back(bool_key("train.freeze_bn", DEEPLAB_FIELD(train.freeze_bn)));
    keys.push_back(
        int_key("train.seed", DEEPLAB_FIELD(train.seed), 0, INT64_MAX, "an integer not below 0"));
    keys.push_back(bool_key("train.deterministic", DEEPLAB_FIELD(train.deterministic)));
    keys.push_back(bool_key("train.overlap", DEEPLAB_FIELD(train.overlap)));
    keys.push_back(
        int_key("train.log_every", DEEPLAB_FIELD(train.log_every), 1, huge_int, positive, true));
    keys.push_back(int_key("train.eval_every", DEEPLAB_FIELD(train.eval_every), 0, huge_int,
                           "an integer not below 0 (0: never)", true));
    keys.push_back(choice_key("train.on_nonfinite", DEEPLAB_FIELD(train.on_nonfinite),
                              Words{{"stop", "stop"}, {"rollback", "rollback"}}));
    keys.push_back(real_key("train.watchdog_s", DEEPLAB_FIELD(train.watchdog_s), 0, huge,
                            "a number of seconds, 0 for none", true));
}

const char* const groups_expected = "a list of tables ([[optimizer.groups]])";

model::GroupRule read_group(const Item& item) {
    const auto* object = item.value.get_if<Object>();
    if (object == nullptr) item.wrong(groups_expected);
    const std::vector<std::string> names = {"match", "lr_multiplier", "weight_decay",
                                            "steps_per_iteration"};
    model::GroupRule rule;
    rule.weight_decay = unset_weight_decay;
    for (const auto& [name, value] : object->members()) {
        const Item part{value, cat(item.key, ".", name),
                        value.line > 0 ? cat("line ", value.line) : item.where};
        if (name == "match") {
            rule.match = text(part, "a regular expression on parameter names");
            if (rule.match.size() > longest_pattern)
                part.wrong(cat("a pattern of at most ", longest_pattern, " characters"));
            try {
                const std::regex check(rule.match);
            } catch (const std::regex_error& error) {
                part.wrong(cat("a regular expression (", error.what(), ")"));
            }
        } else if (name == "lr_multiplier") {
            rule.lr_multiplier = static_cast<float>(number(part, 0, huge, "a number not below 0"));
        } else if (name == "weight_decay") {
            rule.weight_decay = static_cast<float>(number(part, 0, huge, "a number not below 0"));
        } else if (name == "steps_per_iteration") {
            rule.steps = static_cast<int>(integer(part, 1, 1000, "an integer from 1 to 1000"));
        } else {
            const std::string near = nearest(name, names);
            throw UsageError(cat("unknown key ", part.key, " (", part.where,
                                 ") — it would do nothing — ",
                                 near.empty() ? "remove it" : cat("did you mean ", near, "?")));
        }
    }
    if (rule.match.empty())
        item.wrong("complete: a group needs match = \"regular expression on parameter names\"");
    return rule;
}

void add_optimizer_keys(std::vector<Key>& keys) {
    const char* not_negative = "a number not below 0";
    keys.push_back(real_key("optimizer.lr", DEEPLAB_FIELD(optimizer.lr), 0, huge, not_negative));
    keys.push_back(real_key("optimizer.momentum", DEEPLAB_FIELD(optimizer.momentum), 0, 0.999999,
                            "a number in [0, 1)"));
    keys.push_back(real_key("optimizer.weight_decay", DEEPLAB_FIELD(optimizer.weight_decay), 0,
                            huge, not_negative));
    keys.push_back(real_key("optimizer.power", DEEPLAB_FIELD(optimizer.power), 0, 100,
                            "a number from 0 to 100"));
    keys.push_back(int_key("optimizer.warmup", DEEPLAB_FIELD(optimizer.warmup), 0, huge_int,
                           "an integer not below 0"));
    keys.push_back(
        real_key("optimizer.clip_norm", DEEPLAB_FIELD(optimizer.clip_norm), 0, huge, not_negative));
    keys.push_back(
        bool_key("optimizer.accumulate_decay", DEEPLAB_FIELD(optimizer.accumulate_decay)));
    keys.push_back({"optimizer.groups",
                    [](Config& c, const Item& i) {
                        const auto* list = i.value.get_if<Array>();
                        if (list == nullptr) i.wrong(groups_expected);
                        c.optimizer.groups.clear();
                        for (const Value& v : *list)
                            c.optimizer.groups.push_back(read_group({v, i.key, i.where}));
                    },
                    [](const Config& c) {
                        Array list;
                        for (const auto& rule : c.optimizer.groups) {
                            Object group;
                            group["match"] = rule.match;
                            group["lr_multiplier"] = tidy(rule.lr_multiplier);
                            group["weight_decay"] = tidy(rule.weight_decay);
                            group["steps_per_iteration"] = rule.steps;
                            list.emplace_back(group);
                        }
                        return Value(list);
                    },
                    groups_expected});
}

}  // namespace

const std::vector<Key>& all_keys() {
    static const std::vector<Key> keys = [] {
        std::vector<Key> list;
        add_model_keys(list);
        add_data_keys(list);
        add_train_keys(list);
        add_optimizer_keys(list);
        const char* every = "an integer not below 0 (0: only at the end)";
        list.push_back(
            int_key("checkpoint.every", DEEPLAB_FIELD(checkpoint.every), 0, huge_int, every, true));
        Key minutes = real_key("checkpoint.minutes", DEEPLAB_FIELD(checkpoint.minutes), 0, huge,
                               "a number not below 0 (0: off)");
        minutes.may_change = true;
        list.push_back(minutes);
        list.push_back(int_key("checkpoint.keep", DEEPLAB_FIELD(checkpoint.keep), 1, huge_int,
                               "a positive integer", true));
        for (Key& key : list) {
            // Not train.log_every: with each line the ranks' times are summed.
            key.may_differ = key.name == "data.workers" || key.name == "data.cache_gib";
        }
        return list;
    }();
    return keys;
}

}  // namespace deeplab::config
