#include "coco_records.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_set>

#include "coco_tally.h"
#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/data/category_map.h"
#include "draw.h"
#include "selection.h"

namespace fs = std::filesystem;

namespace deeplab::preprocess::coco {
namespace {

class DrawnRecords : public Records {
public:
    DrawnRecords(Selection selection, data::CategoryMap map, const PackOptions& options)
        : selection_(std::move(selection)),
          map_(std::move(map)),
          options_(options.coco),
          encoding_(options.encoding) {}

    std::optional<Loaded> load(const Entry& entry) override {
        const Scene& scene = selection_.scenes[entry.scene];
        const Drawing drawing = drawn(scene);
        tally_.add_annotations(drawing);
        const bool empty = scene.first == scene.end;
        if (!empty && options_.min_pixels > 0 && drawing.labelled <= options_.min_pixels) {
            ++tally_.counts[Tally::below_pixels];
            return std::nullopt;
        }
        Loaded out = loaded(entry, scene, drawing);
        tally_.add_packed(drawing, gray_);
        return out;
    }

    data::Record reload(const Entry& entry) override {
        const Scene& scene = selection_.scenes[entry.scene];
        return loaded(entry, scene, drawn(scene)).record;
    }

    void gather(comm::Communicator& comm) override { tally_.gather(comm); }
    std::vector<std::string> remarks() const override {
        return coco::remarks(selection_, map_, options_, tally_);
    }
    std::vector<std::string> warnings() const override {
        return coco::warnings(selection_, options_, tally_);
    }
    io::Object members() const override {
        return coco::members(selection_, map_, options_, tally_);
    }
    std::string nothing_left() const override {
        return cat("no image of the file is left to be packed (", options_.file.string(),
                   "): ", left_out(selection_, options_, tally_),
                   " — there is nothing to pack — check --map, --min-pixels and --min-area");
    }
    std::string remedy() const override {
        return "correct them, or take them out of the file; --missing skip leaves out images whose "
               "files are missing";
    }

private:
    Drawing drawn(const Scene& scene) const {
        return draw(selection_, scene, options_, static_cast<std::uint8_t>(map_.unlabelled()),
                    static_cast<std::uint8_t>(map_.classes.ignore));
    }

    Loaded loaded(const Entry& entry, const Scene& scene, const Drawing& drawing) {
        const std::string name = entry.image.string();
        Loaded out;
        out.record.id = entry.id;
        out.record.width = scene.width;
        out.record.height = scene.height;
        out.record.image = read_bytes(entry.image);
        const io::ImageInfo info = io::read_info(out.record.image, name);
        gray_ = info.channels < 3 && !info.palette;
        io::Image image = io::decode_image(out.record.image, name);
        if (image.width != scene.width || image.height != scene.height)
            throw DataError(cat("the image is ", image.width, "x", image.height,
                                ", the file of annotations says ", scene.width, "x", scene.height,
                                " (", name, ") — annotations would not lie on their pixels — ",
                                "use the images that belong to the file"));
        out.labels = histogram(drawing.mask);
        if (encoding_ == data::Encoding::raw) {
            out.record.image = std::move(image.pixels);
            out.record.mask = drawing.mask.labels;
        } else {
            out.record.mask = io::encode_palette_png(drawing.mask, map_.classes.palette());
        }
        return out;
    }

    Selection selection_;
    data::CategoryMap map_;
    Options options_;
    data::Encoding encoding_;
    Tally tally_;
    bool gray_ = false;  // the image that was loaded last
};

void check_options(const PackOptions& options) {
    if (!options.voc.empty() || !options.masks.empty() || !options.list.empty())
        throw UsageError(
            "--coco together with --voc, --masks or --list — they name two sources — give --coco, "
            "--images and --map alone");
    if (!options.classes.empty())
        throw UsageError(
            "--coco together with --classes — a file of classes does not say which categories "
            "they are — give --map instead");
    if (options.images.empty() || options.coco.map.empty())
        throw UsageError(cat("--", options.images.empty() ? "images DIR" : "map FILE",
                             " is missing — --coco names annotations alone — for example --images "
                             "train2017 --map jobs/configs/coco_voc21.toml"));
    if (options.coco.min_pixels < 0 || options.coco.min_area < 0)
        throw UsageError(
            "--min-pixels and --min-area — a number of pixels is not negative — correct the "
            "number");
}

// "instances_train2017.json" is split train2017.
std::string split_of(const PackOptions& options) {
    if (!options.split.empty()) return checked_name(options.split);
    std::string name = options.coco.file.stem().string();
    if (name.starts_with("instances_")) name.erase(0, 10);
    return checked_name(name);
}

// Images that another split of the output folder has, where one of the two is to train on and the
// other is to judge by.
void find_held_out(const PackOptions& options, Source& source) {
    const auto judges = [](const std::string& split) { return split.starts_with("val"); };
    std::error_code ignored;
    if (!fs::is_directory(options.out, ignored)) return;
    std::vector<std::string> others;
    for (const fs::directory_entry& entry : fs::directory_iterator(options.out))
        if (const std::string other = entry.path().stem().string();
            entry.path().extension() == ".json" &&
            (trains_only(source.split) ? judges(other)
                                       : judges(source.split) && trains_only(other)))
            others.push_back(other);
    std::sort(others.begin(), others.end());
    for (const std::string& other : others) {
        const std::vector<std::string> ids = data::ShardSet(options.out, other).ids();
        const std::unordered_set<std::string> known(ids.begin(), ids.end());
        for (const Entry& entry : source.entries)
            if (known.contains(entry.id))
                source.findings.push_back(
                    {-1, entry.id, (options.out / (other + ".json")).string(),
                     cat("split ", other,
                         " has it too: a network is not trained on what it is "
                         "judged by")});
    }
}

// On rank 0 alone.
Selection read_selection(const PackOptions& options, const data::CategoryMap& map, Source& source) {
    log::info(cat("reading ", options.coco.file.string()));
    const Instances instances = read_instances(options.coco.file);
    return select(instances, map, options.coco, source.findings);
}

// Rank 0 does it; where it fails, all ranks fail alike.
void on_first_rank(comm::Communicator& comm, const std::function<void()>& what) {
    std::string problem;
    int code = 0;
    if (comm.rank() == 0) {
        try {
            what();
        } catch (const Error& error) {
            code = static_cast<int>(error.code());
            problem = error.what();
        }
    }
    comm.broadcast(&code, sizeof code, 0, "file of annotations");
    const std::string text = comm.all_gather(problem, "file of annotations").front();
    if (code != 0) throw_error(static_cast<ExitCode>(code), text);
}

}  // namespace

Opened open(const PackOptions& options, comm::Communicator& comm) {
    check_options(options);
    data::CategoryMap map = data::load_category_map(options.coco.map);
    Opened out;
    out.classes = map.classes;
    Source& source = out.source;
    source.split = split_of(options);
    source.images = Folder(require_dir(options.images, "--images"));
    source.masks = Folder(options.coco.file);
    source.origin = options.coco.file.string();
    Selection selection;
    on_first_rank(comm, [&] { selection = read_selection(options, map, source); });
    share(selection, comm);
    for (std::size_t i = 0; i < selection.scenes.size(); ++i) {
        const std::string& name = selection.file_names[i];
        Entry entry;
        entry.id = name.substr(0, name.size() - picture_ending(name).size());
        entry.image = source.images.path() / name;
        entry.mask = options.coco.file;
        entry.image_name = name;
        entry.scene = i;
        source.entries.push_back(std::move(entry));
    }
    on_first_rank(comm, [&] { find_held_out(options, source); });
    out.records = std::make_unique<DrawnRecords>(std::move(selection), std::move(map), options);
    return out;
}

}  // namespace deeplab::preprocess::coco
