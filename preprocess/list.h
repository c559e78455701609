#pragma once
// Lists of ids as people have them: any usual encoding and line end, as lines of UTF-8.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace deeplab::preprocess {

struct ListLine {
    std::int64_t number = 0;  // from 1
    std::string text;         // without blanks and invisible characters at its ends; never empty
};

// UTF-8 and UTF-16 with or without a byte order mark; lines end with LF, CR LF or CR. A line of
// another encoding keeps its bytes: is_utf8() tells. UsageError when the file cannot be read,
// DataError when it is no text.
std::vector<ListLine> read_list_lines(const std::filesystem::path& file);

bool is_utf8(std::string_view text);
// Text of Windows' Western encoding (which has Latin-1's letters) as UTF-8; nothing where a byte
// has no character there.
std::optional<std::string> utf8_of_windows_1252(std::string_view text);
// For a message: bytes that are no UTF-8 as \xNN.
std::string printable(std::string_view text);

// A byte for each character, the same for equal ones: to compare texts letter by letter.
std::string letters(std::string_view text);
// Whether a letter's accent stands in it as a character of its own, as macOS stores file names.
bool has_separate_accents(std::string_view text);

// The ways to read a line as two columns, at each blank, tab, comma or semicolon; without the
// quotation marks around a column.
std::vector<std::pair<std::string, std::string>> columns_of(const std::string& line);
std::string unquoted(const std::string& column);

}  // namespace deeplab::preprocess
