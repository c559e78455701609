#include "audit.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <unordered_map>

#include "deeplab/base/text.h"
#include "folder.h"
#include "list.h"

namespace deeplab::preprocess::coco {
namespace {

// As pictures themselves may have (io/image.h).
constexpr std::int64_t kMostSide = 1 << 15, kMostPixels = std::int64_t{1} << 28;

using Index = std::unordered_map<std::int64_t, std::size_t>;

class Inspector {
public:
    Inspector(const Instances& instances, const data::CategoryMap& map, const Options& options,
              std::vector<Finding>& findings)
        : in_(instances),
          map_(map),
          options_(options),
          findings_(findings),
          file_(options.file.string()) {}

    Audit run() {
        for (const Problem& p : in_.problems) find(p.record, p.reason);
        inspect_categories();
        inspect_pictures();
        inspect_annotations();
        return std::move(out_);
    }

private:
    void find(const std::string& record, const std::string& reason) {
        if (findings_.size() < kMostProblems)
            findings_.push_back({-1, record, file_, reason});
        else if (findings_.size() == kMostProblems)
            findings_.push_back({-1, "…", file_, "there are more: they are not listed"});
    }
    void find_in_map(const std::string& record, int line, const std::string& reason) {
        findings_.push_back({-1, record, cat(options_.map.string(), ":", line), reason});
    }

    // Ids of entries, the first of each; another one with the same id is a finding.
    template <class T>
    Index index_of(const std::vector<T>& entries, const char* kind) {
        Index index;
        index.reserve(entries.size());
        std::vector<std::int64_t> told;
        for (std::size_t i = 0; i < entries.size(); ++i)
            if (!index.emplace(entries[i].id, i).second) told.push_back(entries[i].id);
        std::sort(told.begin(), told.end());
        told.erase(std::unique(told.begin(), told.end()), told.end());
        for (const std::int64_t id : told) find(cat(kind, " ", id), "its id stands several times");
        return index;
    }

    void inspect_categories();
    void map_category(const data::CategoryLabel& wanted, int label);
    std::string known_name(const std::string& wanted) const;
    void inspect_pictures();
    std::string problem_of(const Picture& picture) const;
    void inspect_annotations();
    void inspect_shapes();

    const Instances& in_;
    const data::CategoryMap& map_;
    const Options& options_;
    std::vector<Finding>& findings_;
    std::string file_;
    Index categories_, pictures_;
    std::unordered_map<std::int64_t, int> label_of_category_;
    std::vector<bool> good_picture_;
    Audit out_;
};

void Inspector::inspect_categories() {
    categories_ = index_of(in_.categories, "category");
    for (const Category& category : in_.categories)
        if (category.name.empty() || category.name.find('\0') != std::string::npos)
            find(cat("category ", category.id), "its name is empty or has a zero byte");
    for (std::size_t c = 0; c < map_.labels.size(); ++c)
        for (const data::CategoryLabel& wanted : map_.labels[c])
            map_category(wanted, static_cast<int>(c));
    for (const data::CategoryLabel& wanted : map_.ignored)
        map_category(wanted, map_.classes.ignore);
    std::sort(out_.mapped.begin(), out_.mapped.end(),
              [](const MappedCategory& a, const MappedCategory& b) { return a.id < b.id; });
}

// A name of the file that may be meant, in words.
std::string Inspector::known_name(const std::string& wanted) const {
    std::vector<std::string> names;
    for (const Category& category : in_.categories) names.push_back(category.name);
    const std::string near = nearest(wanted, names);
    return near.empty() ? "" : cat("; \"", near, "\" is there");
}

void Inspector::map_category(const data::CategoryLabel& wanted, int label) {
    const std::string shown = wanted.name.empty() ? cat("category ", wanted.id)
                                                  : cat("category \"", wanted.name, "\"");
    std::vector<std::size_t> found;
    for (std::size_t i = 0; i < in_.categories.size(); ++i)
        if (wanted.name.empty() ? in_.categories[i].id == wanted.id
                                : in_.categories[i].name == wanted.name)
            found.push_back(i);
    if (found.empty())
        return find_in_map(shown, wanted.line,
                           cat("is not in the file of --coco",
                               wanted.name.empty() ? "" : known_name(wanted.name)));
    const Category& category = in_.categories[found.front()];
    if (found.size() > 1 && !wanted.name.empty())
        return find_in_map(shown, wanted.line,
                           cat("several categories have this name, with the ids ", category.id,
                               " and ", in_.categories[found[1]].id, ": name it by its id"));
    if (!label_of_category_.emplace(category.id, label).second)
        return find_in_map(shown, wanted.line, "the map lists it twice");
    out_.mapped.push_back({category.id, category.name, label});
}

std::string Inspector::problem_of(const Picture& picture) const {
    const std::string& name = picture.file_name;
    const std::filesystem::path path(name);
    if (name.empty() ||
        std::any_of(name.begin(), name.end(), [](unsigned char c) { return c < 32; }))
        return "its file_name is empty or has control characters";
    if (path.is_absolute() || std::find(path.begin(), path.end(), "..") != path.end())
        return cat("its file_name \"", name, "\" leads out of the folder --images");
    if (picture_ending(name).empty())
        return cat("its file_name \"", name, "\" ends neither with .jpg nor with .png");
    if (picture.width < 1 || picture.height < 1 || picture.width > kMostSide ||
        picture.height > kMostSide || picture.width * picture.height > kMostPixels)
        return cat("its size ", picture.width, "x", picture.height, " is none that a picture has");
    return "";
}

void Inspector::inspect_pictures() {
    pictures_ = index_of(in_.pictures, "image");
    good_picture_.assign(in_.pictures.size(), false);
    std::unordered_map<std::string, std::int64_t> records;
    for (std::size_t i = 0; i < in_.pictures.size(); ++i) {
        const Picture& picture = in_.pictures[i];
        if (pictures_.at(picture.id) != i) continue;  // told of
        std::string problem = problem_of(picture);
        const std::string& name = picture.file_name;
        const auto [first, fresh] = records.emplace(
            name.substr(0, name.size() - picture_ending(name).size()), picture.id);
        if (problem.empty() && !fresh)
            problem = cat("its file_name \"", name, "\" is that of image ", first->second,
                          " too, but for the ending");
        good_picture_[i] = problem.empty();
        if (problem.empty())
            out_.good_pictures.push_back(i);
        else
            find(cat("image ", picture.id), problem);
    }
}

void Inspector::inspect_annotations() {
    const std::size_t count = in_.annotations.size();
    out_.picture_of.assign(count, -1);
    out_.label_of.assign(count, -1);
    const Index ids = index_of(in_.annotations, "annotation");
    for (std::size_t a = 0; a < count; ++a) {
        const Annotation& annotation = in_.annotations[a];
        const std::string record = cat("annotation ", annotation.id);
        const auto picture = pictures_.find(annotation.picture);
        if (picture == pictures_.end())
            find(record, cat("its image_id ", annotation.picture, " is no image of the file"));
        else if (good_picture_[picture->second])
            out_.picture_of[a] = static_cast<std::int64_t>(picture->second);
        if (!categories_.contains(annotation.category))
            find(record,
                 cat("its category_id ", annotation.category, " is no category of the file"));
        const auto label = label_of_category_.find(annotation.category);
        if (label == label_of_category_.end()) continue;
        out_.label_of[a] = static_cast<std::int16_t>(label->second);
        if (std::isnan(annotation.area) && options_.min_area > 0)
            find(record, "it has no \"area\", which --min-area adds up");
    }
    inspect_shapes();
}

void Inspector::inspect_shapes() {
    const auto bad = [&](std::size_t a, const std::string& reason) {
        if (out_.label_of[a] >= 0)
            find(cat("annotation ", in_.annotations[a].id), reason);
        else
            ++out_.bad_shapes_elsewhere;
    };
    for (const ShapeProblem& problem : in_.shape_problems) bad(problem.annotation, problem.reason);
    for (std::size_t a = 0; a < in_.annotations.size(); ++a) {
        const Annotation& annotation = in_.annotations[a];
        if (annotation.shape_bytes == 0) {
            out_.label_of[a] = -1;
            continue;
        }
        if (out_.picture_of[a] < 0) continue;
        const Picture& picture = in_.pictures[static_cast<std::size_t>(out_.picture_of[a])];
        const std::string reason = misfit(
            std::span(in_.shapes).subspan(annotation.shape, annotation.shape_bytes), picture.width,
            picture.height);
        if (reason.empty()) continue;
        bad(a, reason);
        out_.label_of[a] = -1;
    }
}

}  // namespace

Audit inspect(const Instances& instances, const data::CategoryMap& map, const Options& options,
              std::vector<Finding>& findings) {
    return Inspector(instances, map, options, findings).run();
}

}  // namespace deeplab::preprocess::coco
