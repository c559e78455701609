#include "deeplab/train/evaluator.h"

#include <algorithm>
#include <cmath>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"

namespace deeplab::train {
namespace {

// The part of `rows` (channels bytes a pixel) that starts at (x0, y0) and is size x size.
std::vector<std::uint8_t> cut(const std::vector<std::uint8_t>& rows, std::int64_t width,
                              std::int64_t channels, std::int64_t x0, std::int64_t y0,
                              std::int64_t size) {
    std::vector<std::uint8_t> out;
    out.reserve(static_cast<std::size_t>(size * size * channels));
    for (std::int64_t y = y0; y < y0 + size; ++y) {
        const auto first = rows.begin() + static_cast<std::ptrdiff_t>((y * width + x0) * channels);
        out.insert(out.end(), first, first + static_cast<std::ptrdiff_t>(size * channels));
    }
    return out;
}

// Short side to `size`, the long one in proportion, rounded down; then the square in the middle. An
// odd rest is rounded to even, as Python's round(): the published numbers of this protocol were
// made that way.
void centre_crop(io::Image& image, io::Mask& truth, std::int64_t size) {
    const bool wide = image.width > image.height;
    const std::int64_t width = wide ? image.width * size / image.height : size;
    const std::int64_t height = wide ? size : image.height * size / image.width;
    image = data::resize_bilinear(image, width, height);
    truth = data::resize_nearest(truth, width, height);
    const auto first = [size](std::int64_t side) {
        return std::llrint(static_cast<double>(side - size) / 2.0);
    };
    const std::int64_t x0 = first(width), y0 = first(height);
    image.pixels = cut(image.pixels, width, 3, x0, y0, size);
    truth.labels = cut(truth.labels, width, 1, x0, y0, size);
    image.width = image.height = truth.width = truth.height = size;
}

void check_labels(const io::Mask& truth, const data::ClassTable& table, const std::string& where) {
    const int classes = static_cast<int>(table.classes.size());
    for (const std::uint8_t label : truth.labels) {
        if (label < classes || label == table.ignore) continue;
        throw DataError(cat("label ", static_cast<int>(label), " (", where,
                            ") — the classes are 0 to ", classes - 1, " and ", table.ignore,
                            " is ignored: the metrics would leave it out silently — "
                            "repair the mask, or pack with the right --classes"));
    }
}

}  // namespace

const char* name(Protocol protocol) {
    switch (protocol) {
        case Protocol::full: return "full";
        case Protocol::centre_crop: return "centre-crop";
    }
    throw LogicError("unknown protocol");
}

Confusion evaluate(Predictor& predictor, data::ShardSet& shards, const EvaluationOptions& options,
                   comm::Communicator& communicator) {
    const data::Manifest& manifest = shards.manifest();
    const int classes = static_cast<int>(manifest.classes.classes.size());
    expects(classes == predictor.classes(), "network and data set have the same classes");
    Confusion confusion(classes);
    for (std::int64_t index = communicator.rank(); index < shards.size();
         index += communicator.size()) {
        const data::Record record = shards.read(index);
        const std::string where = cat("split ", manifest.split, ", record ", index, " (", record.id,
                                      ")");
        data::Decoded sample = data::decode(record, manifest.encoding, where);
        check_labels(sample.mask, manifest.classes, where);
        if (options.protocol == Protocol::centre_crop)
            centre_crop(sample.image, sample.mask, options.crop);
        const io::Mask predicted = predictor.predict(sample.image);
        confusion.add(sample.mask.labels, predicted.labels);
        if (options.on_image) options.on_image(index, record, sample.image, sample.mask, predicted);
    }
    confusion.reduce(communicator);
    return confusion;
}

}  // namespace deeplab::train
