#include "record.h"

#include <algorithm>
#include <unordered_map>

#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "palette.h"

namespace deeplab::preprocess {
namespace {

std::uint32_t key_of(io::Rgb c) {
    return static_cast<std::uint32_t>(c.r) << 16 | static_cast<std::uint32_t>(c.g) << 8 | c.b;
}

std::string and_more(std::size_t others, const char* what) {
    return others == 0 ? "" : cat(", and ", others, " more ", what, others == 1 ? "," : "s,");
}

// Class ids in three equal channels. Black and white alone may be two painted classes.
bool holds_ids(const io::Image& image, const data::ClassFile& file) {
    bool beyond_black = false;
    for (std::size_t i = 0; i + 2 < image.pixels.size(); i += 3) {
        const std::uint8_t v = image.pixels[i];
        const int label = file.masks.label_of(v);
        if (v != image.pixels[i + 1] || v != image.pixels[i + 2] ||
            label == data::MaskValues::no_label)
            return false;
        beyond_black = beyond_black || (v != 0 && label != file.classes.ignore);
    }
    return beyond_black;
}

DataError ids_as_rgb(const std::string& what) {
    return DataError(
        cat("an RGB mask whose three equal channels hold class ids: store it as gray, "
            "with one channel (",
            what,
            ") — the pixels of an RGB mask are taken for colours of classes — "
            "convert the masks"));
}

// Labels by colour: those of the classes, and those to be ignored.
std::unordered_map<std::uint32_t, std::uint8_t> labels_by_color(const data::ClassFile& file,
                                                                const std::string& what) {
    std::unordered_map<std::uint32_t, std::uint8_t> labels;
    const auto& classes = file.classes.classes;
    for (std::size_t c = 0; c < classes.size(); ++c) {
        if (!classes[c].has_color)
            throw DataError(cat(
                "an RGB mask, but class \"", classes[c].name, "\" has no colour (", what,
                ") — its pixels cannot become labels — add color = [r, g, b] to every class, or "
                "store the labels as a gray or palette PNG"));
        labels.emplace(key_of(classes[c].color), static_cast<std::uint8_t>(c));
    }
    for (const auto& [color, label] : file.masks.more_colors)
        labels.emplace(key_of(color), static_cast<std::uint8_t>(label));
    for (const io::Rgb color : file.masks.void_colors)
        labels.emplace(key_of(color), static_cast<std::uint8_t>(file.classes.ignore));
    return labels;
}

// Masks painted in the classes' colours, as other data sets have them.
io::Mask labels_from_colors(const io::Image& image, const data::ClassFile& classes,
                            const std::string& what) {
    const bool coloured = std::all_of(classes.classes.classes.begin(),
                                      classes.classes.classes.end(),
                                      [](const data::ClassInfo& c) { return c.has_color; });
    if (!coloured && holds_ids(image, classes)) throw ids_as_rgb(what);
    const auto label_of = labels_by_color(classes, what);
    io::Mask mask{image.width, image.height, {}};
    const std::size_t pixels = image.pixels.size() / 3;
    mask.labels.resize(pixels);
    ForeignLabels foreign;
    std::size_t first = 0;
    for (std::size_t i = 0; i < pixels; ++i) {
        const std::uint32_t color = key_of(
            {image.pixels[3 * i], image.pixels[3 * i + 1], image.pixels[3 * i + 2]});
        const auto found = label_of.find(color);
        if (found != label_of.end()) {
            mask.labels[i] = found->second;
        } else {
            if (foreign.colors.empty()) first = i;
            ++foreign.colors[color];
        }
    }
    if (foreign.colors.empty()) return mask;
    if (holds_ids(image, classes)) throw ids_as_rgb(what);
    const auto at = static_cast<std::int64_t>(first);
    // A statement of its own: as an argument it may be made after `foreign` was moved from.
    const std::string message = cat(
        "colour (", int{image.pixels[3 * first]}, ", ", int{image.pixels[3 * first + 1]}, ", ",
        int{image.pixels[3 * first + 2]}, ") of pixel x ", at % image.width, ", y ",
        at / image.width, and_more(foreign.colors.size() - 1, "colour"), " belongs to no class (",
        what, ") — the pixel has no label — correct the mask or the file of --classes");
    throw ForeignLabelsError(message, std::move(foreign));
}

// Masks of values: bytes, or 16 bits.
template <class Value>
io::Mask labels_from_values(std::int64_t width, std::int64_t height, std::vector<Value> values,
                            const data::ClassFile& file, const std::string& what) {
    std::vector<std::int64_t> counts(std::size_t{1} << (8 * sizeof(Value)));
    for (const Value value : values) ++counts[value];
    ForeignLabels foreign;
    for (std::size_t v = 0; v < counts.size(); ++v)
        if (counts[v] > 0 && file.masks.label_of(v) == data::MaskValues::no_label)
            foreign.values[static_cast<std::uint32_t>(v)] = counts[v];
    if (!foreign.values.empty()) {
        const auto [value, pixels] = *foreign.values.begin();
        const std::int64_t at = std::find(values.begin(), values.end(), value) - values.begin();
        // As above: before `foreign` is moved from.
        const std::string message = cat(
            "label ", value, " in ", pixels, " pixels, first at x ", at % width, ", y ", at / width,
            and_more(foreign.values.size() - 1, "label"), " is neither a class nor ignored (", what,
            ") — training would fail on it — correct the mask, or name the classes by --classes");
        throw ForeignLabelsError(message, std::move(foreign));
    }
    if constexpr (sizeof(Value) == 1)
        if (file.masks.plain()) return {width, height, std::move(values)};
    io::Mask mask{width, height, std::vector<std::uint8_t>(values.size())};
    std::transform(values.begin(), values.end(), mask.labels.begin(), [&](Value value) {
        return static_cast<std::uint8_t>(file.masks.labels[value]);
    });
    return mask;
}

bool is_painted(const io::ImageInfo& info) {
    return info.format == io::ImageFormat::png && info.channels >= 3 && !info.palette;
}

// Shards hold labels in bytes: masks that hold colours, values of their own or 16 bits are written
// anew.
bool needs_new_mask(const io::ImageInfo& info, const data::ClassFile& classes) {
    return !classes.masks.plain() || is_painted(info) || info.bit_depth == 16;
}

// Sets `palette_note` as Loaded has it.
io::Mask read_labels(const std::vector<std::uint8_t>& bytes, const io::ImageInfo& info,
                     const data::ClassFile& classes, const std::string& what,
                     std::string& palette_note) {
    if (is_painted(info)) return labels_from_colors(io::decode_image(bytes, what), classes, what);
    if (info.bit_depth == 16) {
        io::WideMask wide = io::decode_wide_mask(bytes, what);
        return labels_from_values(wide.width, wide.height, std::move(wide.labels), classes, what);
    }
    io::Mask mask = io::decode_mask(bytes, what);
    palette_note = check_palette(io::read_palette(bytes, what), histogram(mask), classes, what);
    return labels_from_values(mask.width, mask.height, std::move(mask.labels), classes, what);
}

}  // namespace

Histogram histogram(const io::Mask& mask) {
    Histogram counts{};
    for (const std::uint8_t label : mask.labels) ++counts[label];
    return counts;
}

void ClassCounts::add(const Histogram& labels, int ignore) {
    for (std::size_t c = 0; c < pixels.size(); ++c) {
        pixels[c] += labels[c];
        images[c] += labels[c] > 0 ? 1 : 0;
    }
    ignored += labels[static_cast<std::size_t>(ignore)];
}

void check_labels(const io::Mask& mask, const Histogram& labels, const data::ClassTable& classes,
                  const std::string& what) {
    const std::size_t count = classes.classes.size();
    for (std::size_t v = count; v < labels.size(); ++v) {
        if (labels[v] == 0 || static_cast<int>(v) == classes.ignore) continue;
        const std::int64_t at = std::find(mask.labels.begin(), mask.labels.end(), v) -
                                mask.labels.begin();
        throw DataError(cat(
            "label ", v, " in ", labels[v], " pixels, first at x ", at % mask.width, ", y ",
            at / mask.width, ": the classes are 0..", count - 1, " and ignore is ", classes.ignore,
            " (", what,
            ") — training would fail on it — correct the mask, or name the classes by --classes"));
    }
}

Loaded load_record(const Entry& entry, const data::ClassFile& classes, data::Encoding encoding) {
    const std::string image_name = entry.image.string(), mask_name = entry.mask.string();
    Loaded out;
    out.record.id = entry.id;
    out.record.image = read_bytes(entry.image);
    out.record.mask = read_bytes(entry.mask);
    io::Image image = io::decode_image(out.record.image, image_name);
    const io::ImageInfo info = io::read_mask_info(out.record.mask, mask_name);
    io::Mask mask = read_labels(out.record.mask, info, classes, mask_name, out.palette_note);
    if (needs_new_mask(info, classes))
        out.record.mask = io::encode_palette_png(mask, classes.classes.palette());
    if (image.width != mask.width || image.height != mask.height)
        throw DataError(cat("the image is ", image.width, "x", image.height, ", its mask ",
                            mask.width, "x", mask.height, " (", mask_name,
                            ") — labels would not lie on their pixels — replace one of them"));
    out.record.width = image.width;
    out.record.height = image.height;
    out.labels = histogram(mask);
    if (encoding == data::Encoding::raw) {
        out.record.image = std::move(image.pixels);
        out.record.mask = std::move(mask.labels);
    }
    return out;
}

data::Record reload_record(const Entry& entry, const data::ClassFile& classes,
                           data::Encoding encoding) {
    data::Record record{entry.id, 0, 0, read_bytes(entry.image), read_bytes(entry.mask)};
    if (encoding == data::Encoding::raw ||
        needs_new_mask(io::read_mask_info(record.mask, entry.mask.string()), classes))
        return load_record(entry, classes, encoding).record;
    const io::ImageInfo info = io::read_info(record.image, entry.image.string());
    record.width = info.width;
    record.height = info.height;
    return record;
}

}  // namespace deeplab::preprocess
