#include "pack.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iterator>
#include <numeric>
#include <optional>
#include <utility>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "progress.h"
#include "record.h"

namespace fs = std::filesystem;

namespace deeplab::preprocess {
namespace {

// A shard is read into memory to be written; large enough that a file system with a metadata server
// has few files.
constexpr std::int64_t kShardBytes = 64 << 20;

void sum(comm::Communicator& comm, std::vector<std::int64_t>& values, const char* what) {
    comm.all_reduce(values.data(), values.size(), DType::i64, comm::ReduceOp::sum, what);
}

// What the first pass over the records found, the same on all ranks.
struct Survey {
    // Of each id: what a shard will say of it; bytes 0: missing or bad.
    std::vector<data::RecordSummary> records;
    ClassCounts counts{0};
    std::vector<Finding> missing, findings;

    // Of the records with a summary, in list order.
    std::int64_t total_bytes() const {
        return std::accumulate(
            records.begin(), records.end(), std::int64_t{0},
            [](std::int64_t sum, const data::RecordSummary& r) { return sum + r.bytes; });
    }
};

// Each rank knows the records that it read; afterwards all know all.
void share(std::vector<data::RecordSummary>& records, comm::Communicator& comm) {
    std::vector<std::int64_t> numbers;
    for (const data::RecordSummary& r : records)
        numbers.insert(numbers.end(), {r.width, r.height, r.bytes, std::int64_t{r.crc32}});
    sum(comm, numbers, "sizes of records");
    const std::int64_t* next = numbers.data();
    for (data::RecordSummary& r : records) {
        r.width = *next++;
        r.height = *next++;
        r.bytes = *next++;
        r.crc32 = static_cast<std::uint32_t>(*next++);
    }
}

// Every record is read and decoded once, spread over the ranks, before anything is written.
Survey survey(const Source& source, const data::ClassTable& classes, const PackOptions& options,
              comm::Communicator& comm) {
    const auto n = static_cast<std::int64_t>(source.ids.size());
    Survey out{std::vector<data::RecordSummary>(source.ids.size()),
               ClassCounts(classes.classes.size()),
               {},
               {}};
    std::vector<Finding> missing, bad;
    if (comm.rank() == 0) bad = source.findings;
    Progress progress("checking", (n + comm.size() - 1) / comm.size(), comm.rank() == 0);
    for (std::int64_t i = comm.rank(); i < n; i += comm.size()) {
        const std::string& id = source.ids[static_cast<std::size_t>(i)];
        const fs::path image = image_file(source, id), mask = mask_file(source, id);
        if (image.empty()) {
            missing.push_back(
                {i, id, (source.images / (id + ".jpg")).string(), "image is missing"});
        } else if (mask.empty()) {
            missing.push_back({i, id, (source.masks / (id + ".png")).string(), "mask is missing"});
        } else {
            try {
                const Loaded loaded = load_record(source, id, classes, options.encoding);
                out.records[static_cast<std::size_t>(i)] = data::summary_of(loaded.record);
                out.counts.add(loaded.labels, classes.ignore);
            } catch (const DataError& error) {
                // The message names the file that is bad; where it names none, the mask was
                // compared with the image.
                const bool about_image = std::string(error.what()).find(image.string()) !=
                                         std::string::npos;
                const std::string file = (about_image ? image : mask).string();
                bad.push_back({i, id, file, reason_of(error, file)});
            }
        }
        progress.step();
    }
    if (!options.skip_missing)
        bad.insert(bad.end(), std::make_move_iterator(missing.begin()),
                   std::make_move_iterator(missing.end()));
    share(out.records, comm);
    for (std::size_t i = 0; i < source.ids.size(); ++i) out.records[i].id = source.ids[i];
    sum(comm, out.counts.pixels, "pixels per class");
    sum(comm, out.counts.images, "images per class");
    comm.all_reduce(&out.counts.ignored, 1, DType::i64, comm::ReduceOp::sum, "ignored pixels");
    out.findings = gather(comm, bad);
    if (options.skip_missing) out.missing = gather(comm, missing);
    return out;
}

// Where a table goes that is too long to be printed.
fs::path problems_file(const PackOptions& options, const Source& source) {
    return options.out / (source.split + ".problems.txt");
}
fs::path skipped_file(const PackOptions& options, const Source& source) {
    return options.out / (source.split + ".skipped.txt");
}

// Drops records whose files are missing (--missing skip) from the list.
void drop_missing(Source& source, Survey& found) {
    std::erase_if(found.records, [](const data::RecordSummary& r) { return r.bytes == 0; });
    source.ids.clear();
    for (const data::RecordSummary& record : found.records) source.ids.push_back(record.id);
}

// Shard s holds records [s*n/S, (s+1)*n/S) of the list: nothing here knows the number of ranks.
std::vector<data::RecordSummary> records_of_shard(const Survey& found, std::int64_t s,
                                                  std::int64_t shards) {
    const auto n = static_cast<std::int64_t>(found.records.size());
    return {found.records.begin() + s * n / shards, found.records.begin() + (s + 1) * n / shards};
}

std::vector<data::Record> load_records(const Source& source, const data::ClassTable& classes,
                                       const std::vector<data::RecordSummary>& wanted,
                                       data::Encoding encoding) {
    std::vector<data::Record> records;
    for (const data::RecordSummary& summary : wanted) {
        records.push_back(reload_record(source, summary.id, classes, encoding));
        if (data::summary_of(records.back()) != summary)
            throw DataError(cat("record ", summary.id, " changed while it was packed (",
                                source.images.string(),
                                ") — the counts in the manifest would be wrong — pack again when "
                                "nobody writes there"));
    }
    return records;
}

std::vector<data::ShardInfo> write_shards(const Source& source, const data::ClassTable& classes,
                                          const Survey& found, const PackOptions& options,
                                          std::int64_t shards, comm::Communicator& comm) {
    std::string own;
    std::int64_t kept = 0;
    Progress progress("writing", (shards + comm.size() - 1) / comm.size(), comm.rank() == 0);
    for (std::int64_t s = comm.rank(); s < shards; s += comm.size()) {
        const fs::path path = options.out / data::shard_name(source.split, s, shards);
        const std::vector<data::RecordSummary> records = records_of_shard(found, s, shards);
        // A pack that was killed leaves whole shards: they need not be written again.
        std::optional<data::ShardInfo> info;
        if (!options.force) info = data::finished_shard(path, records);
        if (info)
            ++kept;
        else
            info = data::write_shard(path,
                                     load_records(source, classes, records, options.encoding));
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
    for (const fs::path& path : stale) fs::remove(path);
}

void check_output(const PackOptions& options, const Source& source, comm::Communicator& comm) {
    const fs::path manifest = options.out / (source.split + ".json");
    std::error_code ignored;
    if (fs::exists(manifest, ignored) && !options.force)
        throw UsageError(
            cat(manifest.string(),
                " exists — the split is packed there already — use --force to replace it, "
                "or another --out"));
    if (options.shards < 0 || options.shards > 99999)
        throw UsageError(cat("--shards ", options.shards,
                             " — 1 to 99999 are possible — leave it out for about 64 MB each"));
    if (comm.rank() == 0) require_writable_directory(options.out);
    comm.barrier("output folder");
}

int report(const Survey& found, const Source& source, const PackOptions& options) {
    log::error(cat(found.findings.size(), " problems in split ", source.split, " (",
                   source.images.string(), ", ", source.masks.string(),
                   ") — nothing was packed — correct them; --missing skip leaves out ids whose ",
                   "files are missing\n", table(found.findings, problems_file(options, source))));
    return static_cast<int>(ExitCode::data);
}

}  // namespace

int pack(const PackOptions& options, comm::Communicator& comm) {
    const auto start = std::chrono::steady_clock::now();
    const bool root = comm.rank() == 0;
    Source source = find_source(options);
    const data::ClassTable classes = options.classes.empty() ? data::voc_classes()
                                                             : data::load_classes(options.classes);
    check_output(options, source, comm);
    if (root)
        log::info(cat("split ", source.split, ": ", source.ids.size(), " ids, ", source.origin,
                      "; masks: ", source.masks.string()));

    Survey found = survey(source, classes, options, comm);
    if (!found.findings.empty())
        return root ? report(found, source, options) : static_cast<int>(ExitCode::data);
    data::Manifest manifest;
    manifest.skipped = static_cast<std::int64_t>(found.missing.size());
    if (root) {
        fs::remove(problems_file(options, source));  // of an earlier attempt
        fs::remove(skipped_file(options, source));
        if (manifest.skipped > 0)
            log::info(cat("skipped ", manifest.skipped, " of ", source.ids.size(),
                          " ids without image or mask\n",
                          table(found.missing, skipped_file(options, source))));
    }
    drop_missing(source, found);
    const auto n = static_cast<std::int64_t>(source.ids.size());
    if (n == 0)
        throw DataError(cat("no id of the list has image and mask (", source.images.string(), ", ",
                            source.masks.string(),
                            ") — there is nothing to pack — check the folders"));
    const std::int64_t total = found.total_bytes();
    const std::int64_t shards = options.shards > 0
                                    ? options.shards
                                    : std::clamp<std::int64_t>(
                                          (total + kShardBytes - 1) / kShardBytes, 1, n);
    if (shards > n)
        throw UsageError(
            cat("--shards ", shards, " for ", n, " records — a shard needs one — use at most ", n));

    // From here on the split counts as unpacked until its manifest stands.
    if (root) fs::remove(options.out / (source.split + ".json"));
    comm.barrier("start of writing");
    manifest.shards = write_shards(source, classes, found, options, shards, comm);
    manifest.split = source.split;
    manifest.encoding = options.encoding;
    manifest.classes = classes;
    manifest.records = n;
    manifest.class_pixels = found.counts.pixels;
    manifest.class_images = found.counts.images;
    manifest.ignore_pixels = found.counts.ignored;
    manifest.list_hash = data::hash_ids(source.ids);
    if (root) {
        remove_stale(options.out, source.split, manifest.shards);
        data::save_manifest(options.out, manifest);
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() -
                                                             start)
                                   .count();
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
