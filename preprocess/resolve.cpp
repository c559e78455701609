#include "resolve.h"

#include <algorithm>
#include <optional>

#include "deeplab/base/text.h"
#include "list.h"

namespace fs = std::filesystem;

namespace deeplab::preprocess {
namespace {

std::string without_ending(const std::string& name) {
    return name.substr(0, name.size() - picture_ending(name).size());
}

// The name below `folder` of the file that `column` means; "" when there is none.
std::string named(Folder& folder, const std::string& column,
                  std::span<const std::string_view> endings) {
    const std::vector<std::string> ways = folder.below(column);
    for (const std::string& way : ways)
        if (!picture_ending(way).empty() && folder.has(way)) return way;
    for (const std::string& way : ways)
        if (std::string name = folder.find(way, endings); !name.empty()) return name;
    for (const std::string& way : ways)
        if (std::string name = folder.find(without_ending(way), endings); !name.empty())
            return name;
    return "";
}

// The forms of a line that may name files: as it is; without quotation marks; a path of Windows; in
// Windows' Western encoding.
std::vector<std::string> forms_of(const std::string& line) {
    std::vector<std::string> forms;
    if (const auto text = is_utf8(line) ? std::nullopt : utf8_of_windows_1252(line); text)
        forms.push_back(*text);
    forms.push_back(line);
    for (std::size_t i = forms.size(); i-- > 0;) {
        const std::string plain = unquoted(forms[i]);
        if (plain != forms[i]) forms.push_back(plain);
        if (plain.find('\\') == std::string::npos) continue;
        std::string path = plain;
        std::replace(path.begin(), path.end(), '\\', '/');
        if (path.size() > 2 && path[1] == ':') path.erase(0, 2);  // the drive
        forms.push_back(path);
    }
    return forms;
}

Entry entry_of(Folder& images, Folder& masks, const std::string& image, const std::string& mask) {
    Entry out;
    out.id = images.id_of(image);
    out.image_name = image;
    out.mask_name = mask.empty() ? masks.name_of(out.id, ".png") : mask;
    out.image = images.path() / image;
    if (!mask.empty()) out.mask = masks.path() / mask;
    return out;
}

std::optional<Entry> one_column(const std::string& form, Folder& images, Folder& masks) {
    const std::string image = named(images, form, image_endings);
    if (image.empty()) return std::nullopt;
    return entry_of(images, masks, image, masks.find(images.id_of(image), mask_endings));
}

std::optional<Entry> two_columns(const std::string& form, Folder& images, Folder& masks) {
    for (const auto& [left, right] : columns_of(form)) {
        const std::string image = named(images, left, image_endings),
                          mask = named(masks, right, mask_endings);
        if (!image.empty() && !mask.empty()) return entry_of(images, masks, image, mask);
    }
    return std::nullopt;
}

std::string plain_name(const Folder& folder, const std::string& column) {
    const std::vector<std::string> ways = folder.below(column);
    // The one without the folders that lead there, where there is one.
    return ways.empty() ? "" : ways.back();
}

// Of an entry without its two files: what is there, and the names of both.
Entry absent_entry(const std::string& image, const std::string& mask, Folder& images,
                   Folder& masks) {
    Entry out;
    out.id = images.id_of(image);
    out.image_name = picture_ending(image).empty() ? images.name_of(image, ".jpg") : image;
    out.mask_name = mask;
    if (const std::string found = named(images, image, image_endings); !found.empty())
        out.image = images.path() / found;
    if (const std::string found = named(masks, mask, mask_endings); !found.empty())
        out.mask = masks.path() / found;
    return out;
}

// Both columns are names of files, of which one at least is not there.
std::optional<Resolved> absent_columns(const std::string& line, const std::string& form,
                                       Folder& images, Folder& masks) {
    const auto is_name = [](const std::string& column) {
        return fs::path(column).has_extension() && column.back() != '.';
    };
    for (const auto& [left, right] : columns_of(form)) {
        if (!is_name(left) || !is_name(right)) continue;
        Resolved out;
        const std::string image = plain_name(images, left), mask = plain_name(masks, right);
        if (!image.empty()) out.entry = absent_entry(image, mask, images, masks);
        if (image.empty() || mask.empty()) {
            out.problem = cat("leads out of the folder of images or masks: \"", line, "\"");
        } else if (out.entry.image.empty() && !named(images, right, image_endings).empty() &&
                   !named(masks, left, mask_endings).empty()) {
            out.problem = "the columns are mask and image: the image stands first";
        }
        return out;
    }
    return std::nullopt;
}

// Of a line that names no image that is there: what it would be, so that its files are reported as
// missing, or why it can be nothing.
Resolved absent(const std::string& line, const std::string& form, Folder& images, Folder& masks) {
    if (auto both = absent_columns(line, form, images, masks)) return *both;
    Resolved out;
    const auto ways = columns_of(form);
    const std::string name = plain_name(images, form);
    const std::string mask = masks.name_of(images.id_of(name), ".png");
    if (name.empty()) {
        out.problem = cat("leads out of the folder of images: \"", line, "\"");
    } else if (ways.empty() || !picture_ending(form).empty() || masks.has(mask)) {
        out.entry = absent_entry(name, mask, images, masks);
    } else if (ways.size() == 1 &&
               (ways[0].second == "1" || ways[0].second == "-1" || ways[0].second == "0")) {
        out.problem =
            "an id and whether a class occurs, as in ImageSets/Main: take a list of "
            "ImageSets/Segmentation, or the first column";
    } else {
        out.problem = cat("not an id: \"", line,
                          "\": no image has this name, and no two columns "
                          "name an image and its mask");
    }
    return out;
}

Resolved found_or_absent(const std::string& line, Folder& images, Folder& masks) {
    const std::vector<std::string> forms = forms_of(line);
    for (const std::string& form : forms)
        if (auto entry = one_column(form, images, masks)) return {*entry, "", false};
    for (const std::string& form : forms)
        if (auto entry = two_columns(form, images, masks)) return {*entry, "", false};
    if (line[0] == '#') return {{}, "", true};
    return absent(line, forms.back(), images, masks);
}

void check_id(const std::string& text, Resolved& out) {
    const std::string line = printable(text);
    const Entry& entry = out.entry;
    if (!is_utf8(entry.id)) {
        out.problem = cat("\"", line, "\" is not UTF-8, as ids are: ",
                          entry.image.empty()
                              ? "save the list in UTF-8 (iconv -f LATIN1 -t UTF-8)"
                              : "rename the file, and list it so (convmv -f latin1 -t utf8)");
    } else if (std::any_of(entry.id.begin(), entry.id.end(),
                           [](char c) { return static_cast<unsigned char>(c) < 0x20; })) {
        out.problem = cat("a control character in \"", line, "\"");
    } else if (!entry.image.empty() && entry.image == entry.mask) {
        out.problem = cat("image and mask are one file: ", entry.image.string());
    }
}

}  // namespace

Resolved resolve(const std::string& line, Folder& images, Folder& masks) {
    Resolved out = found_or_absent(line, images, masks);
    out.problem = printable(out.problem);
    if (out.problem.empty() && !out.comment) check_id(line, out);
    return out;
}

Resolved resolve_id(const std::string& id, Folder& images, Folder& masks) {
    Resolved out;
    out.entry = absent_entry(id, id + ".png", images, masks);
    check_id(id, out);
    return out;
}

Resolved resolve_found(const std::string& id, Folder& images, Folder& masks) {
    Resolved out;
    const std::string image = images.find(id, image_endings), mask = masks.find(id, mask_endings);
    out.entry.id = id;
    out.entry.image_name = image.empty() ? images.name_of(id, ".jpg") : image;
    out.entry.mask_name = mask.empty() ? masks.name_of(id, ".png") : mask;
    if (!image.empty()) out.entry.image = images.path() / image;
    if (!mask.empty()) out.entry.mask = masks.path() / mask;
    check_id(id, out);
    return out;
}

}  // namespace deeplab::preprocess
