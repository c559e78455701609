#include "labelled_image.h"

#include <algorithm>
#include <utility>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"

namespace deeplab::data {
namespace {

std::string describe(const Manifest& manifest, std::int64_t index, const std::string& id) {
    std::int64_t first = 0;
    for (const ShardInfo& shard : manifest.shards) {
        if (index < first + shard.records)
            return cat("shard ", shard.file, ", record ", index - first, " (", id, ")");
        first += shard.records;
    }
    return cat("record ", index, " (", id, ")");
}

void check_labels(const Manifest& manifest, const io::Mask& mask, const std::string& where) {
    const int classes = static_cast<int>(manifest.classes.classes.size()),
              ignore = manifest.classes.ignore;
    const auto foreign = [classes, ignore](std::uint8_t label) {
        return (label >= classes) & (label != ignore);
    };
    // Counting vectorises; the place is looked for only when there is something to find.
    if (std::count_if(mask.labels.begin(), mask.labels.end(), foreign) == 0) return;
    const auto at = std::find_if(mask.labels.begin(), mask.labels.end(), foreign);
    const std::int64_t offset = at - mask.labels.begin();
    throw DataError(cat("label ", static_cast<int>(*at), " at x ", offset % mask.width, ", y ",
                        offset / mask.width, " (", where, ") — the classes are 0 to ", classes - 1,
                        " and ", ignore,
                        " is ignored: this one has no meaning — repair the mask, or pack with the "
                        "right --classes"));
}

}  // namespace

void decode(const Manifest& manifest, std::int64_t index, Record& record, bool pixels,
            StageClock& clock, LabelledImage& out) {
    const std::string where = describe(manifest, index, record.id);
    out.id = record.id;
    clock.mark(Stage::rest);
    if (pixels) {
        decode_image(record, manifest.encoding, where, out.image);
    } else {
        out.image.width = record.width;
        out.image.height = record.height;
        out.image.pixels.clear();
    }
    clock.mark(Stage::decode_image);
    decode_mask(record, manifest.encoding, where, out.mask);
    clock.mark(Stage::decode_mask);
    check_labels(manifest, out.mask, where);
    clock.mark(Stage::check);
}

}  // namespace deeplab::data
