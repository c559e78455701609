// JSON with nlohmann-json: its event interface fills the tree directly, so that lines are known and
// a key that stands twice is refused instead of the last one winning. Large files go as events to
// whoever reads them.

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <limits>
#include <memory>
#include <unordered_set>
#include <vector>

#include <nlohmann/json.hpp>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/io/foreign.h"
#include "deeplab/io/json_events.h"
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

// "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while … -
// invalid …; last read: 'TOKEN'; expected …": what stands behind the place, with the token's end.
std::string detail_of(std::string message, const std::string& token) {
    constexpr std::size_t most = 40;  // of a token; a string may be as long as the file
    const std::size_t place = message.find(", column ");
    const std::size_t detail = place == std::string::npos ? message.find("] ")
                                                          : message.find(": ", place);
    if (detail != std::string::npos) message.erase(0, detail + 2);
    const std::size_t read = message.find("; last read: '"), end = message.rfind('\'');
    if (read != std::string::npos) message.erase(read, std::max(end, read) + 1 - read);
    return cat(message,
               token.empty()
                   ? ""
                   : cat(" near ", token.substr(token.size() - std::min(most, token.size()))));
}

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
        const std::string text = exception.what();
        fail(detail_of(text, token));
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

// A file's bytes, a piece in memory at a time.
class FileBytes {
public:
    explicit FileBytes(const std::filesystem::path& path)
        : path_(path), file_(std::fopen(path.c_str(), "rb"), &std::fclose), piece_(1 << 20) {
        if (!file_) cannot_read();
        fill();
        if (const auto foreign = foreign_file({piece_.data(), filled_}); foreign)
            throw DataError(
                cat(path.string(), " is ", foreign->what, " — it is no JSON — ", foreign->remedy));
    }

    bool at_end() const { return filled_ == 0; }
    const char& front() const { return reinterpret_cast<const char&>(piece_[at_]); }
    void advance() {
        ++passed_;
        if (++at_ == filled_) fill();
    }
    std::int64_t passed() const { return passed_; }

private:
    [[noreturn]] void cannot_read() const {
        const int problem = errno;
        if (is_machines_failure(problem)) throw_machines_failure("read", path_, problem);
        throw UsageError(cat("cannot read ", path_.string(), ": ", std::strerror(problem),
                             " — it is needed — check the path"));
    }
    void fill() {
        filled_ = std::fread(piece_.data(), 1, piece_.size(), file_.get());
        at_ = 0;
        if (filled_ == 0 && std::ferror(file_.get()) != 0) cannot_read();
    }

    std::filesystem::path path_;
    std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
    std::vector<unsigned char> piece_;
    std::size_t filled_ = 0, at_ = 0;
    std::int64_t passed_ = 0;
};

// The end is an iterator without bytes.
class FileCursor {
public:
    using iterator_category = std::input_iterator_tag;
    using value_type = char;
    using difference_type = std::ptrdiff_t;
    using pointer = const char*;
    using reference = const char&;

    explicit FileCursor(FileBytes* bytes) : bytes_(bytes) {}
    reference operator*() const { return bytes_->front(); }
    FileCursor& operator++() {
        bytes_->advance();
        return *this;
    }
    bool operator==(const FileCursor& other) const { return ended() == other.ended(); }

private:
    bool ended() const { return bytes_ == nullptr || bytes_->at_end(); }

    FileBytes* bytes_;
};

// The library's events as ours.
class Forwarder {
public:
    Forwarder(JsonEvents& events, const FileBytes& bytes, std::string what)
        : events_(events), bytes_(bytes), what_(std::move(what)) {}

    bool null() { return events_.null(), true; }
    bool boolean(bool value) { return events_.boolean(value), true; }
    bool number_integer(std::int64_t value) { return events_.integer(value), true; }
    bool number_unsigned(std::uint64_t value) {
        if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
            events_.number(static_cast<double>(value));
        else
            events_.integer(static_cast<std::int64_t>(value));
        return true;
    }
    bool number_float(double value, const std::string&) { return events_.number(value), true; }
    bool string(std::string& value) { return events_.text(value), true; }
    bool binary(Json::binary_t&) { return false; }
    bool start_object(std::size_t) { return events_.start_object(), true; }
    bool end_object() { return events_.end_object(), true; }
    bool start_array(std::size_t) { return events_.start_array(), true; }
    bool end_array() { return events_.end_array(), true; }
    bool key(std::string& name) { return events_.key(name), true; }
    template <class Exception>
    bool parse_error(std::size_t, const std::string& token, const Exception& exception) {
        throw DataError(cat("not valid JSON: ", detail_of(exception.what(), token), " (", what_,
                            ", byte ", bytes_.passed(),
                            ") — nothing of it is used — fetch or write the file again"));
    }

private:
    JsonEvents& events_;
    const FileBytes& bytes_;
    std::string what_;
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

void read_json(const std::filesystem::path& file, JsonEvents& events) {
    FileBytes bytes(file);
    Forwarder forwarder(events, bytes, file.string());
    const bool complete = Json::sax_parse(FileCursor(&bytes), FileCursor(nullptr), &forwarder);
    ensures(complete, "the JSON parser ends with the last event or an error");
}

std::string to_json(const Value& value, int indent) {
    // Text that is not UTF-8 (a file name, perhaps) must not end a run: replaced by U+FFFD.
    return json_of(value).dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace deeplab::io
