#pragma once
// What the readers of named tensors share; private to this folder.

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"

namespace deeplab::io {

using Bytes = std::span<const unsigned char>;

// Ends reading: `what` names the file, which is damaged.
[[noreturn]] inline void refuse(const std::string& what, const std::string& problem) {
    throw DataError(cat(what, " cannot be used: ", problem,
                        " — a network would start from damaged values — fetch or write the file "
                        "again"));
}
// The same of a file that is whole, and is not what is read here.
[[noreturn]] inline void refuse_kind(const std::string& what, const std::string& problem,
                                     const std::string& why, const std::string& remedy) {
    throw DataError(cat(what, " cannot be used: ", problem, " — ", why, " — ", remedy));
}

// Text out of a file, fit for a terminal.
std::string shown(std::string_view text);
// A tensor's name that is too long or has control characters is refused: it will be printed.
void check_name(std::string_view name, const std::string& what);

// An unsigned little-endian number of sizeof(T) bytes at `at`; the caller has checked the bounds.
template <class T>
T little_endian(Bytes bytes, std::size_t at) {
    T value = 0;
    for (std::size_t i = sizeof(T); i-- > 0;) value = static_cast<T>(value << 8 | bytes[at + i]);
    return value;
}

// The product of extents, where it is at most `limit`; extents beside a zero are held to the same
// limit, so that no product of them overflows. For sizes that a file claims.
std::optional<std::uint64_t> elements_within(std::span<const std::int64_t> extents,
                                             std::uint64_t limit);

// a * b where that stays at or below `limit`; false otherwise.
inline bool multiply(std::uint64_t a, std::uint64_t b, std::uint64_t limit,
                     std::uint64_t& product) {
    if (b != 0 && a > limit / b) return false;
    product = a * b;
    return true;
}

}  // namespace deeplab::io
