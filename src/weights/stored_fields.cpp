#include "stored_fields.h"

#include <charconv>
#include <iterator>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"

namespace deeplab::weights {

std::string stored_text(const io::Value& value) {
    if (const auto* word = value.get_if<std::string>()) return *word;
    if (const auto* real = value.get_if<double>()) {
        char text[64];
        const auto end = std::to_chars(std::begin(text), std::end(text), *real).ptr;
        return {text, end};
    }
    const auto* list = value.get_if<io::Array>();
    if (list == nullptr) return io::to_json(value);
    std::string text;
    for (const io::Value& entry : *list) text += (text.empty() ? "" : ", ") + stored_text(entry);
    return "[" + text + "]";
}

io::Value parse_stored(const std::string& text, const std::string& what) {
    try {
        if (text == trim(text)) return io::parse_json(text, what);
    } catch (const UsageError& error) {
        throw DataError(cat(what, " is no JSON: ", error.what()));
    }
    throw DataError(cat(what, " has blanks around it"));
}

namespace {

std::int64_t checksum_of(const io::Array& labels) {
    const std::string text = io::to_json(labels);
    return crc32({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
}

}  // namespace

std::string labels_text(const data::ClassTable& table) {
    io::Array labels;
    for (const auto& c : table.classes)
        if (!c.labels.empty()) labels.emplace_back(c.labels.front());
    if (labels.empty()) return "";
    expects(labels.size() == table.classes.size(), "labels of all classes or of none");
    io::Object object;
    object["crc32"] = checksum_of(labels);
    object["labels"] = std::move(labels);
    return io::to_json(object);
}

void read_labels(const std::string& text, const std::string& what, data::ClassTable& table) {
    const io::Value root = parse_stored(text, what);
    const auto* object = root.get_if<io::Object>();
    const io::Value* list = object == nullptr ? nullptr : object->find("labels");
    const io::Value* sum = object == nullptr ? nullptr : object->find("crc32");
    const auto* labels = list == nullptr ? nullptr : list->get_if<io::Array>();
    const auto* crc = sum == nullptr ? nullptr : sum->get_if<std::int64_t>();
    bool good = labels != nullptr && crc != nullptr && labels->size() == table.classes.size() &&
                *crc == checksum_of(*labels);
    for (std::size_t c = 0; good && c < labels->size(); ++c) {
        const auto* value = (*labels)[c].get_if<std::int64_t>();
        good = value != nullptr && *value >= 0 && *value <= data::MaskValues::largest;
        if (good) table.classes[c].labels = {static_cast<int>(*value)};
    }
    if (!good) throw DataError(cat(what, " is damaged: it is no list of a value for each class"));
}

void check_info(const WeightsInfo& info, const std::function<std::string(const char*)>& named) {
    const auto check = [&](bool possible, const char* part, const std::string& wanted) {
        if (!possible) throw DataError(cat(named(part), " is not ", wanted));
    };
    const int classes = info.model.num_classes;
    check(classes != 0, "num_classes", "a number of classes");
    check(info.classes.classes.size() == static_cast<std::size_t>(classes), "classes",
          cat("a list of ", classes));
    check(info.classes.ignore >= classes && info.classes.ignore <= 255, "ignore",
          cat("a label in ", classes, "..255"));
    check(info.step >= 0, "step", "0 or more");
    check(info.best_miou >= -1 && info.best_miou <= 1, "best_miou", "a number in -1..1");
}

}  // namespace deeplab::weights
