#include "deeplab/train/run_folder.h"

#include <algorithm>
#include <limits>
#include <map>
#include <system_error>
#include <vector>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"

namespace deeplab::train {

namespace fs = std::filesystem;

namespace {

// Step of "step-0000100.h5"; -1 for any other name.
std::int64_t step_of(const fs::path& file) {
    const std::string name = file.filename().string();
    if (!name.starts_with("step-") || !name.ends_with(".h5")) return -1;
    const std::string digits = name.substr(5, name.size() - 8);
    if (digits.empty() || digits.size() > 15 ||
        digits.find_first_not_of("0123456789") != std::string::npos)
        return -1;
    return std::stoll(digits);
}

fs::path checkpoint_folder(const fs::path& run) { return run / "checkpoints"; }

// What a link of the folder names; empty when there is none, or when it dangles.
fs::path linked(const fs::path& run, const char* name) {
    std::error_code error;
    const fs::path target = fs::read_symlink(checkpoint_folder(run) / name, error);
    if (error) return {};
    const fs::path file = checkpoint_folder(run) / target.filename();
    return fs::is_regular_file(file, error) ? file : fs::path();
}

}  // namespace

fs::path checkpoint_path(const fs::path& run, std::int64_t step) {
    return checkpoint_folder(run) / cat("step-", right_aligned(cat(step), 7, '0'), ".h5");
}

std::map<std::int64_t, fs::path> checkpoints_of(const fs::path& run) {
    std::map<std::int64_t, fs::path> files;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(checkpoint_folder(run), ignored)) {
        const std::int64_t step = step_of(entry.path());
        if (step >= 0 && entry.is_regular_file(ignored)) files[step] = entry.path();
    }
    return files;
}

std::optional<fs::path> latest_checkpoint(const fs::path& run) {
    if (const fs::path named = linked(run, "latest.h5"); !named.empty()) return named;
    const auto files = checkpoints_of(run);
    if (files.empty()) return std::nullopt;
    return files.rbegin()->second;
}

void link_checkpoint(const fs::path& target, const std::string& name) {
    const fs::path link = target.parent_path() / name,
                   temporary = target.parent_path() / cat(".", name, ".new");
    std::error_code error;
    fs::remove(temporary, error);
    fs::create_symlink(target.filename(), temporary, error);
    if (!error) fs::rename(temporary, link, error);
    if (error) {
        const bool no_links = error == std::errc::operation_not_permitted ||
                              error == std::errc::operation_not_supported ||
                              error == std::errc::function_not_supported;
        throw UsageError(cat("cannot make the link ", link.string(), ": ", error.message(),
                             " — a resumed run would not find its checkpoint — ",
                             no_links ? "use a file system with symbolic links"
                                      : "check the folder, its permissions and its room"));
    }
}

void prune_checkpoints(const fs::path& run, std::int64_t keep, const std::set<fs::path>& damaged) {
    const fs::path best = linked(run, "best.h5"), latest = linked(run, "latest.h5");
    auto files = checkpoints_of(run);
    std::erase_if(files, [&](const auto& entry) { return damaged.contains(entry.second); });
    std::int64_t surplus = static_cast<std::int64_t>(files.size()) - keep;
    for (const auto& [step, file] : files) {
        if (surplus-- <= 0) break;
        std::error_code ignored;
        if (file != best && file != latest) fs::remove(file, ignored);
    }
}

CheckpointRoom checkpoint_room(const fs::path& run, std::int64_t bytes, std::int64_t keep) {
    CheckpointRoom room{.bytes = bytes, .at_once = keep + 2};
    const std::int64_t there = run.empty() ? 0
                                           : static_cast<std::int64_t>(checkpoints_of(run).size());
    const std::int64_t missing = std::max<std::int64_t>(room.at_once - there, 1);
    const std::int64_t most = std::numeric_limits<std::int64_t>::max() /
                              std::max<std::int64_t>(bytes, 1);
    room.to_come = std::min(missing, most) * bytes;
    if (run.empty()) return room;
    std::error_code problem;
    fs::path folder = fs::absolute(run, problem);
    while (!fs::exists(folder, problem) && folder.has_relative_path())
        folder = folder.parent_path();
    const auto space = fs::space(folder, problem);
    if (!problem) room.free = static_cast<std::int64_t>(space.available);
    return room;
}

void remove_leftovers(const fs::path& run) {
    for (const fs::path& folder : {run, checkpoint_folder(run)}) {
        std::error_code ignored;
        std::vector<fs::path> files;
        for (const auto& entry : fs::directory_iterator(folder, ignored)) {
            const std::string name = entry.path().filename().string();
            const auto mark = name.find(".tmp-");  // AtomicFile's, then pid and a number
            const bool temporary = (mark != std::string::npos &&
                                    name.find_first_not_of("0123456789-", mark + 5) ==
                                        std::string::npos) ||
                                   name == ".latest.h5.new" || name == ".best.h5.new";
            if (temporary && !entry.is_directory(ignored)) files.push_back(entry.path());
        }
        for (const auto& file : files) fs::remove(file, ignored);
    }
}

}  // namespace deeplab::train
