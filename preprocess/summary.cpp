#include "summary.h"

#include <algorithm>
#include <numeric>

#include "deeplab/base/text.h"
#include "source.h"

namespace deeplab::preprocess {
namespace {

constexpr double kManyIgnored = 0.5;  // of all pixels
constexpr std::size_t kMostNamed = 5;
constexpr std::size_t kSmooth = 20;  // colours without a class: more are no one's choice

std::int64_t labelled_pixels(const data::Manifest& m) {
    return std::accumulate(m.class_pixels.begin(), m.class_pixels.end(), std::int64_t{0});
}

std::string percent(std::int64_t part, std::int64_t whole) {
    return cat(
        fixed(whole > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0, 2),
        " %");
}

// "a, b, c and 4 more"
std::string list_of(const std::vector<std::string>& names) {
    std::string text;
    for (std::size_t i = 0; i < std::min(names.size(), kMostNamed); ++i)
        text += (i == 0 ? "" : ", ") + names[i];
    return names.size() > kMostNamed ? cat(text, " and ", names.size() - kMostNamed, " more")
                                     : text;
}

std::vector<std::string> absent_classes(const data::Manifest& m) {
    std::vector<std::string> names;
    for (std::size_t c = 0; c < m.class_pixels.size(); ++c)
        if (m.class_pixels[c] == 0) names.push_back(m.classes.classes[c].name);
    return names;
}

// Masks of 0 and 255 are the common way to store two classes, and 255 the usual value to ignore.
std::string if_ignore_is_a_class(const data::Manifest& m) {
    const std::size_t classes = m.class_pixels.size();
    if (m.ignore_pixels == 0 || classes < 2 || m.class_pixels[classes - 1] > 0) return "";
    const std::string& last = m.classes.classes[classes - 1].name;
    return cat("; if ", m.classes.ignore, " in the masks is class \"", last,
               "\" and not \"ignore\", give every class its value in the --classes file (label = "
               "0, …, label = ",
               m.classes.ignore, ")");
}

std::string text_of(std::uint32_t color) {
    return cat("[", color >> 16, ", ", color >> 8 & 255, ", ", color & 255, "]");
}

std::string advice_on_values(const std::map<std::uint32_t, std::int64_t>& values,
                             const data::ClassFile& file) {
    std::vector<std::string> named;
    for (const auto& [value, pixels] : values)
        named.push_back(cat(value, " (", pixels, " pixels)"));
    const std::size_t classes = file.classes.classes.size();
    std::string text = cat("labels that no class has: ", list_of(named), " — the classes are ",
                           file.masks.plain() ? cat("0..", classes - 1) : "as their labels say",
                           " — add classes, give each its value in the masks (label = …), or name "
                           "the values without a class: ignore_labels = [",
                           values.begin()->first, ", …]");
    if (values.size() == 1 && values.begin()->first == classes)
        text += cat("; if the masks count classes from 1 and 0 means no label, write ignore = 0");
    return text;
}

std::string advice_on_colors(const std::map<std::uint32_t, std::int64_t>& colors) {
    std::vector<std::pair<std::int64_t, std::uint32_t>> most;
    for (const auto& [color, pixels] : colors) most.emplace_back(-pixels, color);
    std::sort(most.begin(), most.end());
    std::vector<std::string> named;
    std::string list;
    for (const auto& [pixels, color] : most) {
        named.push_back(cat(text_of(color), " (", -pixels, " pixels)"));
        if (named.size() <= kMostNamed) list += (list.empty() ? "" : ", ") + text_of(color);
    }
    if (colors.size() > kSmooth)
        return cat("colours that no class has: ", list_of(named),
                   " — so many come from masks that were resized smoothly or stored as JPEG — make "
                   "the masks again without mixing colours");
    return cat("colours that no class has: ", list_of(named),
               " — a pixel needs a class or is ignored — add classes of these colours or, where "
               "they mean \"no class\", write in the --classes file: ignore_colors = [",
               list, "]");
}

}  // namespace

std::string class_table(const data::Manifest& m) {
    const std::int64_t labelled = labelled_pixels(m), all = labelled + m.ignore_pixels;
    std::size_t width = 5;
    for (const auto& info : m.classes.classes) width = std::max(width, info.name.size());
    const auto line = [&](const std::string& index, const std::string& name,
                          const std::string& pixels, const std::string& share,
                          const std::string& images) {
        return cat("  ", right_aligned(index, 3), "  ", left_aligned(name, width),
                   right_aligned(pixels, 15), right_aligned(share, 10), right_aligned(images, 9),
                   "\n");
    };
    std::string text = cat("classes of split ", m.split, ": ", m.records, " images, ", all,
                           " pixels, ", percent(m.ignore_pixels, all), " ignored (label ",
                           m.classes.ignore, ")\n", line("", "class", "pixels", "share", "images"));
    for (std::size_t c = 0; c < m.class_pixels.size(); ++c)
        text += line(cat(c), m.classes.classes[c].name, cat(m.class_pixels[c]),
                     percent(m.class_pixels[c], labelled), cat(m.class_images[c]));
    text.pop_back();
    return text;
}

std::vector<std::string> warnings(const data::Manifest& m, const Survey& found,
                                  bool default_classes) {
    std::vector<std::string> out;
    const std::int64_t all = labelled_pixels(m) + m.ignore_pixels;
    if (const std::vector<std::string> absent = absent_classes(m); !absent.empty())
        out.push_back(cat(
            absent.size(), " of ", m.class_pixels.size(), " classes occur in no mask of split ",
            m.split, ": ", list_of(absent), " — ",
            trains_only(m.split) ? "a network cannot learn them" : "they cannot be judged", " — ",
            default_classes
                ? "VOC's 21 classes were taken, as --classes was not given: if these masks "
                  "have others, name them with --classes and pack again with --force"
                : "check masks and --classes, unless the list is meant so",
            if_ignore_is_a_class(m)));
    if (all > 0 && static_cast<double>(m.ignore_pixels) > kManyIgnored * static_cast<double>(all))
        out.push_back(cat(percent(m.ignore_pixels, all), " of the pixels of split ", m.split,
                          " are ignored (label ", m.classes.ignore,
                          ") — they are neither trained on nor judged — check what this value "
                          "means in the masks"));
    if (!found.unlabelled.empty()) {
        std::vector<std::string> ids;
        for (const Finding& f : found.unlabelled) ids.push_back(f.record);
        out.push_back(cat(ids.size(), " of ", m.records, " images of split ", m.split,
                          " have no pixel with a label: ", list_of(ids),
                          " — nothing is learned from them — take them off the list"));
    }
    if (found.other_palettes > 0) {
        const Finding& first = found.palette_notes.front();
        out.push_back(cat("the palettes of ", found.other_palettes,
                          " masks have other colours than the classes: ", first.reason, " (",
                          first.file,
                          ") — the indices are taken as labels — check that they are the classes' "
                          "numbers; if so, nothing is wrong"));
    }
    return out;
}

std::string refusal(const data::Manifest& m) {
    const std::int64_t occurring = data::classes_that_occur(m);
    if (occurring == 0)
        return cat("all ", m.ignore_pixels, " pixels of split ", m.split, " are ignored (label ",
                   m.classes.ignore,
                   ") — there is nothing to learn or to judge — check masks and --classes",
                   if_ignore_is_a_class(m));
    if (occurring > 1 || !trains_only(m.split)) return "";
    const auto only = static_cast<std::size_t>(
        std::find_if(m.class_pixels.begin(), m.class_pixels.end(),
                     [](std::int64_t pixels) { return pixels > 0; }) -
        m.class_pixels.begin());
    return cat("every pixel of split ", m.split, " that has a label is of class \"",
               m.classes.classes[only].name, "\"; ",
               percent(m.ignore_pixels, labelled_pixels(m) + m.ignore_pixels),
               " of the pixels are ignored (label ", m.classes.ignore,
               ") — a network learns to tell classes apart: here there is one only — check masks "
               "and --classes",
               if_ignore_is_a_class(m));
}

std::string advice(const ForeignLabels& foreign, const data::ClassFile& classes) {
    std::string text;
    if (!foreign.values.empty()) text += advice_on_values(foreign.values, classes) + "\n";
    if (!foreign.colors.empty()) text += advice_on_colors(foreign.colors) + "\n";
    return text;
}

}  // namespace deeplab::preprocess
