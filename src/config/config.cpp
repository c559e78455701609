// The configuration as one table of keys: reads TOML, writes TOML and compares two runs.

#include "deeplab/config/config.h"

#include <cmath>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "keys.h"

namespace deeplab::config {

namespace {

using io::Object;
using io::Value;

const Key* find_key(const std::string& name) {
    for (const Key& key : all_keys()) {
        if (key.name == name) return &key;
    }
    return nullptr;
}

bool is_table(const std::string& name) {
    for (const Key& key : all_keys()) {
        if (key.name.starts_with(name + ".")) return true;
    }
    return false;
}

[[noreturn]] void unknown_key(const std::string& name, const std::string& where) {
    std::vector<std::string> names;
    for (const Key& key : all_keys()) {
        for (std::string part = key.name;
             !part.empty();) {  // the key, and the tables that it stands in
            names.push_back(part);
            const auto dot = part.rfind('.');
            part = dot == std::string::npos ? "" : part.substr(0, dot);
        }
    }
    std::string lower = name;
    for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    std::string near = nearest(lower, names);
    if (near.empty()) {  // right name, wrong table?
        const std::string leaf = lower.substr(lower.rfind('.') + 1);
        for (const Key& key : all_keys()) {
            if (near.empty() && key.name.ends_with("." + leaf)) near = key.name;
        }
    }
    throw UsageError(cat("unknown key ", name, " (", where, ") — it would do nothing — ",
                         near.empty()
                             ? std::string("see the list of keys: deeplab-train --keys, or "
                                           "jobs/configs/README.md")
                             : cat("did you mean ", near, "?")));
}

// Walks a tree of tables down to the keys of the table above.
void apply(Config& config, const std::string& name, const Value& value, const std::string& what) {
    const std::string where = value.line > 0 ? cat(what, ", line ", value.line) : what;
    if (const Key* key = find_key(name)) {
        key->set(config, {value, name, where});
        return;
    }
    if (!name.empty() && !is_table(name)) unknown_key(name, where);
    const auto* object = value.get_if<Object>();
    if (object == nullptr) {
        throw UsageError(cat(name, " is ", value.type_name(), ", not a table (", where,
                             ") — its keys would be missing — write [", name,
                             "] and its keys below"));
    }
    for (const auto& [member, inner] : object->members()) {
        apply(config, name.empty() ? member : cat(name, ".", member), inner, what);
    }
}

void apply_override(Config& config, const std::string& assignment) {
    const auto equal = assignment.find('=');
    if (equal == std::string::npos || equal == 0) {
        throw UsageError(cat("--set ", assignment,
                             " has no \"=\" — nothing can be set — write --set train.seed=3"));
    }
    apply(config, trim(assignment.substr(0, equal)),
          io::parse_toml_value(assignment.substr(equal + 1)), cat("--set ", assignment));
}

// What needs more than one key to judge.
void finish(Config& config, const std::string& what) {
    for (auto& group : config.optimizer.groups) {
        if (group.weight_decay < 0)
            group.weight_decay = static_cast<float>(config.optimizer.weight_decay);
    }
    const auto& a = config.data.augmentation;
    if (a.resize == data::Augmentation::Resize::factor && a.range_high > 16) {
        throw UsageError(cat("data.resize.range [", a.range_low, ", ", a.range_high,
                             "] holds no factors (", what,
                             ") — images would be blown up beyond memory — with mode = \"factor\" "
                             "write e.g. [0.5, 2.0]"));
    }
    if (a.resize == data::Augmentation::Resize::short_edge &&
        (a.range_low < 1 || a.range_low != std::floor(a.range_low) ||
         a.range_high != std::floor(a.range_high))) {
        throw UsageError(cat("data.resize.range [", a.range_low, ", ", a.range_high,
                             "] are not pixels (", what,
                             ") — with mode = \"short_edge\" it holds the short edge's sizes — "
                             "write e.g. [256, 1026]"));
    }
    if (config.train.global_batch % config.train.accumulation != 0) {
        throw UsageError(cat("train.global_batch ", config.train.global_batch,
                             " is not divisible by train.accumulation ", config.train.accumulation,
                             " (", what,
                             ") — micro-batches would differ in size — change one of them"));
    }
}

}  // namespace

Config parse_config(const std::string& text_, const std::string& what,
                    const std::vector<std::string>& overrides) {
    Config config;
    config.model.num_classes = 0;  // the data set's
    apply(config, "", io::parse_toml(text_, what), what);
    for (const auto& assignment : overrides) apply_override(config, assignment);
    finish(config, what);
    return config;
}

Config load_config(const std::filesystem::path& file, const std::vector<std::string>& overrides) {
    if (file.empty()) return parse_config("", "defaults", overrides);
    return parse_config(read_text(file), file.string(), overrides);
}

namespace {

template <class Choice>
std::string toml_of(const Config& config, const Choice& chosen) {
    Object root;
    for (const Key& key : all_keys()) {
        if (!chosen(key)) continue;
        Object* table = &root;
        std::string name = key.name;
        for (auto dot = name.find('.'); dot != std::string::npos; dot = name.find('.')) {
            Value& inner = (*table)[name.substr(0, dot)];
            if (!inner.is<Object>()) inner = Object();
            table = inner.get_if<Object>();
            name = name.substr(dot + 1);
        }
        (*table)[name] = key.get(config);
    }
    return io::to_toml(root);
}

}  // namespace

std::string to_toml(const Config& config) {
    return toml_of(config, [](const Key&) { return true; });
}

std::string to_stored_toml(const Config& config) {
    return toml_of(config, [&](const Key& key) { return !key.newer || key.changed(config); });
}

std::string to_json(const Config& config) {
    Object keys;
    for (const Key& key : all_keys()) keys[key.name] = key.get(config);
    return io::to_json(keys, 2) + "\n";
}

std::vector<std::string> frozen_differences(const Config& run, const Config& now) {
    std::vector<std::string> names;
    for (const Key& key : all_keys()) {
        if (!key.may_change && io::to_json(key.get(run)) != io::to_json(key.get(now)))
            names.push_back(key.name);
    }
    return names;
}

std::vector<std::string> other_differences(const Config& run, const Config& now) {
    std::vector<std::string> lines;
    for (const Key& key : all_keys()) {
        const std::string before = io::to_json(key.get(run)), after = io::to_json(key.get(now));
        if (key.may_change && before != after)
            lines.push_back(cat(key.name, ": ", before, " -> ", after));
    }
    return lines;
}

std::vector<std::pair<std::string, std::string>> shared_values(const Config& config) {
    std::vector<std::pair<std::string, std::string>> values;
    for (const Key& key : all_keys()) {
        if (!key.may_differ) values.emplace_back(key.name, io::to_json(key.get(config)));
    }
    return values;
}

}  // namespace deeplab::config
