#include "selection.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <unordered_set>

#include "audit.h"
#include "deeplab/base/text.h"

namespace deeplab::preprocess::coco {
namespace {

// The annotations of each picture, by its index, in the file's order.
std::vector<std::vector<std::size_t>> by_picture(const Instances& instances, const Audit& audit) {
    std::vector<std::vector<std::size_t>> out(instances.pictures.size());
    for (std::size_t a = 0; a < instances.annotations.size(); ++a)
        if (const std::int64_t picture = audit.picture_of[a]; picture >= 0)
            out[static_cast<std::size_t>(picture)].push_back(a);
    return out;
}

bool above_area(const Selection& out, const Scene& scene, std::int64_t least) {
    double sum = 0;
    for (const Drawable& d : out.of(scene)) sum += std::isnan(d.area) ? 0 : d.area;
    return least == 0 || sum > static_cast<double>(least);
}

Drawable drawable_of(const Instances& instances, const Annotation& a, int label, Bytes& shapes) {
    Drawable d;
    d.id = a.id;
    d.area = a.area;
    d.shape = shapes.size();
    d.shape_bytes = a.shape_bytes;
    d.label = static_cast<std::uint8_t>(label);
    d.crowd = a.crowd;
    const auto* from = instances.shapes.data() + a.shape;
    shapes.insert(shapes.end(), from, from + a.shape_bytes);
    return d;
}

}  // namespace

Selection select(const Instances& instances, const data::CategoryMap& map, const Options& options,
                 std::vector<Finding>& findings) {
    const Audit audit = inspect(instances, map, options, findings);
    Selection out;
    out.categories = audit.mapped;
    out.counts.images = static_cast<std::int64_t>(instances.pictures.size());
    out.counts.annotations = static_cast<std::int64_t>(instances.annotations.size());
    out.counts.categories = static_cast<std::int64_t>(instances.categories.size());
    out.counts.bad_shapes_elsewhere = audit.bad_shapes_elsewhere;
    const auto annotations = by_picture(instances, audit);
    std::vector<std::size_t> order = audit.good_pictures;
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return instances.pictures[a].id < instances.pictures[b].id;
    });
    for (const std::size_t p : order) {
        const Picture& picture = instances.pictures[p];
        Scene scene{picture.id, picture.width, picture.height,
                    static_cast<std::int64_t>(out.annotations.size()), 0};
        bool any = false;
        for (const std::size_t a : annotations[p]) {
            any = true;
            if (audit.label_of[a] < 0) continue;
            out.annotations.push_back(
                drawable_of(instances, instances.annotations[a], audit.label_of[a], out.shapes));
        }
        scene.end = static_cast<std::int64_t>(out.annotations.size());
        const bool empty = scene.first == scene.end;
        if (empty) ++(any ? out.counts.without_category : out.counts.without_annotation);
        if (empty ? !options.keep_empty : !above_area(out, scene, options.min_area)) {
            if (!empty) {
                ++out.counts.below_area;
                out.shapes.resize(out.annotations[static_cast<std::size_t>(scene.first)].shape);
                out.annotations.resize(static_cast<std::size_t>(scene.first));
            }
            continue;
        }
        out.scenes.push_back(scene);
        out.file_names.push_back(picture.file_name);
    }
    return out;
}

namespace {

template <class T>
void share_all(std::vector<T>& values, comm::Communicator& comm, const char* what) {
    static_assert(std::is_trivially_copyable_v<T>);
    std::uint64_t count = values.size();
    comm.broadcast(&count, sizeof count, 0, what);
    values.resize(count);
    if (count > 0) comm.broadcast(values.data(), count * sizeof(T), 0, what);
}

// Texts without zero bytes: the audit lets no such name through.
void share_texts(std::vector<std::string>& texts, comm::Communicator& comm, const char* what) {
    std::vector<char> joined;
    for (const std::string& text : texts)
        joined.insert(joined.end(), text.c_str(), text.c_str() + text.size() + 1);
    share_all(joined, comm, what);
    texts.clear();
    for (auto at = joined.begin(); at != joined.end();) {
        const auto end = std::find(at, joined.end(), '\0');
        texts.emplace_back(at, end);
        at = end + 1;
    }
}

}  // namespace

void share(Selection& selection, comm::Communicator& comm) {
    if (comm.size() == 1) return;
    share_all(selection.scenes, comm, "images of the file");
    share_texts(selection.file_names, comm, "names of images");
    share_all(selection.annotations, comm, "annotations");
    share_all(selection.shapes, comm, "shapes of annotations");
    std::vector<std::int64_t> ids, labels;
    std::vector<std::string> names;
    for (const MappedCategory& c : selection.categories) {
        ids.push_back(c.id);
        labels.push_back(c.label);
        names.push_back(c.name);
    }
    share_all(ids, comm, "categories");
    share_all(labels, comm, "classes of categories");
    share_texts(names, comm, "names of categories");
    selection.categories.clear();
    for (std::size_t i = 0; i < ids.size(); ++i)
        selection.categories.push_back({ids[i], names[i], static_cast<int>(labels[i])});
    comm.broadcast(&selection.counts, sizeof selection.counts, 0, "counts of the file");
}

}  // namespace deeplab::preprocess::coco
