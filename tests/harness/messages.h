#pragma once
// What an error says, for tests of messages.

#include <string>

#include "deeplab/base/error.h"

namespace deeplab::testing {

// The message of the Kind that `body` ends with, "" where it ends without one. Any other exception
// is the test's end.
template <class Kind = Error, class Body>
std::string message_of(const Body& body) {
    try {
        body();
    } catch (const Kind& error) {
        return error.what();
    }
    return "";
}

}  // namespace deeplab::testing
