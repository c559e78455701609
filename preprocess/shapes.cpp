#include "shapes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"

namespace fs = std::filesystem;

namespace deeplab::preprocess {
namespace {

constexpr double kPi = std::numbers::pi;
constexpr double kMinContrast = 80;  // grey levels between the two colours of a pattern
constexpr double kNoise = 5;         // grey levels, uniform in +-kNoise, the same everywhere
constexpr int kVoidRadius = 2;       // pixels on each side of an outline, as VOC's annotators left
constexpr int kQuality = 92;         // JPEG

// SplitMix64 (Steele, Lea, Flood 2014): the standard library's distributions differ between
// implementations.
class Random {
public:
    Random(std::uint64_t seed, std::uint64_t stream)
        : state_(seed * 0x9E3779B97F4A7C15ull ^ mix(stream)) {}
    double uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }
    double uniform(double low, double high) { return low + (high - low) * uniform(); }
    std::int64_t integer(std::int64_t low, std::int64_t high) {  // both ends included
        return low + static_cast<std::int64_t>(uniform() * static_cast<double>(high - low + 1));
    }

private:
    static std::uint64_t mix(std::uint64_t z) {
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
        z = (z ^ z >> 27) * 0x94D049BB133111EBull;
        return z ^ z >> 31;
    }
    std::uint64_t next() { return mix(state_ += 0x9E3779B97F4A7C15ull); }
    std::uint64_t state_;
};

// Patterns differ in where they vary, which neither flip nor a resize by 0.75 to 1.5 changes.
enum class Pattern { across, down, diagonals, axes };
enum class Form { ellipse, rectangle, triangle };

// The ground fills what the shapes leave: its form is not used. The first four classes differ in
// pattern alone; from five on the form counts too.
struct Kind {
    const char* name;
    Form form;
    Pattern pattern;
};
constexpr std::array<Kind, 12> kKinds = {{
    {"ground", Form::rectangle, Pattern::across},
    {"stripes", Form::ellipse, Pattern::down},
    {"checker", Form::rectangle, Pattern::diagonals},
    {"dots", Form::triangle, Pattern::axes},
    {"checker ellipse", Form::ellipse, Pattern::diagonals},
    {"dotted ellipse", Form::ellipse, Pattern::axes},
    {"barred ellipse", Form::ellipse, Pattern::across},
    {"striped rectangle", Form::rectangle, Pattern::down},
    {"dotted rectangle", Form::rectangle, Pattern::axes},
    {"barred rectangle", Form::rectangle, Pattern::across},
    {"striped triangle", Form::triangle, Pattern::down},
    {"checker triangle", Form::triangle, Pattern::diagonals},
}};

const Kind& kind_of(std::int64_t label) { return kKinds.at(static_cast<std::size_t>(label)); }

struct Texture {
    std::int64_t label = 0;
    double angle = 0, period = 8, phase_u = 0, phase_v = 0;
    std::array<double, 3> dark{}, light{};

    // Share of `light` at a pixel, 0..1, with soft edges.
    double share(double x, double y) const {
        const double c = std::cos(angle), s = std::sin(angle);
        const double u = 2 * kPi * (c * x + s * y) / period + phase_u;
        const double v = 2 * kPi * (-s * x + c * y) / period + phase_v;
        double wave = 0;
        switch (kind_of(label).pattern) {
            case Pattern::across: wave = std::sin(u); break;
            case Pattern::down: wave = std::sin(v); break;
            case Pattern::diagonals: wave = 1.5 * std::sin(u) * std::sin(v); break;
            case Pattern::axes: wave = std::cos(u) + std::cos(v) - 0.7; break;
        }
        return std::clamp(0.5 + 1.6 * wave, 0.0, 1.0);
    }
};

double luminance(const std::array<double, 3>& c) {
    return 0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2];
}

// Colours come from one distribution for all classes, and either may be the pattern's foreground:
// colour says nothing.
Texture draw_texture(std::int64_t label, Random& random) {
    Texture t;
    t.label = label;
    t.angle = random.uniform(-12, 12) * kPi / 180;
    // Waves that run diagonally are shorter.
    t.period = random.uniform(7, 9.5) * (kind_of(label).pattern == Pattern::diagonals ? 1.2 : 1.0);
    t.phase_u = random.uniform(0, 2 * kPi);
    t.phase_v = random.uniform(0, 2 * kPi);
    do {
        for (std::size_t k = 0; k < 3; ++k) {
            t.dark[k] = random.uniform(8, 247);
            t.light[k] = random.uniform(8, 247);
        }
    } while (std::abs(luminance(t.dark) - luminance(t.light)) < kMinContrast);
    return t;
}

// An outline of a given area.
struct Outline {
    Form form = Form::ellipse;
    double x = 0, y = 0, angle = 0, a = 1,
           b = 1;  // centre, turn, half axes (triangle: circumradius in x and y)

    bool contains(double px, double py) const {
        const double c = std::cos(angle), s = std::sin(angle);
        const double u = (c * (px - x) + s * (py - y)) / a, v = (-s * (px - x) + c * (py - y)) / b;
        if (form == Form::ellipse) return u * u + v * v <= 1;
        if (form == Form::rectangle) return std::abs(u) <= 1 && std::abs(v) <= 1;
        // Equilateral before scaling, circumradius 1: three half planes at distance 1/2 from the
        // centre.
        const double h = std::sqrt(3.0) / 2;
        return v <= 0.5 && -0.5 * v + h * u <= 0.5 && -0.5 * v - h * u <= 0.5;
    }
};

// The outline as a polygon. Pixel (x, y) is its middle in `contains`, and lies at (x + 1/2, y +
// 1/2) of the picture.
std::vector<std::array<double, 2>> vertices_of(const Outline& o) {
    std::vector<std::array<double, 2>> points;
    const double h = std::sqrt(3.0) / 2;
    if (o.form == Form::rectangle) points = {{-1, -1}, {1, -1}, {1, 1}, {-1, 1}};
    if (o.form == Form::triangle) points = {{-h, 0.5}, {0, -1}, {h, 0.5}};
    if (o.form == Form::ellipse)
        for (int i = 0; i < 40; ++i)
            points.push_back({std::cos(i * kPi / 20), std::sin(i * kPi / 20)});
    const double c = std::cos(o.angle), s = std::sin(o.angle);
    for (auto& [u, v] : points) {
        const double along = u * o.a, across = v * o.b;
        u = o.x + c * along - s * across + 0.5;
        v = o.y + s * along + c * across + 0.5;
    }
    return points;
}

// Of a few places the one farthest from the shapes that are there: fewer lie under another.
Outline draw_outline(Form form, double width, double height, const std::vector<Outline>& others,
                     Random& random) {
    constexpr std::array<double, 3> kUnitArea = {kPi, 4.0, 1.299038};  // at a = b = 1
    const double area = random.uniform(0.20, 0.34) * width * height;
    const double aspect = random.uniform(1.0, 1.5);
    const double b = std::sqrt(area / kUnitArea[static_cast<std::size_t>(form)] / aspect);
    Outline best{form, 0, 0, random.uniform(0, 2 * kPi), aspect * b, b};
    double best_distance = -1;
    for (int attempt = 0; attempt < 6; ++attempt) {
        const double x = random.uniform(0.15, 0.85) * width,
                     y = random.uniform(0.15, 0.85) * height;
        double distance = width + height;
        for (const Outline& other : others)
            distance = std::min(distance, std::hypot(x - other.x, y - other.y));
        if (distance <= best_distance) continue;
        best_distance = distance;
        best.x = x;
        best.y = y;
    }
    return best;
}

// Which shape lies on top at each pixel: 0 is the ground.
std::vector<std::int64_t> rasterise(const std::vector<Outline>& outlines, std::int64_t width,
                                    std::int64_t height) {
    std::vector<std::int64_t> owner(static_cast<std::size_t>(width * height), 0);
    for (std::size_t k = 0; k < outlines.size(); ++k)
        for (std::int64_t y = 0; y < height; ++y)
            for (std::int64_t x = 0; x < width; ++x)
                if (outlines[k].contains(static_cast<double>(x), static_cast<double>(y)))
                    owner[static_cast<std::size_t>(y * width + x)] = static_cast<std::int64_t>(k) +
                                                                     1;
    return owner;
}

bool near_outline(const std::vector<std::int64_t>& owner, std::int64_t width, std::int64_t height,
                  std::int64_t x, std::int64_t y) {
    const std::int64_t own = owner[static_cast<std::size_t>(y * width + x)];
    for (std::int64_t dy = -kVoidRadius; dy <= kVoidRadius; ++dy)
        for (std::int64_t dx = -kVoidRadius; dx <= kVoidRadius; ++dx) {
            const std::int64_t px = x + dx, py = y + dy;
            if (dx * dx + dy * dy > kVoidRadius * kVoidRadius || px < 0 || py < 0 || px >= width ||
                py >= height)
                continue;
            if (owner[static_cast<std::size_t>(py * width + px)] != own) return true;
        }
    return false;
}

void write_file(const fs::path& path, const std::vector<std::uint8_t>& bytes) {
    write_atomically(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

io::Image painted(const io::Mask& mask, const std::vector<io::Rgb>& palette) {
    io::Image image{mask.width, mask.height, {}};
    image.pixels.reserve(3 * mask.labels.size());
    for (const std::uint8_t label : mask.labels)
        image.pixels.insert(image.pixels.end(),
                            {palette[label].r, palette[label].g, palette[label].b});
    return image;
}

std::string write_split(const fs::path& voc, const ShapesOptions& options, const char* name,
                        std::int64_t count, std::uint64_t seed,
                        const std::vector<io::Rgb>& palette) {
    std::string list;
    for (std::int64_t i = 0; i < count; ++i) {
        char id[48];
        std::snprintf(id, sizeof id, "%s_%05lld", name, static_cast<long long>(i));
        const Scene scene = draw_scene(options, seed, static_cast<std::uint64_t>(i));
        write_file(voc / "JPEGImages" / cat(id, ".jpg"), io::encode_jpeg(scene.image, kQuality));
        write_file(voc / "SegmentationClass" / cat(id, ".png"),
                   options.rgb_masks ? io::encode_png(painted(scene.mask, palette))
                                     : io::encode_palette_png(scene.mask, palette));
        list += cat(id, "\n");
    }
    write_atomically(voc / "ImageSets" / "Segmentation" / cat(name, ".txt"), list);
    return list;
}

std::string classes_toml(const data::ClassTable& table) {
    std::string text = cat(
        "# Classes of the generated shapes: deeplab-pack --classes takes this file.\nignore = ",
        table.ignore, "\n");
    for (const data::ClassInfo& c : table.classes)
        text += cat("\n[[class]]\nname = \"", c.name, "\"\ncolor = [", int{c.color.r}, ", ",
                    int{c.color.g}, ", ", int{c.color.b}, "]\n");
    return text;
}

}  // namespace

data::ClassTable shape_classes(std::int64_t classes) {
    if (classes < 2 || classes > static_cast<std::int64_t>(kKinds.size()))
        throw UsageError(cat("--classes ", classes, " — there are shapes for 2 to ", kKinds.size(),
                             " classes, the ground included — choose one"));
    const std::vector<io::Rgb> palette = data::voc_classes().palette();
    data::ClassTable table;
    for (std::int64_t label = 0; label < classes; ++label)
        table.classes.push_back(
            {kind_of(label).name, palette[static_cast<std::size_t>(label)], true});
    return table;
}

Scene draw_scene(const ShapesOptions& options, std::uint64_t seed, std::uint64_t index) {
    Random random(seed, index);
    const std::int64_t width = random.integer(options.min_width, options.max_width);
    const std::int64_t height = random.integer(options.min_height, options.max_height);
    const std::int64_t kinds = options.classes - 1;
    // Classes in turn, from a random start: about as many pixels of each.
    const std::int64_t count = random.integer(2, 4), first = random.integer(0, kinds - 1);
    std::vector<Outline> outlines;
    std::vector<Texture> textures = {draw_texture(0, random)};
    for (std::int64_t k = 0; k < count; ++k) {
        const std::int64_t label = 1 + (first + k) % kinds;
        outlines.push_back(draw_outline(kind_of(label).form, static_cast<double>(width),
                                        static_cast<double>(height), outlines, random));
        textures.push_back(draw_texture(label, random));
    }
    std::vector<std::int64_t> owner = rasterise(outlines, width, height);
    Scene scene{{width, height, {}}, {width, height, {}}, {}, {}};
    scene.image.pixels.reserve(owner.size() * 3);
    scene.mask.labels.reserve(owner.size());
    for (std::int64_t y = 0; y < height; ++y)
        for (std::int64_t x = 0; x < width; ++x) {
            const Texture& t = textures[static_cast<std::size_t>(
                owner[static_cast<std::size_t>(y * width + x)])];
            const double share = t.share(static_cast<double>(x), static_cast<double>(y));
            const double noise = random.uniform(-kNoise, kNoise);
            for (std::size_t c = 0; c < 3; ++c) {
                const double value = t.dark[c] + share * (t.light[c] - t.dark[c]) + noise;
                scene.image.pixels.push_back(
                    static_cast<std::uint8_t>(std::clamp(std::lround(value), 0l, 255l)));
            }
            scene.mask.labels.push_back(near_outline(owner, width, height, x, y)
                                            ? 255
                                            : static_cast<std::uint8_t>(t.label));
        }
    for (std::size_t k = 0; k < outlines.size(); ++k)
        scene.shapes.push_back({textures[k + 1].label, vertices_of(outlines[k])});
    scene.owner = std::move(owner);
    return scene;
}

void check_counts(const ShapesOptions& options) {
    if (options.train < 1 || options.val < 1 || options.train > 99999 || options.val > 99999)
        throw UsageError("--train and --val — each must be in 1..99999 — correct the number");
}

void make_shapes(const ShapesOptions& options) {
    const data::ClassTable classes = shape_classes(options.classes);
    check_counts(options);
    require_writable_directory(options.out);
    const fs::path target = options.out / "VOCdevkit", partial = options.out / ".VOCdevkit.partial";
    if (fs::exists(target))
        throw UsageError(
            cat(target.string(),
                " exists — it would be overwritten — delete it, or choose another --out"));
    fs::remove_all(partial);  // ours, of a run that was killed
    const fs::path voc = partial / "VOC2012";
    for (const char* folder : {"JPEGImages", "SegmentationClass", "ImageSets/Segmentation"})
        fs::create_directories(voc / folder);
    const std::vector<io::Rgb> palette = classes.palette();
    // Seeds of train and val never meet, whatever --seed is.
    const std::string train = write_split(voc, options, "train", options.train, 2 * options.seed,
                                          palette);
    const std::string val = write_split(voc, options, "val", options.val, 2 * options.seed + 1,
                                        palette);
    write_atomically(voc / "ImageSets" / "Segmentation" / "trainval.txt", train + val);
    write_atomically(options.out / "classes.toml", classes_toml(classes));
    fs::rename(partial, target);
}

}  // namespace deeplab::preprocess
