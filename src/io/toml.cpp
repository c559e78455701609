// TOML: read with toml++, written here (toml++ sorts the keys; ours stay in the order of the
// configuration).

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <sstream>
#include <tuple>

#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/io/value.h"

namespace deeplab::io {

namespace {

// Trees are copied and destroyed recursively: a crafted text must not exhaust the stack. toml++
// limits nested values to as many, but not the dots of a key.
constexpr int kMaxDepth = 256;

[[noreturn]] void fail(const std::string& problem, const std::string& what,
                       const toml::source_position& at) {
    throw UsageError(cat("not valid TOML: ", problem, " (", what, ", line ", at.line, ", column ",
                         at.column, ") — nothing of it is used — correct the text"));
}

// Behind the text that begins with the quote at `begin`, or behind its line where it does not end.
std::size_t end_of_text(std::string_view text, std::size_t begin) {
    const char quote = text[begin];
    const bool lines = text.substr(begin, 3) == std::string(3, quote);
    const std::string_view end = text.substr(begin, lines ? 3 : 1);
    for (std::size_t at = begin + end.size(); at < text.size(); ++at) {
        if (text[at] == '\\' && quote == '"') {
            ++at;
        } else if (text.substr(at, end.size()) == end || (!lines && text[at] == '\n')) {
            at += end.size();
            // Up to two quotes may stand before the last three.
            for (int more = 0; lines && more < 2 && text.substr(at, 1) == end.substr(0, 1); ++more)
                ++at;
            return at;
        }
    }
    return text.size();
}

// The depth of a place is its open brackets and the dots of the keys that stand before them.
void check_depth(std::string_view text, const std::string& what) {
    std::vector<int> levels = {0};  // dots since the last separator, for each open bracket
    int depth = 0;
    toml::source_position at{1, 1};
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (c == '"' || c == '\'') {
            const std::size_t end = end_of_text(text, i);
            at.line += static_cast<toml::source_index>(
                std::count(text.begin() + static_cast<std::ptrdiff_t>(i),
                           text.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
            i = end - 1;
        } else if (c == '#') {
            i = std::min(text.find('\n', i), text.size()) - 1;
        } else if (c == '[' || c == '{') {
            levels.push_back(0);
            ++depth;
        } else if ((c == ']' || c == '}') && levels.size() > 1) {
            depth -= levels.back() + 1;
            levels.pop_back();
        } else if (c == '.') {
            ++levels.back();
            ++depth;
        } else if (c == ',' || c == '\n') {
            depth -= std::exchange(levels.back(), 0);
            if (c == '\n') ++at.line;
        }
        if (depth > kMaxDepth) fail(cat("nested deeper than ", kMaxDepth, " levels"), what, at);
    }
}

Value value_of(const toml::node& node, const std::string& what);

Value object_of(const toml::table& table, const std::string& what) {
    // toml++ keeps members in key order; their places in the text give the order back.
    std::vector<std::tuple<std::uint32_t, std::uint32_t, Member>> placed;
    for (const auto& [key, node] : table) {
        const toml::source_position at = key.source().begin;
        placed.emplace_back(at.line, at.column,
                            Member{std::string(key.str()), value_of(node, what)});
    }
    std::stable_sort(placed.begin(), placed.end(), [](const auto& a, const auto& b) {
        return std::tie(std::get<0>(a), std::get<1>(a)) < std::tie(std::get<0>(b), std::get<1>(b));
    });
    Object object;
    for (auto& entry : placed) object.members().push_back(std::move(std::get<2>(entry)));
    return object;
}

Value value_of(const toml::node& node, const std::string& what) {
    Value value;
    if (const auto* table = node.as_table()) {
        value = object_of(*table, what);
    } else if (const auto* array = node.as_array()) {
        Array elements;
        for (const toml::node& element : *array) elements.push_back(value_of(element, what));
        value = std::move(elements);
    } else if (const auto* text = node.as_string()) {
        value = text->get();
    } else if (const auto* integer = node.as_integer()) {
        value = integer->get();
    } else if (const auto* number = node.as_floating_point()) {
        value = number->get();
    } else if (const auto* boolean = node.as_boolean()) {
        value = boolean->get();
    } else {
        fail("a date or time has no meaning here; put it in quotes to make it a string", what,
             node.source().begin);
    }
    value.line = static_cast<int>(node.source().begin.line);
    return value;
}

std::string quoted(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
        const auto code = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (code < 0x20 || code == 0x7F) {
            constexpr char digits[] = "0123456789ABCDEF";
            out += "\\u00";
            out += digits[code >> 4];
            out += digits[code & 15];
        } else {
            out += c;
        }
    }
    return out + '"';
}

std::string key_text(std::string_view key) {
    const bool bare = !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '_' || c == '-';
    });
    return bare ? std::string(key) : quoted(key);
}

std::string number_text(double value) {
    if (std::isnan(value)) return "nan";
    if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
    char buffer[40];
    std::string text(buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr);
    // Without one of these it would come back as an integer.
    if (text.find_first_of(".e") == std::string::npos) text += ".0";
    return text;
}

std::string inline_text(const Value& value) {
    if (const bool* v = value.get_if<bool>()) return *v ? "true" : "false";
    if (const std::int64_t* v = value.get_if<std::int64_t>()) return std::to_string(*v);
    if (const double* v = value.get_if<double>()) return number_text(*v);
    if (const std::string* v = value.get_if<std::string>()) return quoted(*v);
    std::string out;
    if (const Array* v = value.get_if<Array>()) {
        for (const Value& element : *v) out += (out.empty() ? "" : ", ") + inline_text(element);
        return "[" + out + "]";
    }
    const Object* object = value.get_if<Object>();
    expects(object != nullptr, "TOML cannot hold an absent value in a list");
    for (const auto& [key, member] : object->members()) {
        if (member.is<std::monostate>()) continue;
        out += (out.empty() ? "" : ", ") + key_text(key) + " = " + inline_text(member);
    }
    return "{" + out + "}";
}

bool is_array_of_tables(const Value& value) {
    const Array* array = value.get_if<Array>();
    return array != nullptr && !array->empty() &&
           std::all_of(array->begin(), array->end(),
                       [](const Value& element) { return element.is<Object>(); });
}

// Members that are plain values first: after a [header] they would belong to that table. An absent
// value is left out.
void write_table(const Object& table, const std::string& path, std::string& out) {
    for (const auto& [key, member] : table.members()) {
        if (member.is<std::monostate>() || member.is<Object>() || is_array_of_tables(member))
            continue;
        out += key_text(key) + " = " + inline_text(member) + "\n";
    }
    const auto write_child = [&](const Object& child, const std::string& header,
                                 const std::string& child_path) {
        out += (out.empty() ? "" : "\n") + header + "\n";
        write_table(child, child_path, out);
    };
    for (const auto& [key, member] : table.members()) {
        const std::string child_path = (path.empty() ? "" : path + ".") + key_text(key);
        if (const Object* child = member.get_if<Object>()) {
            write_child(*child, "[" + child_path + "]", child_path);
        } else if (is_array_of_tables(member)) {
            for (const Value& element : *member.get_if<Array>()) {
                write_child(*element.get_if<Object>(), "[[" + child_path + "]]", child_path);
            }
        }
    }
}

}  // namespace

Value parse_toml(std::string_view text, const std::string& what) {
    try {
        check_depth(text, what);
        return value_of(toml::parse(text), what);
    } catch (const toml::parse_error& problem) {
        fail(std::string(problem.description()), what, problem.source().begin);
    }
}

Value parse_toml_value(const std::string& text) {
    const std::string plain = trim(text);
    try {
        // Inside a list a comment or a second line cannot end the value unnoticed.
        const std::string list_text = "value = [" + plain + "]";
        check_depth(list_text, cat("\"", plain, "\""));
        const toml::table table = toml::parse(list_text);
        const toml::array* list = table["value"].as_array();
        if (table.size() == 1 && list != nullptr && list->size() == 1) {
            const toml::node& node = (*list)[0];
            if (!node.is_date() && !node.is_time() && !node.is_date_time()) {
                Value value = value_of(node, cat("\"", plain, "\""));
                value.line = 0;
                return value;
            }
        }
    } catch (const toml::parse_error& problem) {
        if (!plain.empty() && std::string_view("\"'[{").find(plain[0]) != std::string_view::npos) {
            throw UsageError(cat("not a TOML value: ", std::string(problem.description()), " (",
                                 plain,
                                 ") — the setting cannot be taken — check quotes and brackets"));
        }
    }
    return plain;
}

std::string to_toml(const Object& table) {
    std::string out;
    write_table(table, "", out);
    return out;
}

}  // namespace deeplab::io
