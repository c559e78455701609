#include "palette.h"

#include <optional>

#include "deeplab/base/text.h"

namespace deeplab::preprocess {
namespace {

constexpr int kMostNamed = 3;  // entries in a message

std::string text_of(io::Rgb c) { return cat("(", int{c.r}, ", ", int{c.g}, ", ", int{c.b}, ")"); }

bool is_gray_ramp(const std::vector<io::Rgb>& palette) {
    for (std::size_t i = 0; i < palette.size(); ++i) {
        const auto level = static_cast<std::uint8_t>(i);
        if (!(palette[i] == io::Rgb{level, level, level})) return false;
    }
    return true;
}

// The colour that an index should have, and what has it.
struct Expected {
    io::Rgb color;
    std::string name;
};

std::optional<Expected> expected_at(std::size_t value, const data::ClassFile& file) {
    const int label = file.masks.label_of(value);
    if (label == data::MaskValues::no_label) return std::nullopt;
    if (label == file.classes.ignore) return Expected{file.masks.void_colors.front(), "ignored"};
    const data::ClassInfo& info = file.classes.classes[static_cast<std::size_t>(label)];
    if (!info.has_color) return std::nullopt;
    return Expected{info.color, cat("\"", info.name, "\"")};
}

}  // namespace

std::string check_palette(const std::vector<io::Rgb>& palette, const Histogram& values,
                          const data::ClassFile& classes, const std::string& what) {
    if (palette.empty() || is_gray_ramp(palette)) return "";
    std::string contradictions, note;
    int count = 0;
    for (std::size_t i = 0; i < palette.size(); ++i) {
        if (values[i] == 0) continue;
        const std::optional<Expected> own = expected_at(i, classes);
        if (own && own->color == palette[i]) continue;
        for (std::size_t j = 0; j < values.size(); ++j) {
            const std::optional<Expected> other = expected_at(j, classes);
            // Where the other index has its colour, this one is a second entry of it, not a swap.
            if (!other || !(other->color == palette[i]) ||
                (j < palette.size() && palette[j] == other->color))
                continue;
            if (++count <= kMostNamed)
                contradictions += cat(contradictions.empty() ? "" : "; ", "index ", i, " has ",
                                      text_of(palette[i]), ", the colour of ", j, " ", other->name);
            break;
        }
        if (note.empty() && own && own->name != "ignored")
            note = cat("index ", i, " has ", text_of(palette[i]), ", class ", own->name, " ",
                       text_of(own->color));
    }
    if (count > kMostNamed) contradictions += cat("; and ", count - kMostNamed, " more");
    if (count > 0)
        throw DataError(cat("palette and classes contradict each other: ", contradictions, " (",
                            what,
                            ") — labels would be those of other classes — store the mask with "
                            "the classes' indices or as RGB, or correct the colours of --classes"));
    return note;
}

}  // namespace deeplab::preprocess
