#pragma once
// Fields in weights files; private to this folder. Those that the first version of a format had
// stand in their own places. A newer one is a text under its own name, there when it differs from
// its default; `requires` then names it, since a program that does not know it would build another
// network. What a reader may do without is written the same way and not named there: checkpoints
// have it outside of their checksum, and readers of before read over it.

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deeplab/base/text.h"
#include "deeplab/config/fields.h"
#include "deeplab/io/features.h"
#include "deeplab/weights/checkpoint.h"

namespace deeplab::weights {

using Texts = std::vector<std::pair<std::string, std::string>>;
// The text under a name in the file that is read; none when there is none.
using Find = std::function<std::optional<std::string>(const std::string& name)>;

inline constexpr const char* required_name = "requires";

template <class S>
bool has_place(const config::Field<S>& field) {
    return *field.place != '\0';
}

// "bn_eps" of "model.bn_eps", as the first versions call it.
inline std::string last_part(const std::string& name) { return name.substr(name.rfind('.') + 1); }

// Words as they are, numbers in the shortest text that gives them again, lists as JSON.
std::string stored_text(const io::Value& value);
io::Value parse_stored(const std::string& text, const std::string& what);  // DataError

template <class S>
io::Value stored_value(const config::Field<S>& field, const std::string& text,
                       const std::string& what) {
    return field.get(S()).template is<std::string>() ? io::Value(text) : parse_stored(text, what);
}

// `what` is the field in the words of the file: "its bn_eps". DataError for a value that the field
// does not take, NewerFile for a word that it does not know.
template <class S>
void set_stored(const config::Field<S>& field, S& s, const io::Value& value,
                const std::string& what, const std::string& file) {
    try {
        field.set(s, {value, what, file});
    } catch (const config::UnknownWord&) {
        io::refuse_feature(file, cat(field.name, " = ", io::to_json(value)));
    } catch (const config::WrongValue& wrong) {
        throw DataError(cat(what, " ", io::to_json(value), " is not ", wrong.takes));
    }
}

// The newer fields that have not their default, and the list of them.
template <class S>
Texts newer_texts(const config::Fields<S>& fields, const S& s) {
    Texts texts;
    io::Array required;
    for (const auto& field : fields) {
        if (has_place(field) || !field.changed(s)) continue;
        texts.emplace_back(field.name, stored_text(field.get(s)));
        required.emplace_back(field.name);
    }
    if (!required.empty()) texts.emplace_back(required_name, io::to_json(required));
    return texts;
}

// NewerFile when the file needs what no field has. To be called before anything else is read.
template <class S>
void check_required(const config::Fields<S>& fields, const Find& find, const std::string& file) {
    const auto text = find(required_name);
    if (!text) return;
    std::vector<std::string> known;
    for (const auto& field : fields) known.push_back(field.name);
    io::check_features(parse_stored(*text, cat("its ", required_name)), known, file);
}

template <class S>
void read_newer(const config::Fields<S>& fields, S& s, const Find& find, const std::string& file) {
    for (const auto& field : fields) {
        const auto text = has_place(field) ? std::nullopt : find(field.name);
        const std::string what = cat("its ", field.name);
        if (text) set_stored(field, s, stored_value(field, *text, what), what, file);
    }
}

// The value of each class in the masks of its data set, with a checksum of its own; "" where every
// class has its place. A reader can do without it.
inline constexpr const char* labels_name = "class_labels";
std::string labels_text(const data::ClassTable& table);
// DataError for a text that is none of these classes. `what` is the text in the words of the file.
void read_labels(const std::string& text, const std::string& what, data::ClassTable& table);

// What a network needs and no table of fields holds: classes, place in a run. `named`
// is a part in the words of the file. A file with a good checksum may still come from another
// program.
void check_info(const WeightsInfo& info, const std::function<std::string(const char*)>& named);

}  // namespace deeplab::weights
