#pragma once
// Errors that a user can act on, and the exit code each one ends the process with.
//
// Message grammar, everywhere: what is wrong (where) — why it matters — what to do.

#include <stdexcept>
#include <string>

namespace deeplab {

// Exit codes are part of the user interface: job scripts branch on them.
enum class ExitCode : int {
    ok = 0,
    bug = 1,             // an uncaught exception that is not an Error
    usage = 2,           // wrong command line or configuration
    data = 3,            // bad input data: file, record, why
    device = 4,          // device or communication failure, out of memory
    stopped_early = 75,  // stopped with a good checkpoint: submit again
};

class Error : public std::runtime_error {
public:
    Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
    ExitCode code() const { return code_; }

private:
    ExitCode code_;
};

struct UsageError : Error {
    explicit UsageError(const std::string& message) : Error(ExitCode::usage, message) {}
};

struct DataError : Error {
    explicit DataError(const std::string& message) : Error(ExitCode::data, message) {}
};

struct DeviceError : Error {
    explicit DeviceError(const std::string& message) : Error(ExitCode::device, message) {}
};

// Throws the kind of Error that belongs to the code.
[[noreturn]] inline void throw_error(ExitCode code, const std::string& message) {
    switch (code) {
        case ExitCode::usage: throw UsageError(message);
        case ExitCode::data: throw DataError(message);
        case ExitCode::device: throw DeviceError(message);
        default: throw Error(code, message);
    }
}

// A broken promise between parts of this program: always a bug, never the user's fault.
struct LogicError : std::logic_error {
    using std::logic_error::logic_error;
};

// Precondition of a function; `text` says what the caller had to ensure.
inline void expects(bool condition, const char* text) {
    if (!condition) throw LogicError(std::string("precondition failed: ") + text);
}

// Postcondition or invariant; `text` says what should have held.
inline void ensures(bool condition, const char* text) {
    if (!condition) throw LogicError(std::string("invariant failed: ") + text);
}

}  // namespace deeplab
