#include "deeplab/io/value.h"

#include <algorithm>

namespace deeplab::io {

const Value* Object::find(std::string_view key) const {
    const auto found = std::find_if(members_.begin(), members_.end(),
                                    [&](const Member& m) { return m.first == key; });
    return found == members_.end() ? nullptr : &found->second;
}

Value* Object::find(std::string_view key) {
    return const_cast<Value*>(std::as_const(*this).find(key));
}

Value& Object::operator[](std::string_view key) {
    if (Value* found = find(key)) return *found;
    return members_.emplace_back(std::string(key), Value()).second;
}

const char* Value::type_name() const {
    constexpr const char* names[] = {"nothing",  "a boolean", "an integer", "a number",
                                     "a string", "a list",    "a table"};
    return names[data_.index()];
}

}  // namespace deeplab::io
