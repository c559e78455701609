// A file of COCO's instances, up to the masks that are drawn of it; and the text of run lengths.

#include "coco_options.h"
#include "deeplab/base/error.h"
#include "deeplab/data/category_map.h"
#include "draw.h"
#include "fuzz/target.h"
#include "instances.h"
#include "region.h"
#include "selection.h"

namespace deeplab::fuzz {
namespace {

using namespace preprocess;

constexpr std::int64_t kMostPixels = 1 << 16;  // larger pictures only take longer

data::CategoryMap map_of_three() {
    data::CategoryMap map;
    map.classes.classes = {{"ground", {0, 0, 0}}, {"one", {1, 1, 1}}, {"two", {2, 2, 2}}};
    map.labels = {{}, {{1, "", 1}}, {{0, "b", 2}}};
    map.ignored = {{3, "", 3}};
    return map;
}

void check_text(const std::string& text) {
    try {
        const std::vector<std::int64_t> counts = coco::parse_counts(text);
        for (const std::int64_t count : counts) require(count >= 0, "a run has a length");
        require(coco::parse_counts(coco::compressed_counts(counts)) == counts,
                "what was written is read back");
    } catch (const Error&) {
    }
}

void check_regions(const coco::Selection& selection, const coco::Scene& scene) {
    for (const coco::Drawable& drawable : selection.of(scene)) {
        const coco::Region region = coco::region_of(selection.shape_of(drawable), scene.width,
                                                    scene.height);
        std::int64_t at = -1;
        for (const coco::Run& run : region) {
            require(run.first > at && run.end > run.first, "runs are in order and apart");
            at = run.end;
        }
        const std::int64_t size = scene.width * scene.height;
        require(at <= size, "a region lies in its picture");
        require(coco::of_counts(coco::counts_of(region, size)) == region,
                "run lengths hold the region");
    }
}

}  // namespace

void consume(std::span<const std::uint8_t> input) {
    check_text(text_of(input));
    const auto path = scratch() / "instances.json";
    store(path, input);
    const coco::Instances instances = coco::read_instances(path);
    static const data::CategoryMap map = map_of_three();
    coco::Options options;
    options.file = path;
    options.overlap = static_cast<coco::Overlap>(input.size() % 4);
    options.draw_crowds = input.size() % 3 == 0;
    options.keep_empty = input.size() % 5 == 0;
    std::vector<Finding> findings;
    const coco::Selection selection = coco::select(instances, map, options, findings);
    for (const coco::Scene& scene : selection.scenes) {
        if (scene.width * scene.height > kMostPixels) continue;
        check_regions(selection, scene);
        const coco::Drawing drawing = coco::draw(selection, scene, options, 0, 255);
        require(static_cast<std::int64_t>(drawing.mask.labels.size()) == scene.width * scene.height,
                "a mask has its picture's size");
        for (const std::uint8_t label : drawing.mask.labels)
            require(label < 3 || label == 255, "a label is a class or ignored");
        require(drawing.contested <= drawing.shared, "what is contested is shared");
    }
}

std::vector<Bytes> seeds() {
    const std::string images =
        "{\"images\": [{\"id\": 1, \"file_name\": \"a.jpg\", \"width\": 9, \"height\": 7}],\n"
        "\"annotations\": [{\"id\": 5, \"image_id\": 1, \"iscrowd\": 0, \"area\": 2.5, "
        "\"category_id\": ";
    const std::string end =
        "}],\n\"categories\": [{\"id\": 1, \"name\": \"a\"}, {\"id\": 2, \"name\": \"b\"}, "
        "{\"id\": 3, \"name\": \"c\"}]}\n";
    std::vector<Bytes> all;
    for (const char* annotation :
         {"1, \"segmentation\": [[1, 1, 6.5, 1.2, 6, 5, 0.8, 5.4], [-3, 2, 4, 2, 4, 90]]",
          "2, \"segmentation\": {\"counts\": [8, 5, 2, 5, 43], \"size\": [7, 9]}",
          "3, \"segmentation\": {\"size\": [7, 9], \"counts\": \"852n0\"}",
          "1, \"segmentation\": [[1, 1, 8, 1, 8, 6]]}, {\"id\": 6, \"image_id\": 1, "
          "\"category_id\": 2, \"segmentation\": [[1e1, 0, 3, 0, 3, 1048576]]",
          "9, \"segmentation\": null"})
        all.push_back(bytes_of(images + annotation + end));
    all.push_back(bytes_of("0T8oX1P3"));
    return all;
}

std::vector<std::string> dictionary() {
    return {"\"images\": [",
            "\"annotations\": [",
            "\"categories\": [",
            "\"id\": 1,",
            "\"file_name\": \"a.png\",",
            "\"width\": 9,",
            "\"height\": 7,",
            "\"image_id\": 1,",
            "\"category_id\": 2,",
            "\"iscrowd\": 1,",
            "\"area\": 1e9,",
            "\"name\": \"b\",",
            "\"segmentation\": ",
            "\"counts\": ",
            "\"size\": [7, 9]",
            "[[0, 0, 9, 0, 9, 7]]",
            "1048576",
            "-1048576",
            "1e308",
            "9223372036854775807",
            "null",
            "},{",
            "],["};
}

}  // namespace deeplab::fuzz
