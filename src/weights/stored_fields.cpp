#include "stored_fields.h"

#include <charconv>
#include <iterator>

#include "deeplab/base/error.h"

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
