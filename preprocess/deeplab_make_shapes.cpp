// deeplab-make-shapes: the quick start's data set, a VOC folder of textured shapes; or the same in
// COCO's layout.

#include <charconv>

#include "coco_shapes.h"
#include "deeplab/base/command_line.h"
#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/communicator.h"
#include "shapes.h"

using namespace deeplab;

namespace {

std::int64_t side(const std::string& text) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < 32 || value > 4096)
        throw UsageError(cat("--size: \"", text,
                             "\" is not a length in 32..4096 — write WxH or LOW-HIGH — for example "
                             "128x96 or 96-160"));
    return value;
}

// "128x96": that size; "96-160": each side anew from that range.
void parse_size(const std::string& text, preprocess::ShapesOptions& options) {
    const bool exact = text.find('x') != std::string::npos;
    const std::vector<std::string> parts = split(text, exact ? 'x' : '-');
    const std::int64_t first = side(parts.at(0)), second = side(parts.size() == 2 ? parts[1] : "");
    if (!exact && first > second)
        throw UsageError(cat("--size ", text, " — the range is empty — write LOW-HIGH"));
    options.min_width = first;
    options.max_width = exact ? first : second;
    options.min_height = exact ? second : first;
    options.max_height = second;
}

int run(int argc, char** argv, comm::MpiSession& session) {
    preprocess::ShapesOptions options;
    std::string out, size = "96-160", masks = "palette";
    std::int64_t seed = 1;
    CommandLine line(
        "deeplab-make-shapes",
        "Draws a small data set whose classes differ in texture and shape, not in colour.",
        "deeplab-make-shapes --out quickstart/data\n"
        "deeplab-pack --voc quickstart/data --classes quickstart/data/classes.toml --split train "
        "--out shards\n"
        "deeplab-make-shapes --coco --out small\n"
        "deeplab-pack --coco small/coco/instances_train.json --images small/coco/train --map "
        "small/coco/map.toml --out shards");
    bool coco = false;
    line.option("--out", out, "gets VOCdevkit/ and classes.toml, or coco/",
                CommandLine::Use{true, {}, "DIR"});
    line.option("--train", options.train, "images of split train");
    line.option("--val", options.val, "images of split val");
    line.option("--seed", seed, "the same seed draws the same pictures");
    line.option("--size", size, "WxH, or LOW-HIGH for sides drawn from a range",
                CommandLine::Use{false, {}, "SIZE"});
    line.option("--classes", options.classes, "2 to 12, the ground included");
    line.option("--masks", masks,
                "palette: class ids with VOC's colours; rgb: painted in the classes' colours",
                CommandLine::Use{false, {"palette", "rgb"}, ""});
    line.flag("--coco", coco, "in COCO's layout: images, instances_train.json, map.toml");
    if (!line.parse(argc, argv)) return 0;
    session.world();
    options.out = out;
    options.rgb_masks = masks == "rgb";
    options.seed = static_cast<std::uint64_t>(seed);
    parse_size(size, options);
    if (coco) {
        if (line.given("--masks"))
            throw UsageError(
                "--coco together with --masks — COCO's layout has no masks — leave one out");
        preprocess::coco::make_shapes(options);
        log::info(cat("drew ", options.train, " training and ", options.val,
                      " validation images: ", out, "/coco"));
        return 0;
    }
    preprocess::make_shapes(options);
    log::info(cat("drew ", options.train, " training and ", options.val,
                  " validation images: ", out, "/VOCdevkit, ", out, "/classes.toml"));
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    comm::MpiSession session(&argc, &argv);
    return comm::run_guarded(session, [&] { return run(argc, argv, session); });
}
