#include <algorithm>
#include <set>
#include <unordered_set>

#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "pack.h"
#include "progress.h"
#include "record.h"
#include "summary.h"

namespace fs = std::filesystem;

namespace deeplab::preprocess {
namespace {

std::vector<std::string> splits_in(const fs::path& dir) {
    std::error_code ignored;
    if (!fs::is_directory(dir, ignored))
        throw UsageError(
            cat(dir.string(), " is not a folder — there is nothing to verify — check the path"));
    std::vector<std::string> splits;
    for (const fs::directory_entry& entry : fs::directory_iterator(dir))
        if (entry.path().extension() == ".json") splits.push_back(entry.path().stem().string());
    if (splits.empty())
        throw DataError(cat("no packed split (", dir.string(),
                            " has no manifest) — a pack that did not finish leaves none — ",
                            "pack again: deeplab-pack --help"));
    std::sort(splits.begin(), splits.end());
    return splits;
}

// One split, its shards spread over the ranks.
class SplitCheck {
public:
    SplitCheck(const fs::path& dir, const std::string& split, comm::Communicator& comm)
        : dir_(dir),
          comm_(comm),
          set_(dir, split),
          counts_(set_.manifest().classes.classes.size()) {}

    std::vector<Finding> run() {
        const data::Manifest& manifest = set_.manifest();
        std::int64_t records = 0;
        for (std::size_t s = 0; s < manifest.shards.size(); ++s)
            if (mine(s)) records += manifest.shards[s].records;
        Progress progress("verifying " + manifest.split, records, comm_.rank() == 0);
        std::int64_t first = 0;
        for (std::size_t s = 0; s < manifest.shards.size(); ++s) {
            if (mine(s)) check_shard(s, first, progress);
            first += manifest.shards[s].records;
        }
        std::vector<Finding> findings = gather(comm_, own_);
        check_counts(findings);
        if (findings.empty()) check_ids(findings);
        return findings;
    }
    const data::Manifest& manifest() const { return set_.manifest(); }

private:
    bool mine(std::size_t s) const {
        return static_cast<int>(s % static_cast<std::size_t>(comm_.size())) == comm_.rank();
    }

    void check_shard(std::size_t s, std::int64_t first, Progress& progress) {
        const data::ShardInfo& info = set_.manifest().shards[s];
        std::string said;  // a shard that does not open says so once, not once a record
        const auto add = [&](std::int64_t order, const std::string& record,
                             const std::exception& error) {
            std::string reason = reason_of(error, "");
            reason = reason.substr(0, reason.find(" (shard "));
            if (reason != said) own_.push_back({order, record, info.file, reason});
            if (record.empty()) said = reason;
        };
        try {
            set_.verify_files({static_cast<std::int64_t>(s)});
        } catch (const DataError& error) {
            add(first, "", error);
        }
        for (std::int64_t i = first; i < first + info.records; ++i) {
            std::string id;
            try {
                id = set_.read(i, false).id;
                check_record(set_.read(i, true));
            } catch (const Error& error) {
                add(i, id, error);
            }
            progress.step();
        }
    }

    void check_record(const data::Record& record) {
        const data::Manifest& m = set_.manifest();
        const data::LabelledImage decoded = data::decode(record, m.encoding, record.id);
        const Histogram labels = histogram(decoded.mask);
        check_labels(decoded.mask, labels, m.classes, record.id);
        counts_.add(labels, m.classes.ignore);
    }

    // Only where every record could be read: missing records would make every count differ.
    void check_counts(std::vector<Finding>& findings) {
        comm_.all_reduce(counts_.pixels.data(), counts_.pixels.size(), DType::i64,
                         comm::ReduceOp::sum, "pixels");
        comm_.all_reduce(counts_.images.data(), counts_.images.size(), DType::i64,
                         comm::ReduceOp::sum, "images");
        comm_.all_reduce(&counts_.ignored, 1, DType::i64, comm::ReduceOp::sum, "ignored pixels");
        if (!findings.empty()) return;
        const data::Manifest& m = set_.manifest();
        const auto compare = [&](const std::string& what, std::int64_t found, std::int64_t stated) {
            if (found != stated)
                findings.push_back({0, "", m.split + ".json",
                                    cat(what, ": ", found, ", the manifest says ", stated)});
        };
        for (std::size_t c = 0; c < counts_.pixels.size(); ++c) {
            compare("pixels of " + m.classes.classes[c].name, counts_.pixels[c], m.class_pixels[c]);
            compare("images with " + m.classes.classes[c].name, counts_.images[c],
                    m.class_images[c]);
        }
        compare("ignored pixels", counts_.ignored, m.ignore_pixels);
        if (const std::string useless = refusal(m); !useless.empty())
            findings.push_back({0, "", m.split + ".json", useless.substr(0, useless.find(" — "))});
    }

    void check_ids(std::vector<Finding>& findings) {
        const std::string file = set_.manifest().split + ".json";
        try {
            std::unordered_set<std::string> seen;
            for (const std::string& id : set_.ids())
                if (!seen.insert(id).second)
                    findings.push_back({0, id, file, "the id occurs twice"});
        } catch (const DataError& error) {
            findings.push_back({0, "", file, reason_of(error, "")});
        }
    }

    fs::path dir_;
    comm::Communicator& comm_;
    data::ShardSet set_;
    ClassCounts counts_;
    std::vector<Finding> own_;
};

// What lies beside the shards and belongs to no manifest: harmless, but it takes room.
void warn_of_leftovers(const fs::path& dir, const std::set<std::string>& known) {
    for (const fs::directory_entry& entry : fs::directory_iterator(dir)) {
        const std::string name = entry.path().filename().string();
        if (name.find(".h5") != std::string::npos && known.count(name) == 0)
            log::warn(cat(name,
                          " belongs to no manifest — a pack that did not finish left it — pack "
                          "again or delete it"));
    }
}

}  // namespace

int verify(const fs::path& dir, comm::Communicator& comm) {
    std::string lines = cat(left_aligned("split", 16), left_aligned("records", 10),
                            left_aligned("shards", 8), left_aligned("bytes", 12), "problems\n");
    std::vector<Finding> all;
    std::set<std::string> known;
    for (const std::string& split : splits_in(dir)) {
        std::vector<Finding> findings;
        std::string description = left_aligned("?", 30);
        try {
            SplitCheck check(dir, split, comm);
            findings = check.run();
            std::int64_t bytes = 0;
            for (const data::ShardInfo& shard : check.manifest().shards) {
                bytes += shard.bytes;
                known.insert(shard.file);
            }
            description = left_aligned(cat(check.manifest().records), 10) +
                          left_aligned(cat(check.manifest().shards.size()), 8) +
                          left_aligned(human_bytes(static_cast<std::uint64_t>(bytes)), 12);
        } catch (const DataError& error) {  // of the manifest: all ranks read the same file
            findings.push_back({0, "", split + ".json", reason_of(error, "")});
        }
        lines += left_aligned(split, 16) + description + cat(findings.size()) + "\n";
        all.insert(all.end(), findings.begin(), findings.end());
    }
    if (comm.rank() == 0) {
        log::info(lines);
        warn_of_leftovers(dir, known);
    }
    if (all.empty()) return 0;
    if (comm.rank() == 0)
        log::error(cat(all.size(), " problems (", dir.string(),
                       ") — training would use wrong data or stop — copy the ",
                       "files again, or pack the split again with --force\n", table(all)));
    return static_cast<int>(ExitCode::data);
}

}  // namespace deeplab::preprocess
