// JSON with nlohmann-json: its event interface fills the tree directly, so that lines are known and
// a key that stands twice is refused instead of the last one winning.

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <unordered_set>

#include <nlohmann/json.hpp>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "deeplab/io/value.h"

namespace deeplab::io {

namespace {

using Json = nlohmann::ordered_json;

// The tree is copied and destroyed recursively: a crafted file must not exhaust the stack.
constexpr std::size_t kMaxDepth = 256;

struct Position {
    int line = 1, column = 0;
    bool at_line_end = false;
};

// Feeds the parser and keeps the position of the last character it took.
class Cursor {
public:
    using iterator_category = std::input_iterator_tag;
    using value_type = char;
    using difference_type = std::ptrdiff_t;
    using pointer = const char*;
    using reference = const char&;

    Cursor(const char* at, Position* position) : at_(at), position_(position) {}
    reference operator*() const { return *at_; }
    Cursor& operator++() {
        if (position_->at_line_end) {
            ++position_->line;
            position_->column = 0;
        }
        position_->at_line_end = *at_ == '\n';
        ++position_->column;
        ++at_;
        return *this;
    }
    bool operator==(const Cursor& other) const { return at_ == other.at_; }

private:
    const char* at_;
    Position* position_;
};

class TreeBuilder {
public:
    TreeBuilder(const Position& position, const std::string& what)
        : position_(position), what_(what) {}

    bool null() { return add(Value()); }
    bool boolean(bool value) { return add(Value(value)); }
    bool number_integer(std::int64_t value) { return add(Value(value)); }
    bool number_unsigned(std::uint64_t value) {
        if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
            fail(cat("the integer ", value, " does not fit into 64 bits with sign"));
        }
        return add(Value(static_cast<std::int64_t>(value)));
    }
    bool number_float(double value, const std::string&) { return add(Value(value)); }
    bool string(std::string& value) { return add(Value(std::move(value))); }
    bool binary(Json::binary_t&) { return false; }

    bool start_object(std::size_t) { return open(Value(Object())); }
    bool start_array(std::size_t) { return open(Value(Array())); }
    bool end_object() { return close(); }
    bool end_array() { return close(); }
    bool key(std::string& value) {
        if (!levels_.back().keys.insert(value).second)
            fail(cat("the key \"", value, "\" stands twice"));
        levels_.back().key = std::move(value);
        return true;
    }
    template <class Exception>
    bool parse_error(std::size_t, const std::string& token, const Exception& exception) {
        // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while …:
        // unexpected …"
        const std::string text = exception.what();
        const std::size_t detail = text.rfind(": ");
        fail(cat(detail == std::string::npos ? text : text.substr(detail + 2),
                 token.empty() ? "" : cat(" near ", token)));
    }

    Value take() { return std::move(root_); }

private:
    struct Level {
        Value value;
        std::string key;  // of the member that comes next
        std::unordered_set<std::string> keys;
    };

    [[noreturn]] void fail(const std::string& problem) const {
        throw UsageError(cat("not valid JSON: ", problem, " (", what_, ", line ", position_.line,
                             ", column ", position_.column,
                             ") — nothing of it is used — correct the text"));
    }
    bool add(Value value) {
        if (value.line == 0) value.line = position_.line;
        if (levels_.empty()) {
            root_ = std::move(value);
            return true;
        }
        Level& level = levels_.back();
        if (Array* array = level.value.get_if<Array>())
            array->push_back(std::move(value));
        else
            level.value.get_if<Object>()->members().emplace_back(std::move(level.key),
                                                                 std::move(value));
        return true;
    }
    bool open(Value value) {
        if (levels_.size() >= kMaxDepth) fail(cat("nested deeper than ", kMaxDepth, " levels"));
        value.line = position_.line;
        levels_.push_back({std::move(value), {}, {}});
        return true;
    }
    bool close() {
        Value value = std::move(levels_.back().value);
        levels_.pop_back();
        return add(std::move(value));
    }

    const Position& position_;
    const std::string& what_;
    std::vector<Level> levels_;
    Value root_;
};

Json json_of(const Value& value) {
    if (const bool* v = value.get_if<bool>()) return *v;
    if (const std::int64_t* v = value.get_if<std::int64_t>()) return *v;
    if (const double* v = value.get_if<double>()) return *v;
    if (const std::string* v = value.get_if<std::string>()) return *v;
    if (const Array* v = value.get_if<Array>()) {
        Json array = Json::array();
        for (const Value& element : *v) array.push_back(json_of(element));
        return array;
    }
    if (const Object* v = value.get_if<Object>()) {
        Json object = Json::object();
        for (const auto& [key, member] : v->members()) object[key] = json_of(member);
        return object;
    }
    return nullptr;
}

}  // namespace

Value parse_json(std::string_view text, const std::string& what) {
    Position position;
    TreeBuilder builder(position, what);
    const bool complete = Json::sax_parse(Cursor(text.data(), &position),
                                          Cursor(text.data() + text.size(), &position), &builder);
    ensures(complete, "the JSON parser ends with a tree or an error");
    return builder.take();
}

std::string to_json(const Value& value, int indent) {
    // Text that is not UTF-8 (a file name, perhaps) must not end a run: replaced by U+FFFD.
    return json_of(value).dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace deeplab::io
