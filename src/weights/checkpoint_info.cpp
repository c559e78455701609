#include "checkpoint_info.h"

#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/config/model_fields.h"
#include "extents.h"
#include "stored_fields.h"

namespace deeplab::weights {

namespace {

using config::model_fields;
using ModelField = config::Field<model::ModelConfig>;

// Of version 1: numbers that are no integers are parts of datasets, f32.
bool in_dataset(const ModelField& field) { return std::strchr(field.place, '/') != nullptr; }

// A number, or a list of them.
std::vector<float> floats_of(const io::Value& value) {
    const auto* list = value.get_if<io::Array>();
    if (list == nullptr) return {static_cast<float>(*value.get_if<double>())};
    std::vector<float> values;
    for (const io::Value& entry : *list)
        values.push_back(static_cast<float>(*entry.get_if<double>()));
    return values;
}

void write_floats(io::Hdf5Writer& file, const std::string& name, std::span<const float> values) {
    const Extents extents = {static_cast<std::int64_t>(values.size())};
    file.write(name, values.data(), DType::f32, extents);
}

void write_model_attributes(io::Hdf5Writer& file, const model::ModelConfig& model) {
    for (const auto& field : model_fields()) {
        if (!has_place(field) || in_dataset(field)) continue;
        const io::Value value = field.get(model);
        const auto* word = value.get_if<std::string>();
        word != nullptr ? file.attribute(field.place, *word)
                        : file.attribute(field.place, *value.get_if<std::int64_t>());
    }
}

void write_model_datasets(io::Hdf5Writer& file, const model::ModelConfig& model) {
    std::vector<std::pair<std::string, std::vector<float>>> datasets;
    for (const auto& field : model_fields()) {
        if (!in_dataset(field)) continue;
        if (datasets.empty() || datasets.back().first != field.place)
            datasets.emplace_back(field.place, std::vector<float>());
        const auto values = floats_of(field.get(model));
        auto& all = datasets.back().second;
        all.insert(all.end(), values.begin(), values.end());
    }
    for (const auto& [name, values] : datasets) write_floats(file, name, values);
}

template <class Values>
void read_floats(const io::Hdf5Reader& file, const std::string& name, std::int64_t first,
                 Values& values) {
    file.read(name, values.data(), DType::f32, first, static_cast<std::int64_t>(values.size()));
}

// The next part of its dataset, of which `taken` fields before it had theirs.
io::Value part_of_dataset(const io::Hdf5Reader& file, const ModelField& field,
                          std::int64_t& taken) {
    const io::Value standard = field.get({});
    std::vector<float> values(floats_of(standard).size());
    read_floats(file, field.place, taken, values);
    taken += static_cast<std::int64_t>(values.size());
    if (!standard.is<io::Array>()) return double{values.front()};
    return io::Array(values.begin(), values.end());
}

void read_model(const io::Hdf5Reader& file, const std::string& name, model::ModelConfig& model) {
    const Find find = [&](const std::string& attribute) {
        return file.has_attribute(attribute) ? std::optional(file.attribute_text(attribute))
                                             : std::nullopt;
    };
    check_required(model_fields(), find, name);
    std::map<std::string, std::int64_t> taken;  // of each dataset
    for (const auto& field : model_fields()) {
        if (!has_place(field)) continue;
        const io::Value value = in_dataset(field) ? part_of_dataset(file, field, taken[field.place])
                                : field.get({}).is<std::string>()
                                    ? io::Value(file.attribute_text(field.place))
                                    : io::Value(file.attribute_int(field.place));
        set_stored(field, model, value, cat("its ", last_part(field.name)), name);
    }
    read_newer(model_fields(), model, find, name);
}

}  // namespace

void write_info(io::Hdf5Writer& file, const WeightsInfo& info) {
    write_model_attributes(file, info.model);
    file.attribute("ignore", static_cast<std::int64_t>(info.classes.ignore));
    file.attribute("step", info.step);
    file.attribute("best_miou", info.best_miou);
    file.attribute("config", info.config_toml);
    file.attribute("train_list_hash", info.train_list_hash);
    if (!info.train_content.empty()) file.attribute("train_content", info.train_content);
    if (!info.val_content.empty()) file.attribute("val_content", info.val_content);
    for (const auto& [name, text] : newer_texts(model_fields(), info.model))
        file.attribute(name, text);
    if (const std::string labels = labels_text(info.classes); !labels.empty())
        file.attribute(labels_name, labels);
    write_model_datasets(file, info.model);
    std::vector<std::string> names;
    std::vector<std::uint8_t> colors;
    for (const auto& c : info.classes.classes) {
        names.push_back(c.name);
        colors.insert(colors.end(), {c.color.r, c.color.g, c.color.b});
    }
    const Extents extents = {static_cast<std::int64_t>(names.size()), 3};
    file.write_strings("classes/names", names);
    file.write("classes/colors", colors.data(), DType::u8, extents);
}

WeightsInfo read_info(const io::Hdf5Reader& file, const std::string& name) {
    WeightsInfo info;
    read_model(file, name, info.model);
    const std::int64_t ignore = file.attribute_int("ignore");
    info.classes.ignore = ignore < 0 || ignore > 255 ? -1 : static_cast<int>(ignore);
    info.step = file.attribute_int("step");
    info.best_miou = file.attribute_double("best_miou");
    info.config_toml = file.attribute_text("config");
    info.train_list_hash = file.attribute_text("train_list_hash");
    if (file.has_attribute("train_content"))
        info.train_content = file.attribute_text("train_content");
    if (file.has_attribute("val_content")) info.val_content = file.attribute_text("val_content");
    const auto names = file.read_strings("classes/names");
    const auto colors = file.read_all<std::uint8_t>("classes/colors", DType::u8);
    if (colors.size() != 3 * names.size()) throw DataError("the class table is damaged");
    for (std::size_t i = 0; i < names.size(); ++i) {
        info.classes.classes.push_back(
            {names[i], {colors[3 * i], colors[3 * i + 1], colors[3 * i + 2]}});
    }
    if (file.has_attribute(labels_name))
        read_labels(file.attribute_text(labels_name), cat("its ", labels_name), info.classes);
    check_info(info, [](const char* part) { return cat("its ", part); });
    return info;
}

std::uint64_t hash_text(const std::string& text, std::uint64_t seed) {
    const std::uint64_t size = text.size();
    return fnv1a(text.data(), text.size(), fnv1a(&size, sizeof(size), seed));
}

std::uint64_t content_hash(std::uint64_t state, const WeightsInfo& info) {
    std::uint64_t seed = state;
    std::vector<std::int64_t> whole;
    std::vector<float> real;
    for (const auto& field : model_fields()) {
        if (!has_place(field)) continue;
        const io::Value value = field.get(info.model);
        if (const auto* word = value.get_if<std::string>()) {
            seed = hash_text(*word, seed);
        } else if (const auto* integer = value.get_if<std::int64_t>()) {
            whole.push_back(*integer);
        } else {
            for (const float v : floats_of(value)) real.push_back(v);
        }
    }
    seed = hash_text(info.config_toml, seed);
    seed = hash_text(info.train_list_hash, seed);
    for (const std::string* content : {&info.train_content, &info.val_content})
        if (!content->empty()) seed = hash_text(*content, seed);
    whole.insert(whole.end(), {info.step, info.classes.ignore});
    seed = fnv1a(whole.data(), whole.size() * sizeof(whole[0]), seed);
    seed = fnv1a(&info.best_miou, sizeof(double), seed);
    seed = fnv1a(real.data(), real.size() * sizeof(real[0]), seed);
    for (const auto& c : info.classes.classes) {
        const std::uint8_t color[] = {c.color.r, c.color.g, c.color.b};
        seed = fnv1a(color, sizeof(color), hash_text(c.name, seed));
    }
    for (const auto& [name, text] : newer_texts(model_fields(), info.model))
        seed = hash_text(text, hash_text(name, seed));
    return seed;
}

}  // namespace deeplab::weights
