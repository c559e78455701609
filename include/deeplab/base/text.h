#pragma once
// Small text helpers, so that no other folder needs a formatting library.

#include <cstdint>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace deeplab {

// Concatenates anything that has operator<<: cat("step ", 3, ": ", 0.5).
template <class... Parts>
std::string cat(const Parts&... parts) {
    std::ostringstream out;
    (out << ... << parts);
    return out.str();
}

std::string fixed(double value, int digits);   // "3.142"; fixed notation, never locale-dependent
std::string human_bytes(std::uint64_t bytes);  // "1.50 GiB"
std::string human_seconds(double seconds);     // "1 h 02 min", "3 min 20 s", "4.1 s"
std::string hex64(std::uint64_t value);        // 16 lower-case digits
std::vector<std::string> split(std::string_view text, char separator);
std::string trim(std::string_view text);
// Of at least `width` bytes: filled behind, or before.
std::string left_aligned(std::string_view text, std::size_t width);
std::string right_aligned(std::string_view text, std::size_t width, char fill = ' ');

// The candidate with the smallest edit distance to `word`, or "" when none is near enough to
// suggest.
std::string nearest(std::string_view word, std::span<const std::string> candidates);

// FNV-1a over bytes; chain calls by passing the previous result as `seed`.
std::uint64_t fnv1a(const void* data, std::size_t bytes,
                    std::uint64_t seed = 0xcbf29ce484222325ull);

}  // namespace deeplab
