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

class Folder {
public:
    Folder() = default;
    explicit Folder(std::filesystem::path path) : path_(std::move(path)) {}

    const std::filesystem::path& path() const { return path_; }

    // The name of the picture `id`, a path below the folder without ending; "" when there is none.
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

private:
    struct Listing {
        std::unordered_map<std::string, std::vector<std::string>> by_stem;  // names, sorted
        std::unordered_map<std::string, std::string> by_small_stem;         // one name of each
        std::vector<std::string> names, folders;                            // sorted
    };
    const Listing& listing(const std::string& below);
    std::string near_in(const std::string& folder, const std::string& name);

    std::filesystem::path path_;
    std::map<std::string, Listing> listings_;  // by the path below path_; "" is path_ itself
    int comparisons_ = 0;                      // letter by letter, so far
};

}  // namespace deeplab::preprocess
