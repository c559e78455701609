#pragma once
// JSON as a sequence of events, for files that are too large to be held as a tree.

#include <cstdint>
#include <filesystem>
#include <string>

namespace deeplab::io {

// What the reader meets, in the file's order. A function that throws ends the reading; the
// exception goes to the caller of read_json.
class JsonEvents {
public:
    virtual ~JsonEvents() = default;

    virtual void null() = 0;
    virtual void boolean(bool value) = 0;
    virtual void integer(std::int64_t value) = 0;
    virtual void number(double value) = 0;      // with a point or an exponent, or beyond 64 bits
    virtual void text(std::string& value) = 0;  // UTF-8; may be moved from
    virtual void key(std::string& name) = 0;    // of the member that comes next; likewise
    virtual void start_object() = 0;
    virtual void end_object() = 0;
    virtual void start_array() = 0;
    virtual void end_array() = 0;
};

// Reads the file piece by piece: the memory that it takes does not grow with the file. It keeps
// neither the depth of the nesting nor the keys of an object; that is up to `events`. DataError
// with the number of the byte when the file is no JSON, UsageError when it cannot be read.
void read_json(const std::filesystem::path& file, JsonEvents& events);

}  // namespace deeplab::io
