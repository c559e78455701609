#pragma once
// One tree for JSON and TOML: the parsers stay behind this header.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace deeplab::io {

class Value;
using Array = std::vector<Value>;
using Member = std::pair<std::string, Value>;

// Objects keep the order of their members.
class Object {
public:
    const Value* find(std::string_view key) const;  // nullptr when absent
    Value* find(std::string_view key);
    Value& operator[](std::string_view key);  // appends null when absent
    const std::vector<Member>& members() const { return members_; }
    std::vector<Member>& members() { return members_; }

private:
    std::vector<Member> members_;
};

class Value {
public:
    Value() = default;
    Value(bool v) : data_(v) {}
    Value(std::int64_t v) : data_(v) {}
    Value(int v) : data_(static_cast<std::int64_t>(v)) {}
    Value(double v) : data_(v) {}
    Value(std::string v) : data_(std::move(v)) {}
    Value(const char* v) : data_(std::string(v)) {}
    Value(Array v) : data_(std::move(v)) {}
    Value(Object v) : data_(std::move(v)) {}

    template <class T>
    bool is() const {
        return std::holds_alternative<T>(data_);
    }
    template <class T>
    const T* get_if() const {
        return std::get_if<T>(&data_);
    }
    template <class T>
    T* get_if() {
        return std::get_if<T>(&data_);
    }
    const char* type_name() const;  // "a string", "an integer", …

    int line = 0;  // of a parsed file; 0: unknown

private:
    std::variant<std::monostate, bool, std::int64_t, double, std::string, Array, Object> data_;
};

// `what` names the text in errors. Both throw UsageError with line and column.
Value parse_json(std::string_view text, const std::string& what);
Value parse_toml(std::string_view text, const std::string& what);
// One TOML value as after "key ="; a bare word is a string: for --set key=value.
Value parse_toml_value(const std::string& text);

std::string to_json(const Value& value,
                    int indent = -1);  // -1: on one line; doubles round-trip; NaN/Inf become null
std::string to_toml(const Object& table);

}  // namespace deeplab::io
