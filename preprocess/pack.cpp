#include "pack.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <utility>

#include "coco_records.h"
#include "deeplab/base/clock.h"
#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/data/manifest_members.h"
#include "progress.h"
#include "records.h"
#include "summary.h"
#include "survey.h"
#include "work_lock.h"

namespace fs = std::filesystem;

namespace deeplab::preprocess {
namespace {

// A shard is read into memory to be written; large enough that a file system with a metadata server
// has few files.
constexpr std::int64_t kShardBytes = 64 << 20;

void remove_file(const fs::path& path) {
    std::error_code problem;
    fs::remove(path, problem);
    if (problem)
        throw UsageError(cat("cannot remove ", path.string(), ": ", problem.message(),
                             " — an earlier pack left it, and it would be taken for this one's — "
                             "check the folder's permissions"));
}

// Where a table goes that is too long to be printed.
fs::path problems_file(const PackOptions& options, const Source& source) {
    return options.out / (source.split + ".problems.txt");
}
fs::path skipped_file(const PackOptions& options, const Source& source) {
    return options.out / (source.split + ".skipped.txt");
}

// Drops records whose files are missing (--missing skip), or that a rule of the source left out,
// from the list.
void drop_missing(Source& source, Survey& found) {
    std::vector<Entry> entries;
    for (std::size_t i = 0; i < found.records.size(); ++i)
        if (found.records[i].bytes > 0) entries.push_back(std::move(source.entries[i]));
    source.entries = std::move(entries);
    std::erase_if(found.records, [](const data::RecordSummary& r) { return r.bytes == 0; });
}

// Shard s holds records [s*n/S, (s+1)*n/S) of the list: nothing here knows the number of ranks.
struct Range {
    std::size_t first, end;
};
Range records_of_shard(const Survey& found, std::int64_t s, std::int64_t shards) {
    const auto n = static_cast<std::int64_t>(found.records.size());
    return {static_cast<std::size_t>(s * n / shards),
            static_cast<std::size_t>((s + 1) * n / shards)};
}

std::vector<data::Record> load_records(const Source& source, Records& from, const Survey& found,
                                       Range range) {
    std::vector<data::Record> records;
    for (std::size_t i = range.first; i < range.end; ++i) {
        records.push_back(from.reload(source.entries[i]));
        if (data::summary_of(records.back()) != found.records[i])
            throw DataError(cat("record ", found.records[i].id, " changed while it was packed (",
                                source.images.path().string(),
                                ") — the counts in the manifest would be wrong — pack again when "
                                "nobody writes there"));
    }
    return records;
}

std::vector<data::ShardInfo> write_shards(const Source& source, Records& records,
                                          const Survey& found, const PackOptions& options,
                                          std::int64_t shards, comm::Communicator& comm) {
    std::string own;
    std::int64_t kept = 0;
    Progress progress("writing", (shards + comm.size() - 1) / comm.size(), comm.rank() == 0);
    for (std::int64_t s = comm.rank(); s < shards; s += comm.size()) {
        const fs::path path = options.out / data::shard_name(source.split, s, shards);
        const Range range = records_of_shard(found, s, shards);
        const auto record = [&](std::size_t i) {
            return found.records.begin() + static_cast<std::ptrdiff_t>(i);
        };
        // A pack that was killed leaves whole shards: they need not be written again.
        std::optional<data::ShardInfo> info;
        if (!options.force)
            info = data::finished_shard(path, {record(range.first), record(range.end)});
        if (info)
            ++kept;
        else
            info = data::write_shard(path, load_records(source, records, found, range));
        own += cat(s, " ", info->records, " ", info->bytes, " ", info->crc32, "\n");
        progress.step();
    }
    comm.all_reduce(&kept, 1, DType::i64, comm::ReduceOp::sum, "shards kept");
    if (kept > 0 && comm.rank() == 0)
        log::info(cat("kept ", kept, " of ", shards,
                      " shards: an earlier pack wrote them with the same records"));
    std::vector<data::ShardInfo> all(static_cast<std::size_t>(shards));
    for (const std::string& text : comm.all_gather(own, "shards written"))
        for (const std::string& line : split(text, '\n')) {
            const std::vector<std::string> f = split(line, ' ');
            if (f.size() != 4) continue;
            const std::int64_t s = std::stoll(f[0]);
            all[static_cast<std::size_t>(s)] = {data::shard_name(source.split, s, shards),
                                                std::stoll(f[1]), std::stoll(f[2]),
                                                static_cast<std::uint32_t>(std::stoul(f[3]))};
        }
    return all;
}

// A shard of the split, of whatever number of shards, or the temporary file of one.
bool is_shard_of(const std::string& split, const std::string& name) {
    if (name.rfind(split, 0) != 0) return false;
    long long index = 0, count = 0;
    if (std::sscanf(name.c_str() + split.size(), "-%lld-of-%lld", &index, &count) != 2)
        return false;
    const std::string shard = data::shard_name(split, index, count);
    return name == shard || name.rfind(shard + ".tmp-", 0) == 0;
}

// Shards of an earlier pack of this split with another number of shards, or of one that was killed.
void remove_stale(const fs::path& dir, const std::string& split,
                  const std::vector<data::ShardInfo>& current) {
    std::vector<fs::path> stale;
    for (const fs::directory_entry& entry : fs::directory_iterator(dir)) {
        const std::string name = entry.path().filename().string();
        if (is_shard_of(split, name) &&
            std::none_of(current.begin(), current.end(),
                         [&](const auto& shard) { return shard.file == name; }))
            stale.push_back(entry.path());
    }
    for (const fs::path& path : stale) remove_file(path);
}

// Makes the folder and takes the split for this pack alone. Rank 0 holds the lock for all.
std::optional<WorkLock> take_output(const PackOptions& options, const Source& source,
                                    comm::Communicator& comm) {
    if (options.shards < 0 || options.shards > 99999)
        throw UsageError(cat("--shards ", options.shards,
                             " — 1 to 99999 are possible — leave it out for about 64 MB each"));
    std::optional<WorkLock> lock;
    if (comm.rank() == 0) {
        require_writable_directory(options.out);
        lock.emplace(options.out / (source.split + ".lock"),
                     cat("split ", source.split, " of ", options.out.string()));
    }
    comm.barrier("output folder");
    const fs::path manifest = options.out / (source.split + ".json");
    std::error_code ignored;
    if (fs::exists(manifest, ignored) && !options.force)
        throw UsageError(
            cat(manifest.string(),
                " exists — the split is packed there already — use --force to replace it, "
                "or another --out"));
    return lock;
}

// Ranks on hosts that see other files would pack a mixture, or wait for each other for ever.
void require_same_entries(const Source& source, comm::Communicator& comm) {
    std::uint64_t hash = fnv1a(nullptr, 0);
    const auto add = [&](const std::string& text) {
        hash = fnv1a(text.c_str(), text.size() + 1, hash);
    };
    for (const Entry& entry : source.entries)
        for (const std::string& text : {entry.id, entry.image.string(), entry.mask.string()})
            add(text);
    const std::vector<std::string> hashes = comm.all_gather(hex64(hash), "hash of the list");
    for (std::size_t rank = 1; rank < hashes.size(); ++rank)
        if (hashes[rank] != hashes[0])
            throw DataError(cat("rank ", rank, " finds other files than rank 0 (",
                                source.images.path().string(), ", ", source.masks.path().string(),
                                ") — they would pack a mixture — use folders that all hosts share, "
                                "and let nobody write there"));
}

// Some sites limit a file's size (ulimit -f): said before hours of work.
void check_size_limit(const Survey& found, std::int64_t shards) {
    rlimit limit{};
    if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return;
    for (std::int64_t s = 0; s < shards; ++s) {
        const Range range = records_of_shard(found, s, shards);
        std::uint64_t bytes = 0;
        for (std::size_t i = range.first; i < range.end; ++i)
            bytes += static_cast<std::uint64_t>(found.records[i].bytes);
        if (bytes > limit.rlim_cur)
            throw DeviceError(cat("shard ", s, " of ", shards, " would have ", human_bytes(bytes),
                                  ", a file may have ", human_bytes(limit.rlim_cur),
                                  " (ulimit -f) — it cannot be written — raise the limit "
                                  "(ulimit -f unlimited), or use more shards: --shards N"));
    }
}

int report(const Survey& found, const Source& source, const Records& records,
           const data::ClassFile& classes, const PackOptions& options) {
    std::string hints = advice(found.foreign, classes);
    if (!hints.empty()) hints = "\n" + hints.substr(0, hints.size() - 1);
    log::error(cat(found.findings.size(), " problems in split ", source.split, " (",
                   source.images.path().string(), ", ", source.masks.path().string(),
                   ") — nothing was packed — ", records.remedy(), "\n",
                   table(found.findings, problems_file(options, source)), hints));
    return static_cast<int>(ExitCode::data);
}

data::Manifest manifest_of(const Source& source, const data::ClassFile& classes,
                           const Survey& found, const PackOptions& options) {
    data::Manifest manifest;
    manifest.split = source.split;
    manifest.encoding = options.encoding;
    manifest.classes = classes.classes;
    manifest.records = static_cast<std::int64_t>(source.entries.size());
    manifest.skipped = static_cast<std::int64_t>(found.missing.size());
    manifest.class_pixels = found.counts.pixels;
    manifest.class_images = found.counts.images;
    manifest.ignore_pixels = found.counts.ignored;
    std::vector<std::string> ids;
    for (const Entry& entry : source.entries) ids.push_back(entry.id);
    manifest.list_hash = data::hash_ids(ids);
    return manifest;
}

std::int64_t shards_for(const PackOptions& options, std::int64_t bytes, std::int64_t records) {
    const std::int64_t shards = options.shards > 0
                                    ? options.shards
                                    : std::clamp<std::int64_t>(
                                          (bytes + kShardBytes - 1) / kShardBytes, 1, records);
    if (shards > records)
        throw UsageError(cat("--shards ", shards, " for ", records,
                             " records — a shard needs one — use at most ", records));
    return shards;
}

// Rank 0 tells what the split is like; the exit code where it is of no use.
int judge(const data::Manifest& manifest, const Survey& found, const Source& source,
          const Records& records, const PackOptions& options, comm::Communicator& comm) {
    const std::string refused = refusal(manifest);
    if (comm.rank() == 0) {
        remove_file(problems_file(options, source));  // of an earlier attempt
        remove_file(skipped_file(options, source));
        if (manifest.skipped > 0)
            log::info(cat("skipped ", manifest.skipped, " of ", manifest.records + manifest.skipped,
                          " ids without image or mask\n",
                          table(found.missing, skipped_file(options, source))));
        log::info(class_table(manifest));
        for (const std::string& text : records.remarks()) log::info(text);
        const bool default_classes = options.classes.empty() && options.coco.file.empty();
        if (refused.empty()) {
            for (const std::string& text : warnings(manifest, found, default_classes))
                log::warn(text);
            for (const std::string& text : records.warnings()) log::warn(text);
        } else
            log::error(cat(refused, "; nothing was packed"));
    }
    return refused.empty() ? 0 : static_cast<int>(ExitCode::data);
}

// What a pack reads: the list, the classes, and how its entries become records.
struct Input {
    Source source;
    data::ClassFile classes;
    std::unique_ptr<Records> records;
    std::string told_classes;  // for the log
};

std::unique_ptr<Input> open_input(const PackOptions& options, comm::Communicator& comm) {
    check_suffixes(options);
    const data::ClassTable voc = data::voc_classes();
    auto input = std::make_unique<Input>(Input{{}, {voc, data::MaskValues(voc)}, nullptr, ""});
    if (!options.coco.file.empty()) {
        coco::Opened opened = coco::open(options, comm);
        input->source = std::move(opened.source);
        input->classes = {opened.classes, data::MaskValues(opened.classes)};
        input->records = std::move(opened.records);
        input->told_classes = options.coco.map.string();
        return input;
    }
    input->source = find_source(options);
    input->told_classes = "VOC's 21, as --classes was not given";
    if (!options.classes.empty()) {
        input->classes = data::load_class_file(options.classes);
        input->told_classes = options.classes.string();
    }
    input->records = std::make_unique<FileRecords>(input->source, input->classes, options.encoding);
    return input;
}

}  // namespace

int pack(const PackOptions& options, comm::Communicator& comm) {
    const auto start = Clock::now();
    const bool root = comm.rank() == 0;
    const std::unique_ptr<Input> input = open_input(options, comm);
    Source& source = input->source;
    const data::ClassFile& classes = input->classes;
    Records& records = *input->records;
    require_same_entries(source, comm);
    const std::optional<WorkLock> lock = take_output(options, source, comm);
    if (root)
        log::info(cat("split ", source.split, ": ", source.entries.size(), " ids, ", source.origin,
                      "; masks: ", source.masks.path().string(),
                      "; classes: ", input->told_classes));

    Survey found = survey(source, records, classes.classes, options, comm);
    if (!found.findings.empty())
        return root ? report(found, source, records, classes, options)
                    : static_cast<int>(ExitCode::data);
    drop_missing(source, found);
    const auto n = static_cast<std::int64_t>(source.entries.size());
    if (n == 0) throw DataError(records.nothing_left());
    data::Manifest manifest = manifest_of(source, classes, found, options);
    if (const int code = judge(manifest, found, source, records, options, comm); code != 0)
        return code;
    const std::int64_t total = found.total_bytes(), shards = shards_for(options, total, n);
    check_size_limit(found, shards);

    // From here on the split counts as unpacked until its manifest stands.
    if (root) remove_file(options.out / (source.split + ".json"));
    comm.barrier("start of writing");
    manifest.shards = write_shards(source, records, found, options, shards, comm);
    if (root) {
        remove_stale(options.out, source.split, manifest.shards);
        data::save_manifest(options.out, manifest, records.members());
        const double seconds = seconds_since(start);
        log::info(cat("packed ", n, " images, ", human_bytes(static_cast<std::uint64_t>(total)),
                      " in ", shards, shards == 1 ? " shard" : " shards", ", ",
                      human_seconds(seconds), ", ",
                      fixed(static_cast<double>(n) / std::max(seconds, 1e-9), 0),
                      " images/s: ", (options.out / (source.split + ".json")).string()));
    }
    comm.barrier("manifest");
    return 0;
}

}  // namespace deeplab::preprocess
