#pragma once
// What lies in a folder of pictures and in the folders below it; each is listed once.

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace deeplab::preprocess {

// Endings in order of preference, in small letters; a file's may be in capitals.
inline constexpr std::string_view image_endings[] = {".jpg", ".jpeg", ".png"};
inline constexpr std::string_view mask_endings[] = {".png"};

// "" or the ending of an image that `name` has.
std::string picture_ending(const std::string& name);

// A picture `id`, a path below the folder, is called id + suffix + ending; a suffix may have the
// ending, such as "_leftImg8bit.png", and then names no other file.
class Folder {
public:
    Folder() = default;
    explicit Folder(std::filesystem::path path, std::string suffix = "")
        : path_(std::move(path)), suffix_(std::move(suffix)) {}

    const std::filesystem::path& path() const { return path_; }
    const std::string& suffix() const { return suffix_; }
    // The id of a picture by its name: without its ending, and without the suffix where it has it.
    std::string id_of(const std::string& name) const;
    // What the picture `id` would be called, with `ending` where the suffix has none.
    std::string name_of(const std::string& id, std::string_view ending) const;

    // The name of the picture `id`; "" when there is none.
    std::string find(const std::string& id, std::span<const std::string_view> endings);
    bool has(const std::string& name);  // a path below the folder, with its ending

    // The paths below the folder that a list may mean by `column`: as it is, without the folders
    // that lead to this one, or an absolute path into this one. Empty where it leads elsewhere.
    std::vector<std::string> below(const std::string& column) const;

    // A file that is there and that `name` (with or without ending) may have meant, in words for
    // a message: "p0.tif is there". "" when nothing is like it.
    std::string near(const std::string& name);

    // Ids with one of these endings directly in the folder, in name order; hidden files are none.
    std::vector<std::string> ids(std::span<const std::string_view> endings);
    // Ids of the pictures with the suffix and one of these endings in the folder and all below it,
    // in the order of their bytes, each once. Hidden files and folders are none, nor is the folder
    // `except` where it lies below. Where `except` is this folder, pictures with its suffix are
    // none.
    std::vector<std::string> ids_below(std::span<const std::string_view> endings,
                                       const Folder& except);

private:
    struct Listing {
        std::unordered_map<std::string, std::vector<std::string>> by_stem;  // names, sorted
        std::unordered_map<std::string, std::string> by_small_stem;         // one name of each
        std::vector<std::string> names, folders;                            // sorted
    };
    const Listing& listing(const std::string& below);
    std::string near_in(const std::string& folder, const std::string& name);
    bool has_suffix(const std::string& name) const;

    std::filesystem::path path_;
    std::string suffix_;
    std::map<std::string, Listing> listings_;  // by the path below path_; "" is path_ itself
    int comparisons_ = 0;                      // letter by letter, so far
};

}  // namespace deeplab::preprocess
