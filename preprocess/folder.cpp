#include "folder.h"

#include <algorithm>
#include <cctype>
#include <functional>
#include <system_error>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/text.h"
#include "list.h"

namespace fs = std::filesystem;

namespace deeplab::preprocess {
namespace {

// Comparing a name with all others takes time: for the first of a long table only.
constexpr int kMostComparisons = 100;
constexpr std::size_t kMostCompared = 20000;

std::string small_letters(std::string text) {
    for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return text;
}

// Folder and name of a path below; the folder is "" at the top.
std::pair<std::string, std::string> parts_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos) return {"", path};
    return {path.substr(0, slash), path.substr(slash + 1)};
}

std::string joined(const std::string& folder, const std::string& name) {
    return folder.empty() ? name : folder + "/" + name;
}

std::string stem_of(const std::string& name) { return name.substr(0, name.rfind('.')); }

std::vector<std::string> components_of(const fs::path& path) {
    std::vector<std::string> out;
    for (const fs::path& part : path)
        if (const std::string text = part.string(); !text.empty() && text != "/" && text != ".")
            out.push_back(text);
    return out;
}

// The numbers in a name, without leading zeros, and what stands between them.
std::pair<std::vector<std::string>, std::string> numbers_of(const std::string& stem) {
    std::pair<std::vector<std::string>, std::string> out;
    bool inside = false;
    for (const char c : stem) {
        const bool digit = std::isdigit(static_cast<unsigned char>(c)) != 0;
        if (digit && !inside) {
            out.first.emplace_back();
            out.second += "0";
        }
        if (!digit) out.second += c;
        if (digit && (c != '0' || !out.first.back().empty())) out.first.back() += c;
        inside = digit;
    }
    return out;
}

// p0 and p1: another picture of the same series. p7 and p07 may be the same one.
bool differs_in_numbers_alone(const std::string& a, const std::string& b) {
    const auto [own, between] = numbers_of(a);
    const auto [others, between_others] = numbers_of(b);
    return small_letters(between) == small_letters(between_others) && own != others;
}

std::string there(const std::string& name) { return cat("\"", printable(name), "\" is there"); }

}  // namespace

std::string picture_ending(const std::string& name) {
    const std::size_t dot = name.rfind('.');
    if (dot == std::string::npos || name.find('/', dot) != std::string::npos) return "";
    const std::string ending = name.substr(dot);
    for (const std::string_view known : image_endings)
        if (small_letters(ending) == known) return ending;
    return "";
}

const Folder::Listing& Folder::listing(const std::string& below) {
    const auto [found, fresh] = listings_.try_emplace(below);
    Listing& out = found->second;
    if (!fresh) return out;
    std::error_code problem;
    for (fs::directory_iterator entry(below.empty() ? path_ : path_ / below, problem), end;
         !problem && entry != end; entry.increment(problem)) {
        std::error_code ignored;
        const std::string name = entry->path().filename().string();
        (entry->is_directory(ignored) ? out.folders : out.names).push_back(name);
    }
    // A folder that is not there has no files.
    if (problem && problem != std::errc::no_such_file_or_directory &&
        problem != std::errc::not_a_directory) {
        const fs::path path = path_ / below;
        if (is_machines_failure(problem.value()))
            throw_machines_failure("read the folder", path, problem.value());
        throw UsageError(cat("cannot read the folder ", path.string(), ": ", problem.message(),
                             " — its pictures are needed — check its permissions"));
    }
    std::sort(out.names.begin(), out.names.end());
    std::sort(out.folders.begin(), out.folders.end());
    for (const std::string& name : out.names) {
        out.by_stem[stem_of(name)].push_back(name);
        out.by_small_stem.emplace(small_letters(stem_of(name)), name);
    }
    return out;
}

bool Folder::has_suffix(const std::string& name) const {
    const std::string stem = picture_ending(suffix_).empty()
                                 ? name.substr(0, name.size() - picture_ending(name).size())
                                 : name;
    return stem.ends_with(suffix_) && parts_of(stem).second.size() > suffix_.size();
}

std::string Folder::id_of(const std::string& name) const {
    const std::string ending = picture_ending(name);
    if (suffix_.empty() || !has_suffix(name)) return name.substr(0, name.size() - ending.size());
    const std::size_t more = picture_ending(suffix_).empty() ? ending.size() : 0;
    return name.substr(0, name.size() - suffix_.size() - more);
}

std::string Folder::name_of(const std::string& id, std::string_view ending) const {
    std::string name = id + suffix_;
    if (picture_ending(suffix_).empty()) name += ending;
    return name;
}

std::string Folder::find(const std::string& id, std::span<const std::string_view> endings) {
    const std::string name = id + suffix_;
    if (!picture_ending(suffix_).empty()) return has(name) ? name : "";
    const auto [folder, stem] = parts_of(name);
    const Listing& files = listing(folder);
    const auto found = files.by_stem.find(stem);
    if (found == files.by_stem.end()) return "";
    for (const std::string_view ending : endings) {
        // Of two that differ in capitals alone the one in small letters, which is the last.
        for (auto file = found->second.rbegin(); file != found->second.rend(); ++file)
            if (small_letters(file->substr(stem.size())) == ending) return joined(folder, *file);
    }
    return "";
}

bool Folder::has(const std::string& name) {
    const auto [folder, file] = parts_of(name);
    const Listing& files = listing(folder);
    return std::binary_search(files.names.begin(), files.names.end(), file);
}

std::vector<std::string> Folder::below(const std::string& column) const {
    fs::path given = fs::path(column).lexically_normal();
    std::error_code ignored;
    const bool exists = given.is_absolute() && fs::exists(given, ignored);
    if (exists) given = fs::weakly_canonical(given.parent_path(), ignored) / given.filename();
    const std::vector<std::string> parts = components_of(given);
    if (parts.empty() || std::find(parts.begin(), parts.end(), "..") != parts.end()) return {};
    const auto from = [&](std::size_t first) {
        std::string out;
        for (std::size_t i = first; i < parts.size(); ++i) out = joined(out, parts[i]);
        return out;
    };
    std::vector<std::string> ways;
    if (!exists) ways.push_back(from(0));
    // "JPEGImages/ID.jpg" where this folder is JPEGImages: what stands before the last part must
    // be where this folder lies. An absolute path may come from another machine: then its last two
    // folders count.
    const std::vector<std::string> own = components_of(fs::weakly_canonical(path_, ignored));
    for (std::size_t first = parts.size() - 1; first > 0; --first) {
        const bool whole = exists || !given.is_absolute();
        const std::size_t compared = whole ? first : std::min<std::size_t>(first, 2);
        if (compared > own.size() || (exists && compared != own.size())) continue;
        if (std::equal(own.end() - static_cast<std::ptrdiff_t>(compared), own.end(),
                       parts.begin() + static_cast<std::ptrdiff_t>(first - compared)))
            ways.push_back(from(first));
    }
    return ways;
}

std::string Folder::near_in(const std::string& folder, const std::string& name) {
    const Listing& files = listing(folder);
    const std::string stem = picture_ending(name).empty() ? name : stem_of(name);
    // Another ending.
    if (const auto same = files.by_stem.find(stem); same != files.by_stem.end())
        return joined(folder, same->second.front());
    if (const auto same = files.by_small_stem.find(small_letters(stem));
        same != files.by_small_stem.end())
        return joined(folder, same->second);
    // The name and more: p0_mask.png.
    const auto longer = std::lower_bound(files.names.begin(), files.names.end(), stem);
    if (longer != files.names.end() && longer->starts_with(stem) &&
        std::isalnum(static_cast<unsigned char>((*longer)[stem.size()])) == 0)
        return joined(folder, *longer);
    if (files.names.size() > kMostCompared || comparisons_++ >= kMostComparisons) return "";
    std::vector<std::string> stems;
    std::vector<std::string> names;
    for (const std::string& other : files.names) {
        if (differs_in_numbers_alone(stem, stem_of(other))) continue;
        names.push_back(other);
        stems.push_back(letters(stem_of(other)));
    }
    const std::string like = nearest(letters(stem), stems);
    if (like.empty()) return "";
    const auto at = std::find(stems.begin(), stems.end(), like) - stems.begin();
    return joined(folder, names[static_cast<std::size_t>(at)]);
}

std::string Folder::near(const std::string& name) {
    const auto [folder, file] = parts_of(name);
    if (const std::string like = near_in(folder, file); !like.empty())
        return there(like) + (has_separate_accents(like) == has_separate_accents(name)
                                  ? ""
                                  : ", of which one has its accents as separate characters, as "
                                    "macOS stores names");
    const std::string stem = picture_ending(file).empty() ? file : stem_of(file);
    // The same name in the folder above or in one below.
    std::vector<std::string> others = folder.empty() ? std::vector<std::string>{}
                                                     : std::vector<std::string>{""};
    for (const std::string& below : std::vector<std::string>(listing("").folders))
        others.push_back(below);
    for (const std::string& other : others) {
        if (other == folder) continue;
        const Listing& files = listing(other);
        if (const auto same = files.by_stem.find(stem); same != files.by_stem.end())
            return there(joined(other, same->second.front()));
    }
    return "";
}

std::vector<std::string> Folder::ids(std::span<const std::string_view> endings) {
    std::vector<std::string> out;
    for (const std::string& name : listing("").names) {
        const std::string ending = name.substr(stem_of(name).size());
        if (name[0] != '.' &&
            std::find(endings.begin(), endings.end(), small_letters(ending)) != endings.end())
            out.push_back(stem_of(name));
    }
    std::sort(out.begin(), out.end());
    out.erase(std::unique(out.begin(), out.end()), out.end());
    return out;
}

std::vector<std::string> Folder::ids_below(std::span<const std::string_view> endings,
                                           const Folder& except) {
    std::error_code ignored;
    const bool shared = fs::equivalent(path_, except.path_, ignored);
    std::vector<std::string> out;
    const auto take = [&](const std::string& name) {
        const std::string ending = small_letters(picture_ending(name));
        const bool wanted = !picture_ending(suffix_).empty() ||
                            std::find(endings.begin(), endings.end(), ending) != endings.end();
        if (wanted && has_suffix(name) &&
            !(shared && !except.suffix_.empty() && except.has_suffix(name)))
            out.push_back(id_of(name));
    };
    // Folders that lead to the present one: a link to one of them would have no end.
    std::vector<fs::path> above;
    const std::function<void(const std::string&)> walk = [&](const std::string& folder) {
        const fs::path here = fs::weakly_canonical(path_ / folder, ignored);
        if (std::find(above.begin(), above.end(), here) != above.end()) return;
        if (!shared && fs::equivalent(here, except.path_, ignored)) return;
        above.push_back(here);
        const Listing& files = listing(folder);
        for (const std::string& name : files.names)
            if (name[0] != '.') take(joined(folder, name));
        for (const std::string& name : files.folders)
            if (name[0] != '.') walk(joined(folder, name));
        above.pop_back();
    };
    walk("");
    std::sort(out.begin(), out.end());
    out.erase(std::unique(out.begin(), out.end()), out.end());
    return out;
}

}  // namespace deeplab::preprocess
