#include "metadata.h"

#include <algorithm>
#include <array>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/config/model_fields.h"
#include "deeplab/io/value.h"

namespace deeplab::weights {

namespace {

using config::model_fields;

const char* const version_key = "deeplab_hpc";
const char* const version = "1";

// What the file says under a name, in words.
std::string named(const std::string& key) { return cat("its metadata \"", key, "\""); }

// Keys of one file; every problem names the key.
class Reader {
public:
    explicit Reader(const Metadata& metadata) : metadata_(metadata) {}

    const std::string& text(const std::string& key) const {
        const std::string* found = find(metadata_, key);
        if (found == nullptr) fail(key, "is missing");
        return *found;
    }
    io::Value json(const std::string& key) const { return parse_stored(text(key), named(key)); }
    std::int64_t integer(const std::string& key) const {
        const io::Value value = json(key);
        const auto* whole = value.get_if<std::int64_t>();
        if (whole == nullptr) fail(key, "is no integer");
        return *whole;
    }
    double number(const std::string& key) const { return number_of(key, json(key)); }
    [[noreturn]] static void fail(const std::string& key, const std::string& problem) {
        throw DataError(cat(named(key), " ", problem));
    }

private:
    static double number_of(const std::string& key, const io::Value& value) {
        const auto* whole = value.get_if<std::int64_t>();
        const auto* real = value.get_if<double>();
        if (whole == nullptr && real == nullptr) fail(key, "holds something else than numbers");
        return whole != nullptr ? static_cast<double>(*whole) : *real;
    }

    const Metadata& metadata_;
};

std::string classes_text(const data::ClassTable& table) {
    io::Array classes;
    for (const auto& c : table.classes) {
        io::Object entry;
        entry["name"] = c.name;
        entry["color"] = io::Array{int{c.color.r}, int{c.color.g}, int{c.color.b}};
        classes.emplace_back(std::move(entry));
    }
    return io::to_json(classes);
}

void read_classes(const Reader& reader, data::ClassTable& table) {
    const io::Value list = reader.json("classes");
    const auto* array = list.get_if<io::Array>();
    if (array == nullptr) reader.fail("classes", "is no list");
    for (const io::Value& entry : *array) {
        const auto* object = entry.get_if<io::Object>();
        const io::Value* name = object == nullptr ? nullptr : object->find("name");
        const io::Value* color = object == nullptr ? nullptr : object->find("color");
        const auto* rgb = color == nullptr ? nullptr : color->get_if<io::Array>();
        const auto* text = name == nullptr ? nullptr : name->get_if<std::string>();
        if (text == nullptr || rgb == nullptr || rgb->size() != 3)
            reader.fail("classes", "has an entry without name and color");
        std::uint8_t levels[3] = {};
        for (std::size_t i = 0; i < 3; ++i) {
            const std::int64_t* level = (*rgb)[i].get_if<std::int64_t>();
            if (level == nullptr || *level < 0 || *level > 255)
                reader.fail("classes", "has a color that is not three numbers in 0..255");
            levels[i] = static_cast<std::uint8_t>(*level);
        }
        table.classes.push_back({*text, {levels[0], levels[1], levels[2]}});
    }
}

}  // namespace

const std::string* find(const Metadata& metadata, const std::string& key) {
    const auto found = std::find_if(metadata.begin(), metadata.end(),
                                    [&](const auto& entry) { return entry.first == key; });
    return found == metadata.end() ? nullptr : &found->second;
}

Metadata to_metadata(const WeightsInfo& info) {
    Metadata metadata = {{"format", "pt"}, {version_key, version}};
    for (const auto& field : model_fields()) {
        if (has_place(field))
            metadata.emplace_back(last_part(field.name), stored_text(field.get(info.model)));
    }
    const Metadata rest = {
        {"classes", classes_text(info.classes)},   {"ignore", stored_text(info.classes.ignore)},
        {"step", stored_text(info.step)},          {"best_miou", stored_text(info.best_miou)},
        {"train_list_hash", info.train_list_hash}, {"config", info.config_toml}};
    for (const Metadata& more : {rest, newer_texts(model_fields(), info.model)})
        metadata.insert(metadata.end(), more.begin(), more.end());
    if (const std::string labels = labels_text(info.classes); !labels.empty())
        metadata.emplace_back(labels_name, labels);
    return metadata;
}

std::optional<WeightsInfo> from_metadata(const Metadata& metadata, const std::string& file) {
    const std::string* found = find(metadata, version_key);
    if (found == nullptr) return std::nullopt;
    const Reader reader(metadata);
    if (*found != version) reader.fail(version_key, cat("is ", *found, ", not ", version));
    const Find find_text = [&](const std::string& name) {
        const std::string* text = find(metadata, name);
        return text != nullptr ? std::optional(*text) : std::nullopt;
    };
    check_required(model_fields(), find_text, file);
    WeightsInfo info;
    for (const auto& field : model_fields()) {
        if (!has_place(field)) continue;
        const std::string key = last_part(field.name), what = named(key);
        set_stored(field, info.model, stored_value(field, reader.text(key), what), what, file);
    }
    read_newer(model_fields(), info.model, find_text, file);
    read_classes(reader, info.classes);
    if (const std::string* labels = find(metadata, labels_name))
        read_labels(*labels, named(labels_name), info.classes);
    const std::int64_t ignore = reader.integer("ignore");
    info.classes.ignore = ignore < 0 || ignore > 255 ? -1 : static_cast<int>(ignore);
    info.step = reader.integer("step");
    info.best_miou = reader.number("best_miou");
    info.train_list_hash = reader.text("train_list_hash");
    info.config_toml = reader.text("config");
    check_info(info, named);
    return info;
}

}  // namespace deeplab::weights
