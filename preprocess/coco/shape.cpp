#include "shape.h"

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"

namespace deeplab::preprocess::coco {
namespace {

enum Kind : std::uint64_t { polygons_kind = 1, counts_kind = 2 };

// Seven bits a byte, the lowest first; the eighth says that more follow.
void put(Bytes& to, std::uint64_t value) {
    for (; value > 127; value >>= 7) to.push_back(static_cast<std::uint8_t>(value | 128));
    to.push_back(static_cast<std::uint8_t>(value));
}

// Small numbers of either sign as small ones without: 0, -1, 1, -2, …
void put_signed(Bytes& to, std::int64_t value) {
    put(to, static_cast<std::uint64_t>(value) << 1 ^ static_cast<std::uint64_t>(value >> 63));
}

class Reader {
public:
    explicit Reader(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

    std::uint64_t number() {
        std::uint64_t value = 0;
        for (int shift = 0;; shift += 7) {
            expects(at_ < bytes_.size(), "a shape that is whole");
            const std::uint8_t byte = bytes_[at_++];
            value |= std::uint64_t{byte & 127u} << shift;
            if (byte < 128) return value;
        }
    }
    std::int64_t integer() { return static_cast<std::int64_t>(number()); }
    std::int64_t signed_integer() {
        const std::uint64_t value = number();
        return static_cast<std::int64_t>(value >> 1) ^ -static_cast<std::int64_t>(value & 1);
    }

private:
    std::span<const std::uint8_t> bytes_;
    std::size_t at_ = 0;
};

Region read_polygons(Reader& reader, std::int64_t width, std::int64_t height) {
    const std::uint64_t count = reader.number();
    std::vector<Run> runs;
    std::vector<GridPoint> vertices;
    for (std::uint64_t i = 0; i < count; ++i) {
        vertices.resize(static_cast<std::size_t>(reader.number()));
        GridPoint last;
        for (GridPoint& vertex : vertices) {
            last.x += static_cast<std::int32_t>(reader.signed_integer());
            last.y += static_cast<std::int32_t>(reader.signed_integer());
            vertex = last;
        }
        const Region one = polygon(vertices, width, height);
        if (count == 1) return one;
        runs.insert(runs.end(), one.begin(), one.end());
    }
    return united(std::move(runs));
}

}  // namespace

void put_polygons(Bytes& to, std::span<const std::vector<GridPoint>> polygons) {
    put(to, polygons_kind);
    put(to, polygons.size());
    for (const std::vector<GridPoint>& polygon : polygons) {
        put(to, polygon.size());
        GridPoint last;
        for (const GridPoint vertex : polygon) {
            put_signed(to, std::int64_t{vertex.x} - last.x);
            put_signed(to, std::int64_t{vertex.y} - last.y);
            last = vertex;
        }
    }
}

void put_counts(Bytes& to, std::int64_t width, std::int64_t height,
                std::span<const std::int64_t> counts) {
    put(to, counts_kind);
    put(to, static_cast<std::uint64_t>(width));
    put(to, static_cast<std::uint64_t>(height));
    put(to, counts.size());
    for (const std::int64_t count : counts) put(to, static_cast<std::uint64_t>(count));
}

std::string misfit(std::span<const std::uint8_t> shape, std::int64_t width, std::int64_t height) {
    Reader reader(shape);
    if (reader.number() != counts_kind) return "";
    const std::int64_t own_width = reader.integer(), own_height = reader.integer();
    if (own_width != width || own_height != height)
        return cat("its run lengths are those of a picture of ", own_width, "x", own_height,
                   ", the image is ", width, "x", height);
    const std::int64_t size = width * height;
    std::int64_t sum = 0;
    for (std::uint64_t left = reader.number(); left > 0 && sum <= size; --left)
        sum += reader.integer();
    if (sum == size) return "";
    return cat("its run lengths ", sum < size ? cat("end after ", sum) : std::string("go beyond"),
               sum < size ? " of " : " the ", size, " pixels of the image");
}

Region region_of(std::span<const std::uint8_t> shape, std::int64_t width, std::int64_t height) {
    Reader reader(shape);
    if (reader.number() == polygons_kind) return read_polygons(reader, width, height);
    reader.number();
    reader.number();
    std::vector<std::int64_t> counts(static_cast<std::size_t>(reader.number()));
    for (std::int64_t& count : counts) count = reader.integer();
    return of_counts(counts);
}

}  // namespace deeplab::preprocess::coco
