#include "record.h"

#include <algorithm>
#include <unordered_map>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"

namespace fs = std::filesystem;

namespace deeplab::preprocess {
namespace {

std::uint32_t key_of(io::Rgb c) {
    return static_cast<std::uint32_t>(c.r) << 16 | static_cast<std::uint32_t>(c.g) << 8 | c.b;
}

// Masks painted in the classes' colours, as other data sets have them.
io::Mask labels_from_colors(const io::Image& image, const data::ClassTable& classes,
                            const std::string& what) {
    std::unordered_map<std::uint32_t, std::uint8_t> label_of;
    for (std::size_t c = 0; c < classes.classes.size(); ++c) {
        if (!classes.classes[c].has_color)
            throw DataError(cat(
                "an RGB mask, but class \"", classes.classes[c].name, "\" has no colour (", what,
                ") — its pixels cannot become labels — add color = [r, g, b] to every class"));
        label_of.emplace(key_of(classes.classes[c].color), static_cast<std::uint8_t>(c));
    }
    const auto ignore = static_cast<std::size_t>(classes.ignore);
    label_of.emplace(key_of(classes.palette()[ignore]), static_cast<std::uint8_t>(ignore));
    io::Mask mask{image.width, image.height, {}};
    const std::size_t pixels = image.pixels.size() / 3;
    mask.labels.resize(pixels);
    for (std::size_t i = 0; i < pixels; ++i) {
        const io::Rgb color{image.pixels[3 * i], image.pixels[3 * i + 1], image.pixels[3 * i + 2]};
        const auto found = label_of.find(key_of(color));
        if (found == label_of.end())
            throw DataError(
                cat("colour (", int{color.r}, ", ", int{color.g}, ", ", int{color.b},
                    ") of pixel x ", static_cast<std::int64_t>(i) % image.width, ", y ",
                    static_cast<std::int64_t>(i) / image.width, " belongs to no class (", what,
                    ") — the pixel has no label — correct the mask or the file of --classes"));
        mask.labels[i] = found->second;
    }
    return mask;
}

bool is_painted(const std::vector<std::uint8_t>& mask, const std::string& what) {
    const io::ImageInfo info = io::read_info(mask, what);
    return info.format == io::ImageFormat::png && info.channels >= 3 && !info.palette;
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

Loaded load_record(const Source& source, const std::string& id, const data::ClassTable& classes,
                   data::Encoding encoding) {
    const fs::path image_path = image_file(source, id), mask_path = mask_file(source, id);
    Loaded out;
    out.record.id = id;
    out.record.image = read_bytes(image_path);
    out.record.mask = read_bytes(mask_path);
    io::Image image = io::decode_image(out.record.image, image_path.string());
    io::Mask mask;
    if (is_painted(out.record.mask, mask_path.string())) {
        mask = labels_from_colors(io::decode_image(out.record.mask, mask_path.string()), classes,
                                  mask_path.string());
        out.record.mask = io::encode_palette_png(
            mask, classes.palette());  // shards hold labels, not colours
    } else {
        mask = io::decode_mask(out.record.mask, mask_path.string());
    }
    if (image.width != mask.width || image.height != mask.height)
        throw DataError(cat("the image is ", image.width, "x", image.height, ", its mask ",
                            mask.width, "x", mask.height, " (", mask_path.string(),
                            ") — labels would not lie on their pixels — replace one of them"));
    out.record.width = image.width;
    out.record.height = image.height;
    out.labels = histogram(mask);
    check_labels(mask, out.labels, classes, mask_path.string());
    if (encoding == data::Encoding::raw) {
        out.record.image = std::move(image.pixels);
        out.record.mask = std::move(mask.labels);
    }
    return out;
}

data::Record reload_record(const Source& source, const std::string& id,
                           const data::ClassTable& classes, data::Encoding encoding) {
    const fs::path image_path = image_file(source, id), mask_path = mask_file(source, id);
    data::Record record{id, 0, 0, read_bytes(image_path), read_bytes(mask_path)};
    if (encoding == data::Encoding::raw || is_painted(record.mask, mask_path.string()))
        return load_record(source, id, classes, encoding).record;
    const io::ImageInfo info = io::read_info(record.image, image_path.string());
    record.width = info.width;
    record.height = info.height;
    return record;
}

}  // namespace deeplab::preprocess
