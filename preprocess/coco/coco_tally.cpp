#include "coco_tally.h"

#include <algorithm>
#include <cmath>

#include "deeplab/base/text.h"

namespace deeplab::preprocess::coco {
namespace {

bool farther(const Covered& a, const Covered& b) {
    const double to_a = a.difference(), to_b = b.difference();
    return to_a != to_b ? to_a > to_b : to_a > 0 && a.id < b.id;
}

void keep_smallest(std::vector<std::int64_t>& ids) {
    std::sort(ids.begin(), ids.end());
    if (ids.size() > Tally::kMostNamed) ids.resize(Tally::kMostNamed);
}

std::string class_name(const data::CategoryMap& map, int label) {
    return label == map.classes.ignore ? ""
                                       : map.classes.classes[static_cast<std::size_t>(label)].name;
}

std::string percent(double share) { return cat(fixed(100 * share, 1), " %"); }

}  // namespace

void Tally::add_annotations(const Drawing& drawing) {
    for (const Covered& covered : drawing.covered) {
        ++counts[drawn];
        if (farther(covered, farthest)) farthest = covered;
        if (covered.pixels > 0) continue;
        ++counts[empty];
        empty_ids.push_back(covered.id);
        if (empty_ids.size() > 1000) keep_smallest(empty_ids);
    }
}

void Tally::add_packed(const Drawing& drawing, bool gray) {
    counts[shared_pixels] += drawing.shared;
    counts[contested_pixels] += drawing.contested;
    counts[crowd_pixels] += drawing.crowd;
    counts[gray_images] += gray ? 1 : 0;
}

void Tally::gather(comm::Communicator& comm) {
    comm.all_reduce(counts.data(), counts.size(), DType::i64, comm::ReduceOp::sum,
                    "counts of annotations");
    keep_smallest(empty_ids);
    // The area in units that lose nothing.
    char area[64];
    std::snprintf(area, sizeof area, "%a", farthest.area);
    std::string text = cat(farthest.id, " ", farthest.pixels, " ", area);
    for (const std::int64_t id : empty_ids) text += cat(" ", id);
    empty_ids.clear();
    for (const std::string& part : comm.all_gather(text, "annotations to be told of")) {
        const std::vector<std::string> words = split(part, ' ');
        const Covered other{std::stoll(words.at(0)), std::stoll(words.at(1)),
                            std::strtod(words.at(2).c_str(), nullptr)};
        if (farther(other, farthest)) farthest = other;
        for (std::size_t i = 3; i < words.size(); ++i) empty_ids.push_back(std::stoll(words[i]));
    }
    keep_smallest(empty_ids);
}

io::Object members(const Selection& selection, const data::CategoryMap& map, const Options& options,
                   const Tally& tally) {
    const Counts& c = selection.counts;
    io::Object coco, dropped, annotations, pixels;
    io::Array categories;
    for (const MappedCategory& category : selection.categories) {
        io::Object entry;
        entry["id"] = category.id;
        entry["name"] = category.name;
        const std::string name = class_name(map, category.label);
        entry["class"] = name.empty() ? io::Value() : io::Value(name);
        categories.emplace_back(std::move(entry));
    }
    coco["overlap"] = name(options.overlap);
    coco["crowd"] = options.draw_crowds ? "draw" : "ignore";
    coco["empty"] = options.keep_empty ? "keep" : "drop";
    coco["min_pixels"] = options.min_pixels;
    coco["min_area"] = options.min_area;
    coco["images"] = c.images;
    const bool drops = !options.keep_empty;
    dropped["without_annotation"] = drops ? c.without_annotation : 0;
    dropped["without_category"] = drops ? c.without_category : 0;
    dropped["min_area"] = c.below_area;
    dropped["min_pixels"] = tally.counts[Tally::below_pixels];
    coco["dropped"] = std::move(dropped);
    annotations["in_file"] = c.annotations;
    annotations["drawn"] = tally.counts[Tally::drawn];
    annotations["empty"] = tally.counts[Tally::empty];
    coco["annotations"] = std::move(annotations);
    pixels["shared"] = tally.counts[Tally::shared_pixels];
    pixels["contested"] = tally.counts[Tally::contested_pixels];
    pixels["crowd"] = tally.counts[Tally::crowd_pixels];
    coco["pixels"] = std::move(pixels);
    coco["gray_images"] = tally.counts[Tally::gray_images];
    coco["categories"] = std::move(categories);
    io::Object out;
    out["coco"] = std::move(coco);
    return out;
}

std::string left_out(const Selection& selection, const Options& options, const Tally& tally) {
    const Counts& c = selection.counts;
    std::string text = cat("of ", c.images, " images, ", c.without_annotation,
                           " have no annotation, ", c.without_category,
                           " none of the map's categories",
                           options.keep_empty ? " (both are packed)" : "");
    if (options.min_area > 0)
        text += cat(", ", c.below_area, " have areas of at most ", options.min_area, " pixels");
    return cat(text, ", ", tally.counts[Tally::below_pixels], " at most ", options.min_pixels,
               " labelled pixels");
}

std::vector<std::string> remarks(const Selection& selection, const data::CategoryMap& map,
                                 const Options& options, const Tally& tally) {
    const auto& n = tally.counts;
    std::vector<std::string> out;
    out.push_back(left_out(selection, options, tally));
    out.push_back(cat(selection.categories.size(), " of ", selection.counts.categories,
                      " categories have a class; what the others cover is ",
                      map.unlabelled() == map.classes.ignore
                          ? std::string("ignored")
                          : cat("\"", map.classes.classes.front().name, "\"")));
    out.push_back(cat("pixels of several annotations: ", n[Tally::shared_pixels],
                      ", of several classes: ", n[Tally::contested_pixels], " (--overlap ",
                      name(options.overlap), "); ignored as crowds: ", n[Tally::crowd_pixels]));
    if (n[Tally::gray_images] > 0)
        out.push_back(cat(n[Tally::gray_images],
                          " images have no colour: their three channels "
                          "are equal"));
    if (const Covered& far = tally.farthest; far.difference() > 0)
        out.push_back(cat("farthest from its area is annotation ", far.id, ": it covers ",
                          far.pixels, " pixels, the file says ", fixed(far.area, 1), " (",
                          percent(far.difference()), " off)"));
    return out;
}

std::vector<std::string> warnings(const Selection& selection, const Options& options,
                                  const Tally& tally) {
    std::vector<std::string> out;
    if (tally.counts[Tally::empty] > 0) {
        std::string ids;
        for (const std::int64_t id : tally.empty_ids) ids += cat(ids.empty() ? "" : ", ", id);
        out.push_back(cat(
            tally.counts[Tally::empty], " of ", tally.counts[Tally::drawn],
            " annotations cover no pixel, with the ids ", ids,
            tally.counts[Tally::empty] > static_cast<std::int64_t>(tally.empty_ids.size()) ? ", …"
                                                                                           : "",
            " (", options.file.string(),
            ") — they are too thin, or lie outside of the image — nothing is to be "
            "done where they are meant so"));
    }
    if (selection.counts.bad_shapes_elsewhere > 0)
        out.push_back(cat(selection.counts.bad_shapes_elsewhere,
                          " annotations of categories that have no class have shapes that cannot "
                          "be drawn (",
                          options.file.string(),
                          ") — they are background here — correct them before a map names their "
                          "categories"));
    return out;
}

}  // namespace deeplab::preprocess::coco
