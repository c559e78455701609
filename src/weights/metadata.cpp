#include "metadata.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <span>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/io/value.h"

namespace deeplab::weights {

namespace {

const char* const version_key = "deeplab_hpc";
const char* const version = "1";

template <class T>
std::string number_text(T value) {
    char text[64];
    const auto end = std::to_chars(std::begin(text), std::end(text), value).ptr;
    return {text, end};
}

std::string list_text(std::span<const float> values) {
    std::string text;
    for (const float v : values) text += (text.empty() ? "" : ", ") + number_text(v);
    return "[" + text + "]";
}

// Keys of one file; every problem names the key.
class Reader {
public:
    explicit Reader(const Metadata& metadata) : metadata_(metadata) {}

    const std::string& text(const char* key) const {
        const std::string* found = find(metadata_, key);
        if (found == nullptr) fail(key, "is missing");
        return *found;
    }
    template <class T>
    T number(const char* key, T low, T high) const {
        const std::string& from = text(key);
        T value{};
        const auto [end, error] = std::from_chars(from.data(), from.data() + from.size(), value);
        // Written so that a NaN fails.
        if (error != std::errc() || end != from.data() + from.size() ||
            !(value >= low && value <= high))
            fail(key, cat("is not a number in ", low, "..", high));
        return value;
    }
    io::Value json(const char* key) const {
        try {
            return io::parse_json(text(key), key);
        } catch (const UsageError& error) {
            fail(key, error.what());
        }
    }
    template <std::size_t N>
    void numbers(const char* key, std::array<float, N>& values, double low, double high) const {
        const io::Value list = json(key);
        const io::Array* array = list.get_if<io::Array>();
        if (array == nullptr || array->size() != N) fail(key, cat("is not a list of ", N));
        for (std::size_t i = 0; i < N; ++i) {
            const std::int64_t* whole = (*array)[i].get_if<std::int64_t>();
            const double* real = (*array)[i].get_if<double>();
            const double value = whole != nullptr  ? static_cast<double>(*whole)
                                 : real != nullptr ? *real
                                                   : std::nan("");
            if (!(value >= low && value <= high))
                fail(key, cat("holds something else than numbers in ", low, "..", high));
            values[i] = static_cast<float>(value);
        }
    }
    [[noreturn]] static void fail(const std::string& key, const std::string& problem) {
        throw DataError(cat("its metadata \"", key, "\" ", problem));
    }

private:
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
    return {{"format", "pt"},
            {version_key, version},
            {"backbone", info.model.backbone},
            {"output_stride", number_text(info.model.output_stride)},
            {"num_classes", number_text(info.model.num_classes)},
            {"width_divisor", number_text(info.model.width_divisor)},
            {"dropout", list_text(info.model.dropout)},
            {"bn_eps", number_text(info.model.bn_eps)},
            {"bn_momentum", number_text(info.model.bn_momentum)},
            {"mean", list_text(info.normalisation.mean)},
            {"std", list_text(info.normalisation.std)},
            {"classes", classes_text(info.classes)},
            {"ignore", number_text(info.classes.ignore)},
            {"step", number_text(info.step)},
            {"best_miou", number_text(info.best_miou)},
            {"train_list_hash", info.train_list_hash},
            {"config", info.config_toml}};
}

std::optional<WeightsInfo> from_metadata(const Metadata& metadata) {
    const std::string* found = find(metadata, version_key);
    if (found == nullptr) return std::nullopt;
    const Reader reader(metadata);
    if (*found != version) reader.fail(version_key, cat("is ", *found, ", not ", version));
    WeightsInfo info;
    model::ModelConfig& m = info.model;
    m.backbone = reader.text("backbone");
    const auto backbones = model::backbone_names();
    if (std::find(backbones.begin(), backbones.end(), m.backbone) == backbones.end())
        reader.fail("backbone", "is none of this program's");
    m.output_stride = reader.number("output_stride", 8, 16);
    if (m.output_stride != 8 && m.output_stride != 16)
        reader.fail("output_stride", "is not 8 or 16");
    m.num_classes = reader.number("num_classes", 2, 255);
    m.width_divisor = reader.number("width_divisor", 1, 48);  // the narrowest convolution has 48
    reader.numbers("dropout", m.dropout, 0.0, 0.999999);
    m.bn_eps = reader.number("bn_eps", 1e-20f, 1.0f);
    m.bn_momentum = reader.number("bn_momentum", 0.0f, 1.0f);
    reader.numbers("mean", info.normalisation.mean, -1e6, 1e6);
    reader.numbers("std", info.normalisation.std, 1e-6, 1e6);
    read_classes(reader, info.classes);
    if (info.classes.classes.size() != static_cast<std::size_t>(m.num_classes))
        reader.fail("classes", cat("has not ", m.num_classes, " entries"));
    info.classes.ignore = reader.number("ignore", m.num_classes, 255);
    info.step = reader.number<std::int64_t>("step", 0, INT64_MAX);
    info.best_miou = reader.number("best_miou", -1.0, 1.0);
    info.train_list_hash = reader.text("train_list_hash");
    info.config_toml = reader.text("config");
    return info;
}

}  // namespace deeplab::weights
