#include "source.h"

#include <algorithm>
#include <iterator>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "list.h"
#include "resolve.h"

namespace fs = std::filesystem;

namespace deeplab::preprocess {
namespace {

bool is_dir(const fs::path& path) {
    std::error_code ignored;
    return fs::is_directory(path, ignored);
}

bool is_file(const fs::path& path) {
    std::error_code ignored;
    return fs::is_regular_file(path, ignored);
}

// The folder itself, VOCdevkit above it, or the one above that.
fs::path find_voc(const fs::path& given) {
    for (const fs::path& dir : {given, given / "VOC2012", given / "VOCdevkit" / "VOC2012"})
        if (is_dir(dir / "JPEGImages")) return dir;
    throw UsageError(cat("no VOC folder (--voc ", given.string(),
                         ") — it needs JPEGImages/, SegmentationClass/ and ",
                         "ImageSets/Segmentation/ — name VOCdevkit/VOC2012, VOCdevkit or its "
                         "parent; jobs/get_voc.sh DIR ",
                         "fetches VOC 2012"));
}

// Lines that cannot be used, and ids listed twice, become findings.
std::vector<Entry> read_list(const fs::path& file, Source& source) {
    std::vector<Entry> entries;
    std::unordered_map<std::string, std::int64_t> seen;
    for (const ListLine& line : read_list_lines(file)) {
        Resolved resolved = resolve(line.text, source.images, source.masks);
        if (resolved.comment) continue;
        const std::string& id = resolved.entry.id;
        if (resolved.problem.empty()) {
            const auto [first, added] = seen.emplace(id, line.number);
            if (!added)
                resolved.problem = cat("listed twice, in lines ", first->second, " and ",
                                       line.number);
        }
        if (resolved.problem.empty())
            entries.push_back(std::move(resolved.entry));
        else
            source.findings.push_back(
                {-1, printable(id), cat(file.string(), ":", line.number), resolved.problem});
    }
    return entries;
}

void take_list(const fs::path& file, Source& source) {
    source.entries = read_list(file, source);
    source.origin = file.string();
}

// The ids of a list whose files need not be there. A line that gives none becomes a finding: what
// it holds out would be trained on.
std::unordered_set<std::string> held_out_ids(const fs::path& file, Source& source) {
    std::unordered_set<std::string> ids;
    for (const ListLine& line : read_list_lines(file)) {
        const Resolved resolved = resolve(line.text, source.images, source.masks);
        if (resolved.comment) continue;
        if (!resolved.entry.id.empty() && is_utf8(resolved.entry.id))
            ids.insert(resolved.entry.id);
        else
            source.findings.push_back({-1, printable(resolved.entry.id),
                                       cat(file.string(), ":", line.number), resolved.problem});
    }
    return ids;
}

// VOC's own archives and SegmentationClassAug come without this list: it is whatever has a mask and
// is not in val.
void derive_train_aug(const fs::path& voc, Source& source) {
    const fs::path aug = voc / "SegmentationClassAug",
                   val = voc / "ImageSets" / "Segmentation" / "val.txt";
    if (!is_dir(aug) || !is_file(val))
        throw UsageError(
            cat("no train_aug.txt (", val.parent_path().string(),
                "), and it cannot be derived: ", is_dir(aug) ? val.string() : aug.string(),
                " is missing — train_aug is the ids in SegmentationClassAug minus val.txt — add "
                "it, or give "
                "--split a file of ids"));
    const std::unordered_set<std::string> val_ids = held_out_ids(val, source);
    for (const std::string& id : Folder(aug).ids(mask_endings)) {
        if (val_ids.contains(id)) continue;
        Resolved resolved = resolve_id(id, source.images, source.masks);
        if (resolved.problem.empty())
            source.entries.push_back(std::move(resolved.entry));
        else
            source.findings.push_back({-1, printable(id), aug.string(), resolved.problem});
    }
    source.origin = cat("the ids in ", aug.string(), " minus ", val.filename().string(),
                        " (there is no train_aug.txt)");
}

// A network must not be trained on what it is judged by: ids of val.txt in a training list.
void find_held_out(const fs::path& lists, Source& source) {
    if (!trains_only(source.split) || !is_file(lists / "val.txt")) return;
    const std::unordered_set<std::string> held_out = held_out_ids(lists / "val.txt", source);
    for (const Entry& entry : source.entries)
        if (held_out.contains(entry.id))
            source.findings.push_back({-1, entry.id, source.origin,
                                       "held out for validation: val.txt has it too (a list of "
                                       "both is named trainval…)"});
}

void find_voc_list(const fs::path& voc, const std::string& wanted, Source& source) {
    const fs::path lists = voc / "ImageSets" / "Segmentation";
    if (is_file(lists / (wanted + ".txt"))) {
        source.split = checked_name(wanted);
        take_list(lists / (wanted + ".txt"), source);
        find_held_out(lists, source);
    } else if (is_file(wanted)) {
        source.split = checked_name(fs::path(wanted).stem().string());
        take_list(wanted, source);
        find_held_out(lists, source);
    } else if (wanted == "train_aug") {
        source.split = wanted;
        derive_train_aug(voc, source);
    } else {
        std::vector<std::string> names;
        if (is_dir(lists))
            for (const fs::directory_entry& entry : fs::directory_iterator(lists))
                if (entry.path().extension() == ".txt")
                    names.push_back(entry.path().stem().string());
        std::sort(names.begin(), names.end());
        std::string known;
        for (const std::string& name : names) known += (known.empty() ? "" : ", ") + name;
        throw UsageError(cat("no list \"", wanted, "\" (", lists.string(),
                             ") — --split names a list there, or a file — ",
                             known.empty() ? "the folder has none" : "there are: " + known));
    }
}

fs::path voc_masks(const fs::path& voc, const fs::path& chosen) {
    if (!chosen.empty()) return require_dir(is_dir(chosen) ? chosen : voc / chosen, "--masks");
    if (is_dir(voc / "SegmentationClassAug")) return voc / "SegmentationClassAug";
    return require_dir(voc / "SegmentationClass", "--voc: SegmentationClass");
}

}  // namespace

std::string checked_name(const std::string& name) {
    const auto good = [](unsigned char c) {
        return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.';
    };
    if (name.empty() || name[0] == '.' || name[0] == '-' ||
        !std::all_of(name.begin(), name.end(), good))
        throw UsageError(
            cat("\"", name,
                "\" cannot name a split — it becomes part of file names — use letters, digits, "
                "_ and -"));
    return name;
}

fs::path require_dir(const fs::path& path, const char* option) {
    if (is_dir(path)) return path;
    throw UsageError(cat(option, " ", path.string(),
                         " is not a folder — there is nothing to pack — check the path"));
}

bool trains_only(const std::string& split) {
    return split.starts_with("train") && !split.starts_with("trainval");
}

namespace {

Source find_voc_source(const PackOptions& options) {
    if (!options.images.empty() || !options.list.empty())
        throw UsageError(
            "--voc together with --images or --list — they name two sources — use --voc and "
            "--split, or "
            "--images, --masks and --list");
    if (options.split.empty())
        throw UsageError(
            "--split is missing — a VOC folder has several lists — for example --split "
            "train_aug");
    Source source;
    const fs::path voc = find_voc(options.voc);
    source.images = Folder(voc / "JPEGImages");
    source.masks = Folder(voc_masks(voc, options.masks));
    find_voc_list(voc, options.split, source);
    return source;
}

// All pictures below the folders: images, and masks that belong to none.
void take_folders(Source& source) {
    const std::vector<std::string> images = source.images.ids_below(image_endings, source.masks);
    if (images.empty())
        throw DataError(cat("no image is called *",
                            source.images.name_of("", ".jpg, .jpeg or .png"), " (",
                            source.images.path().string(),
                            ", and below) — there is nothing to pack — check --images and "
                            "--image-suffix"));
    const std::vector<std::string> masks = source.masks.ids_below(mask_endings, source.images);
    std::vector<std::string> ids;
    std::set_union(images.begin(), images.end(), masks.begin(), masks.end(),
                   std::back_inserter(ids));
    for (const std::string& id : ids) {
        Resolved resolved = resolve_found(id, source.images, source.masks);
        if (resolved.problem.empty())
            source.entries.push_back(std::move(resolved.entry));
        else
            source.findings.push_back(
                {-1, printable(id), source.images.path().string(), resolved.problem});
    }
    source.origin = cat("all pictures below ", source.images.path().string());
}

Source find_own_source(const PackOptions& options) {
    if (options.images.empty() || options.masks.empty())
        throw UsageError(
            "no source — give --voc DIR and --split NAME, or --images DIR, --masks DIR and "
            "--list FILE, or --coco FILE, --images DIR and --map FILE — "
            "see deeplab-pack --help");
    if (options.list.empty() && options.split.empty())
        throw UsageError(
            "--list and --split are missing — the split needs a name — give --list FILE, or "
            "--split NAME to take all pictures below --images");
    Source source;
    source.images = Folder(require_dir(options.images, "--images"), options.image_suffix);
    source.masks = Folder(require_dir(options.masks, "--masks"), options.mask_suffix);
    source.split = checked_name(options.split.empty() ? options.list.stem().string()
                                                      : options.split);
    if (options.list.empty())
        take_folders(source);
    else
        take_list(options.list, source);
    return source;
}

}  // namespace

void check_suffixes(const PackOptions& options) {
    for (const auto& [option, suffix] : {std::pair{"--image-suffix", &options.image_suffix},
                                         std::pair{"--mask-suffix", &options.mask_suffix}}) {
        if (suffix->empty()) continue;
        if (!options.voc.empty() || !options.coco.file.empty())
            throw UsageError(cat(option, " together with --", options.voc.empty() ? "coco" : "voc",
                                 " — names are known there — use it with --images and --masks"));
        if (suffix->find('/') != std::string::npos)
            throw UsageError(cat(option, " \"", *suffix,
                                 "\" has a slash — it is the end of a file's name — put folders "
                                 "into --images, --masks or the list"));
    }
}

Source find_source(const PackOptions& options) {
    Source source = options.voc.empty() ? find_own_source(options) : find_voc_source(options);
    if (source.entries.empty() && source.findings.empty())
        throw DataError(cat("the list has no ids (", source.origin,
                            ") — there is nothing to pack — check the list"));
    return source;
}

Finding missing_of(Source& source, std::int64_t order, const Entry& entry) {
    const bool image = entry.image.empty() || !is_file(entry.image);
    Folder& folder = image ? source.images : source.masks;
    const std::string& name = image ? entry.image_name : entry.mask_name;
    const fs::path path = folder.path() / name;
    std::string reason = image ? "image is missing" : "mask is missing";
    std::error_code ignored;
    if (fs::is_symlink(path, ignored)) {
        reason += cat(": a link to ", fs::read_symlink(path, ignored).string(),
                      ", which is not there");
    } else if (fs::exists(path, ignored)) {
        reason += is_file(path) ? ": that file is of another kind" : ": that is no file";
    } else if (const std::string near = folder.near(name); !near.empty()) {
        reason += "; " + near;
    }
    return {order, entry.id, path.string(), reason};
}

}  // namespace deeplab::preprocess
