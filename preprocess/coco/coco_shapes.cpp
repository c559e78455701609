#include "coco_shapes.h"

#include <algorithm>
#include <cstdio>
#include <ostream>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "deeplab/io/value.h"
#include "region.h"

namespace fs = std::filesystem;

namespace deeplab::preprocess::coco {
namespace {

constexpr int kQuality = 92;           // JPEG, as the VOC folder's
constexpr std::int64_t kUnlisted = 2;  // a category that the map does not list
constexpr std::int64_t kSpecialEvery = 8;

// Not the class's number, as COCO's are not.
std::int64_t category_of(std::int64_t label) { return 10 * label + 3; }

std::string quoted(const std::string& text) { return io::to_json(io::Value(text)); }

template <class T>
std::string list_of(const std::vector<T>& values) {
    std::string text;
    for (const T& value : values) text += cat(text.empty() ? "" : ", ", value);
    return cat("[", text, "]");
}

// The pixels that shape k has for itself, as a region.
Region visible(const Scene& scene, std::size_t k) {
    std::vector<Run> runs;
    for (std::int64_t x = 0; x < scene.image.width; ++x)
        for (std::int64_t y = 0; y < scene.image.height; ++y)
            if (scene.owner[static_cast<std::size_t>(y * scene.image.width + x)] ==
                static_cast<std::int64_t>(k) + 1)
                runs.push_back({x * scene.image.height + y, x * scene.image.height + y + 1});
    return united(std::move(runs));
}

Region outlined(const Scene& scene, const Shape& shape) {
    std::vector<GridPoint> vertices;
    for (const auto& [x, y] : shape.outline) vertices.push_back({to_grid(x), to_grid(y)});
    return polygon(vertices, scene.image.width, scene.image.height);
}

// Whether a later shape lies on a part of the region.
bool is_covered(const Scene& scene, const Region& region, std::size_t k) {
    for (const Run& run : region)
        for (std::int64_t p = run.first; p < run.end; ++p) {
            const std::int64_t x = p / scene.image.height, y = p % scene.image.height;
            if (scene.owner[static_cast<std::size_t>(y * scene.image.width + x)] >
                static_cast<std::int64_t>(k) + 1)
                return true;
        }
    return false;
}

std::string box_of(const Region& region, std::int64_t height) {
    std::int64_t left = INT64_MAX, right = 0, top = INT64_MAX, bottom = 0;
    for (const Run& run : region)
        for (std::int64_t p = run.first; p < run.end; ++p) {
            left = std::min(left, p / height);
            right = std::max(right, p / height + 1);
            top = std::min(top, p % height);
            bottom = std::max(bottom, p % height + 1);
        }
    return cat("[", left, ", ", top, ", ", right - left, ", ", bottom - top, "]");
}

// One split's entries, as they are drawn.
class Split {
public:
    explicit Split(const char* name) : name_(name) {}

    io::Image draw(const ShapesOptions& options, std::uint64_t seed, std::int64_t index) {
        Scene scene = draw_scene(options, seed, static_cast<std::uint64_t>(index));
        image_ = index + 1;
        add(images_,
            cat("{\"id\": ", image_, ", \"file_name\": ", quoted(file_name(index)),
                ", \"width\": ", scene.image.width, ", \"height\": ", scene.image.height, "}"));
        const bool special = index % kSpecialEvery == 0;
        for (std::size_t k = 0; k < scene.shapes.size(); ++k)
            annotate(scene, k, special && k + 1 == scene.shapes.size());
        if (special) annotate_unlisted(scene);
        return std::move(scene.image);
    }

    std::string file_name(std::int64_t index) const {
        char text[48];
        std::snprintf(text, sizeof text, "%s_%05lld.jpg", name_, static_cast<long long>(index));
        return text;
    }

    void write(const fs::path& path, const data::ClassTable& classes) const {
        std::string categories = cat("{\"id\": ", kUnlisted, ", \"name\": \"patch\"}");
        for (std::size_t label = 1; label < classes.classes.size(); ++label)
            add(categories, cat("{\"id\": ", category_of(static_cast<std::int64_t>(label)),
                                ", \"name\": ", quoted(classes.classes[label].name), "}"));
        write_atomically(path, [&](std::ostream& out) {
            out << "{\"images\": [\n"
                << images_ << "],\n\"annotations\": [\n"
                << annotations_ << "],\n\"categories\": [\n"
                << categories << "]}\n";
        });
    }

private:
    static void add(std::string& list, const std::string& entry) {
        list += (list.empty() ? "" : ",\n") + entry;
    }

    void annotate(const Scene& scene, std::size_t k, bool crowd) {
        const Region seen = visible(scene, k);
        if (seen.empty()) return;
        const Region whole = outlined(scene, scene.shapes[k]);
        const bool on_top = !is_covered(scene, whole, k);
        const std::int64_t label = category_of(scene.shapes[k].label);
        if (on_top && !crowd)
            add_annotation(scene, label, whole, polygon_text(scene.shapes[k]), false);
        else
            add_annotation(scene, label, seen, runs_text(scene, seen, crowd), crowd);
    }

    void annotate_unlisted(const Scene& scene) {
        Shape patch;
        patch.outline = {{2, 2}, {20, 2}, {20, 20}, {2, 20}};
        add_annotation(scene, kUnlisted, outlined(scene, patch), polygon_text(patch), false);
    }

    static std::string polygon_text(const Shape& shape) {
        std::vector<std::string> numbers;
        for (const auto& [x, y] : shape.outline) {
            numbers.push_back(fixed(x, 2));
            numbers.push_back(fixed(y, 2));
        }
        return cat("[", list_of(numbers), "]");
    }

    // Crowds have their lengths as a list, as COCO's have; other shapes in turn.
    std::string runs_text(const Scene& scene, const Region& region, bool crowd) {
        const auto counts = counts_of(region, scene.image.width * scene.image.height);
        const bool plain = crowd || ++written_ % 2 == 0;
        return cat("{\"size\": [", scene.image.height, ", ", scene.image.width,
                   "], \"counts\": ", plain ? list_of(counts) : quoted(compressed_counts(counts)),
                   "}");
    }

    void add_annotation(const Scene& scene, std::int64_t category, const Region& region,
                        const std::string& segmentation, bool crowd) {
        add(annotations_,
            cat("{\"id\": ", ++id_, ", \"image_id\": ", image_, ", \"category_id\": ", category,
                ", \"iscrowd\": ", crowd ? 1 : 0, ", \"area\": ", pixels(region), ", \"bbox\": ",
                box_of(region, scene.image.height), ", \"segmentation\": ", segmentation, "}"));
    }

    const char* name_;
    std::int64_t image_ = 0, id_ = 0, written_ = 0;
    std::string images_, annotations_;
};

std::string map_toml(const data::ClassTable& classes) {
    std::string text = "# Classes of the generated shapes: deeplab-pack --map takes this file.\n";
    for (const data::ClassInfo& c : classes.classes) {
        text += cat("\n[[class]]\nname = \"", c.name, "\"\ncolor = [", int{c.color.r}, ", ",
                    int{c.color.g}, ", ", int{c.color.b}, "]\n");
        text += &c == &classes.classes.front() ? "labels = []\n"
                                               : cat("labels = [\"", c.name, "\"]\n");
    }
    return text;
}

}  // namespace

void make_shapes(const ShapesOptions& options) {
    const data::ClassTable classes = shape_classes(options.classes);
    check_counts(options);
    require_writable_directory(options.out);
    const fs::path target = options.out / "coco", partial = options.out / ".coco.partial";
    if (fs::exists(target))
        throw UsageError(
            cat(target.string(),
                " exists — it would be overwritten — delete it, or choose another --out"));
    fs::remove_all(partial);  // ours, of a run that was killed
    for (const bool train : {true, false}) {
        const char* name = train ? "train" : "val";
        fs::create_directories(partial / name);
        Split split(name);
        const std::uint64_t seed = 2 * options.seed + (train ? 0 : 1);
        for (std::int64_t i = 0; i < (train ? options.train : options.val); ++i) {
            const auto jpeg = io::encode_jpeg(split.draw(options, seed, i), kQuality);
            write_atomically(partial / name / split.file_name(i),
                             {reinterpret_cast<const char*>(jpeg.data()), jpeg.size()});
        }
        split.write(partial / cat("instances_", name, ".json"), classes);
    }
    write_atomically(partial / "map.toml", map_toml(classes));
    fs::rename(partial, target);
}

}  // namespace deeplab::preprocess::coco
