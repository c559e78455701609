#include "source.h"

#include <algorithm>
#include <initializer_list>
#include <unordered_map>
#include <unordered_set>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"

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

fs::path require_dir(const fs::path& path, const char* option) {
    if (is_dir(path)) return path;
    throw UsageError(cat(option, " ", path.string(),
                         " is not a folder — there is nothing to pack — check the path"));
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

// "" when the line is good, else what is wrong. Two columns as in "/JPEGImages/ID.jpg
// /SegmentationClassAug/ID.png" are the other common form of these lists.
std::string parse_line(const std::string& line, std::string& id) {
    std::vector<std::string> words;
    std::string word;
    for (const char c : line + " ") {
        if (c != ' ' && c != '\t') {
            word += c;
        } else if (!word.empty()) {
            words.push_back(word);
            word.clear();
        }
    }
    if (words.size() == 2 && fs::path(words[0]).stem() == fs::path(words[1]).stem()) {
        id = fs::path(words[0]).stem().string();
        return "";
    }
    if (words.size() != 1) return cat("not an id: \"", line, "\"");
    id = words[0];
    const fs::path path(id);
    if (path.is_absolute() || std::find(path.begin(), path.end(), "..") != path.end())
        return cat("leads out of the folder of images: \"", id, "\"");
    return "";
}

void read_list(const fs::path& file, Source& source) {
    std::unordered_map<std::string, std::int64_t> seen;
    std::int64_t number = 0;
    for (const std::string& raw : split(read_text(file), '\n')) {
        ++number;
        const std::string line = trim(raw);
        if (line.empty()) continue;
        std::string id;
        std::string problem = parse_line(line, id);
        const auto [first, added] = seen.emplace(id, number);
        if (problem.empty() && !added)
            problem = cat("listed twice, in lines ", first->second, " and ", number);
        if (problem.empty())
            source.ids.push_back(id);
        else
            source.findings.push_back({-1, id, cat(file.string(), ":", number), problem});
    }
    source.origin = file.string();
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
    Source held_out;
    read_list(val, held_out);
    const std::unordered_set<std::string> val_ids(held_out.ids.begin(), held_out.ids.end());
    for (const fs::directory_entry& entry : fs::directory_iterator(aug)) {
        const std::string id = entry.path().stem().string();
        if (entry.path().extension() == ".png" && val_ids.count(id) == 0) source.ids.push_back(id);
    }
    std::sort(source.ids.begin(), source.ids.end());
    source.origin = cat("the ids in ", aug.string(), " minus ", val.filename().string(),
                        " (there is no train_aug.txt)");
}

bool trains_only(const std::string& split) {
    return split.rfind("train", 0) == 0 && split.rfind("trainval", 0) != 0;
}

// A network must not be trained on what it is judged by: ids of val.txt in a training list.
void find_held_out(const fs::path& lists, Source& source) {
    if (!trains_only(source.split) || !is_file(lists / "val.txt")) return;
    Source val;
    read_list(lists / "val.txt", val);
    const std::unordered_set<std::string> held_out(val.ids.begin(), val.ids.end());
    for (const std::string& id : source.ids)
        if (held_out.contains(id))
            source.findings.push_back({-1, id, source.origin,
                                       "held out for validation: val.txt has it too (a list of "
                                       "both is named trainval…)"});
}

// Becomes a file name of the output.
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

void find_voc_list(const fs::path& voc, const std::string& wanted, Source& source) {
    const fs::path lists = voc / "ImageSets" / "Segmentation";
    if (is_file(lists / (wanted + ".txt"))) {
        source.split = checked_name(wanted);
        read_list(lists / (wanted + ".txt"), source);
        find_held_out(lists, source);
    } else if (is_file(wanted)) {
        source.split = checked_name(fs::path(wanted).stem().string());
        read_list(wanted, source);
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

fs::path first_existing(const fs::path& dir, const std::string& id,
                        std::initializer_list<const char*> extensions) {
    for (const char* extension : extensions)
        if (fs::path path = dir / (id + extension); is_file(path)) return path;
    return {};
}

}  // namespace

Source find_source(const PackOptions& options) {
    Source source;
    if (!options.voc.empty()) {
        if (!options.images.empty() || !options.list.empty())
            throw UsageError(
                "--voc together with --images or --list — they name two sources — use --voc and "
                "--split, or "
                "--images, --masks and --list");
        if (options.split.empty())
            throw UsageError(
                "--split is missing — a VOC folder has several lists — for example --split "
                "train_aug");
        const fs::path voc = find_voc(options.voc);
        source.images = voc / "JPEGImages";
        if (!options.masks.empty())
            source.masks = require_dir(is_dir(options.masks) ? options.masks : voc / options.masks,
                                       "--masks");
        else if (is_dir(voc / "SegmentationClassAug"))
            source.masks = voc / "SegmentationClassAug";
        else
            source.masks = require_dir(voc / "SegmentationClass", "--voc: SegmentationClass");
        find_voc_list(voc, options.split, source);
    } else {
        if (options.images.empty() || options.masks.empty() || options.list.empty())
            throw UsageError(
                "no source — give --voc DIR and --split NAME, or --images DIR, --masks DIR and "
                "--list FILE — "
                "see deeplab-pack --help");
        source.images = require_dir(options.images, "--images");
        source.masks = require_dir(options.masks, "--masks");
        source.split = checked_name(options.split.empty() ? options.list.stem().string()
                                                          : options.split);
        read_list(options.list, source);
    }
    if (source.ids.empty() && source.findings.empty())
        throw DataError(cat("the list has no ids (", source.origin,
                            ") — there is nothing to pack — check the list"));
    return source;
}

fs::path image_file(const Source& source, const std::string& id) {
    return first_existing(source.images, id, {".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG"});
}

fs::path mask_file(const Source& source, const std::string& id) {
    return first_existing(source.masks, id, {".png", ".PNG"});
}

}  // namespace deeplab::preprocess
