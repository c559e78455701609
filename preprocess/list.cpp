#include "list.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"

namespace fs = std::filesystem;

namespace deeplab::preprocess {
namespace {

void append_utf8(std::string& out, std::uint32_t c) {
    const auto put = [&](std::uint32_t byte) { out += static_cast<char>(byte); };
    if (c < 0x80) {
        put(c);
    } else if (c < 0x800) {
        put(0xC0 | c >> 6);
        put(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        put(0xE0 | c >> 12);
        put(0x80 | (c >> 6 & 0x3F));
        put(0x80 | (c & 0x3F));
    } else {
        put(0xF0 | c >> 18);
        put(0x80 | (c >> 12 & 0x3F));
        put(0x80 | (c >> 6 & 0x3F));
        put(0x80 | (c & 0x3F));
    }
}

[[noreturn]] void throw_no_text(const fs::path& file, const char* why) {
    throw DataError(cat("the list ", file.string(), " is no text: ", why,
                        " — its ids cannot be read — save it as plain text in UTF-8"));
}

std::string utf8_of_utf16(std::string_view bytes, bool big, const fs::path& file) {
    if (bytes.size() % 2 != 0) throw_no_text(file, "UTF-16 of an odd number of bytes");
    const auto unit = [&](std::size_t i) {
        const auto first = static_cast<unsigned char>(bytes[i]),
                   second = static_cast<unsigned char>(bytes[i + 1]);
        return static_cast<std::uint32_t>(big ? first << 8 | second : second << 8 | first);
    };
    std::string out;
    for (std::size_t i = 0; i < bytes.size(); i += 2) {
        std::uint32_t c = unit(i);
        if (c >= 0xD800 && c < 0xE000) {  // a pair of units is one character
            const std::uint32_t low = i + 2 < bytes.size() ? unit(i + 2) : 0;
            if (c >= 0xDC00 || low < 0xDC00 || low >= 0xE000)
                throw_no_text(file, "half a character of UTF-16");
            c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
            i += 2;
        }
        append_utf8(out, c);
    }
    return out;
}

// By the byte order mark; without one, text in UTF-16 has a zero byte in about every second place.
std::string decoded(std::string text, const fs::path& file) {
    if (text.starts_with("\xFF\xFE")) return utf8_of_utf16(text.substr(2), false, file);
    if (text.starts_with("\xFE\xFF")) return utf8_of_utf16(text.substr(2), true, file);
    std::array<std::size_t, 2> zeros = {0, 0};  // at even and odd places
    for (std::size_t i = 0; i < text.size(); ++i) zeros[i % 2] += text[i] == '\0' ? 1 : 0;
    const std::size_t many = text.size() / 4;
    if (zeros[1] > many && zeros[0] == 0) return utf8_of_utf16(text, false, file);
    if (zeros[0] > many && zeros[1] == 0) return utf8_of_utf16(text, true, file);
    return text;
}

// What the eye does not see at the ends of a line: blanks, the byte order mark (also where lists
// were joined), the no-break and the zero-width space.
std::string without_invisible_ends(std::string line) {
    constexpr std::string_view invisible[] = {"\xEF\xBB\xBF", "\xC2\xA0", "\xE2\x80\x8B"};
    for (bool changed = true; changed;) {
        line = trim(line);
        changed = false;
        for (const std::string_view mark : invisible) {
            if (line.starts_with(mark)) {
                line.erase(0, mark.size());
                changed = true;
            }
            if (line.ends_with(mark)) {
                line.erase(line.size() - mark.size());
                changed = true;
            }
        }
    }
    return line;
}

// Length of the UTF-8 character at the start of `text`; 0 when there is none.
std::size_t character(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned first = byte(0);
    if (first < 0x80) return 1;
    const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || text.size() < length) return 0;
    for (std::size_t i = 1; i < length; ++i)
        if ((byte(i) & 0xC0) != 0x80) return 0;
    const bool too_long = (first == 0xE0 && byte(1) < 0xA0) || (first == 0xF0 && byte(1) < 0x90);
    const bool no_character = (first == 0xED && byte(1) > 0x9F) ||
                              (first == 0xF4 && byte(1) > 0x8F);
    return too_long || no_character ? 0 : length;
}

}  // namespace

std::vector<ListLine> read_list_lines(const fs::path& file) {
    std::string text = decoded(read_text(file), file);
    if (text.find('\0') != std::string::npos) throw_no_text(file, "it has zero bytes");
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\r') continue;
        if (i + 1 < text.size() && text[i + 1] == '\n')
            text[i] = ' ';
        else
            text[i] = '\n';
    }
    std::vector<ListLine> lines;
    std::int64_t number = 0;
    for (const std::string& raw : split(text, '\n')) {
        ++number;
        std::string line = without_invisible_ends(raw);
        if (!line.empty()) lines.push_back({number, std::move(line)});
    }
    return lines;
}

bool is_utf8(std::string_view text) {
    while (!text.empty()) {
        const std::size_t length = character(text);
        if (length == 0) return false;
        text.remove_prefix(length);
    }
    return true;
}

std::optional<std::string> utf8_of_windows_1252(std::string_view text) {
    // What stands at 0x80 to 0x9F, where Latin-1 has no letters; 0: nothing.
    constexpr std::array<std::uint16_t, 32> upper = {
        0x20AC, 0,      0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
        0x2039, 0x0152, 0,      0x017D, 0,      0,      0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
        0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0,      0x017E, 0x0178};
    std::string out;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        const std::uint32_t letter = byte >= 0x80 && byte < 0xA0 ? upper[byte - 0x80] : byte;
        if (letter == 0) return std::nullopt;
        append_utf8(out, letter);
    }
    return out;
}

std::string printable(std::string_view text) {
    std::string out;
    while (!text.empty()) {
        const std::size_t length = character(text);
        if (length > 0) {
            out += text.substr(0, length);
        } else {
            char escaped[8];
            std::snprintf(escaped, sizeof escaped, "\\x%02x", static_cast<unsigned char>(text[0]));
            out += escaped;
        }
        text.remove_prefix(std::max<std::size_t>(length, 1));
    }
    return out;
}

std::string letters(std::string_view text) {
    std::string out;
    while (!text.empty()) {
        const std::size_t length = std::max<std::size_t>(character(text), 1);
        const std::uint64_t hash = fnv1a(text.data(), length);
        out += length == 1 ? text[0] : static_cast<char>(0x80 | (hash & 0x7F));
        text.remove_prefix(length);
    }
    return out;
}

bool has_separate_accents(std::string_view text) {
    for (std::size_t i = 0; i + 1 < text.size(); ++i) {  // U+0300 to U+036F
        const auto first = static_cast<unsigned char>(text[i]),
                   second = static_cast<unsigned char>(text[i + 1]);
        if (first == 0xCC || (first == 0xCD && second < 0xB0)) return true;
    }
    return false;
}

std::string unquoted(const std::string& column) {
    if (column.size() >= 2 && column.front() == column.back() &&
        (column.front() == '"' || column.front() == '\''))
        return column.substr(1, column.size() - 2);
    return column;
}

std::vector<std::pair<std::string, std::string>> columns_of(const std::string& line) {
    constexpr std::string_view separators = " \t,;";
    std::vector<std::pair<std::string, std::string>> ways;
    for (std::size_t at = line.find_first_of(separators); at != std::string::npos;) {
        std::size_t end = line.find_first_not_of(separators, at);
        if (at > 0 && end != std::string::npos)
            ways.emplace_back(unquoted(line.substr(0, at)), unquoted(line.substr(end)));
        at = end == std::string::npos ? end : line.find_first_of(separators, end);
    }
    return ways;
}

}  // namespace deeplab::preprocess
