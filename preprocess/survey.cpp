#include "survey.h"

#include <iterator>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "progress.h"

namespace fs = std::filesystem;

namespace deeplab::preprocess {
namespace {

// Of colours without a class: a mask that was made smooth has thousands.
constexpr std::size_t kMostColors = 1000;

void sum(comm::Communicator& comm, std::vector<std::int64_t>& values, const char* what) {
    comm.all_reduce(values.data(), values.size(), DType::i64, comm::ReduceOp::sum, what);
}

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

void add(std::map<std::uint32_t, std::int64_t>& to,
         const std::map<std::uint32_t, std::int64_t>& from) {
    for (const auto& [label, pixels] : from)
        if (to.size() < kMostColors || to.contains(label)) to[label] += pixels;
}

std::map<std::uint32_t, std::int64_t> shared(comm::Communicator& comm,
                                             const std::map<std::uint32_t, std::int64_t>& own) {
    std::string text;
    for (const auto& [label, pixels] : own) text += cat(label, " ", pixels, "\n");
    std::map<std::uint32_t, std::int64_t> all;
    for (const std::string& part : comm.all_gather(text, "labels without a class"))
        for (const std::string& line : split(part, '\n'))
            if (const std::size_t space = line.find(' '); space != std::string::npos)
                all[static_cast<std::uint32_t>(std::stoul(line))] += std::stoll(line.substr(space));
    return all;
}

// The ranks' shares of the list, each into its own part of a survey.
class Share {
public:
    Share(Source& source, Records& records, const data::ClassTable& classes,
          const PackOptions& options, comm::Communicator& comm)
        : source_(source), records_(records), classes_(classes), options_(options), comm_(comm) {
        found_.records.resize(source.entries.size());
        found_.counts = ClassCounts(classes.classes.size());
        if (comm.rank() == 0) found_.findings = source.findings;
    }

    void read(std::int64_t i) {
        const Entry& entry = source_.entries[static_cast<std::size_t>(i)];
        if (!there(entry.image) || !there(entry.mask)) {
            found_.missing.push_back(missing_of(source_, i, entry));
            return;
        }
        try {
            if (const std::optional<Loaded> loaded = records_.load(entry)) take(i, *loaded);
        } catch (const ForeignLabelsError& error) {
            preprocess::add(found_.foreign.values, error.labels.values);
            preprocess::add(found_.foreign.colors, error.labels.colors);
            bad(i, error);
        } catch (const DataError& error) {
            bad(i, error);
        }
    }

    // Collective: what all ranks found.
    Survey together() {
        Survey& f = found_;
        if (!options_.skip_missing) {
            f.findings.insert(f.findings.end(), std::make_move_iterator(f.missing.begin()),
                              std::make_move_iterator(f.missing.end()));
            f.missing.clear();
        }
        share(f.records, comm_);
        for (std::size_t i = 0; i < f.records.size(); ++i) f.records[i].id = source_.entries[i].id;
        sum(comm_, f.counts.pixels, "pixels per class");
        sum(comm_, f.counts.images, "images per class");
        comm_.all_reduce(&f.counts.ignored, 1, DType::i64, comm::ReduceOp::sum, "ignored pixels");
        comm_.all_reduce(&f.other_palettes, 1, DType::i64, comm::ReduceOp::sum, "other palettes");
        f.findings = gather(comm_, f.findings);
        f.missing = gather(comm_, f.missing);
        f.unlabelled = gather(comm_, f.unlabelled);
        f.palette_notes = gather(comm_, f.palette_notes);
        f.foreign = {shared(comm_, f.foreign.values), shared(comm_, f.foreign.colors)};
        records_.gather(comm_);
        return std::move(found_);
    }

private:
    static bool there(const fs::path& file) {
        std::error_code ignored;
        return !file.empty() && fs::is_regular_file(file, ignored);
    }

    void take(std::int64_t i, const Loaded& loaded) {
        found_.records[static_cast<std::size_t>(i)] = data::summary_of(loaded.record);
        const std::int64_t before = found_.counts.ignored;
        found_.counts.add(loaded.labels, classes_.ignore);
        const Entry& entry = source_.entries[static_cast<std::size_t>(i)];
        if (found_.counts.ignored - before == loaded.record.width * loaded.record.height)
            found_.unlabelled.push_back({i, entry.id, entry.mask.string(), "no pixel has a class"});
        if (loaded.palette_note.empty()) return;
        if (found_.other_palettes++ == 0)  // one of each rank is enough of an example
            found_.palette_notes.push_back({i, entry.id, entry.mask.string(), loaded.palette_note});
    }

    // The message names the file that is bad; where it names none, the mask was compared with the
    // image.
    void bad(std::int64_t i, const DataError& error) {
        const Entry& entry = source_.entries[static_cast<std::size_t>(i)];
        const std::string image = entry.image.string();
        const bool about_image = std::string(error.what()).find(image) != std::string::npos;
        const std::string file = about_image ? image : entry.mask.string();
        found_.findings.push_back({i, entry.id, file, reason_of(error, file)});
    }

    Source& source_;
    Records& records_;
    const data::ClassTable& classes_;
    const PackOptions& options_;
    comm::Communicator& comm_;
    Survey found_;
};

}  // namespace

std::int64_t Survey::total_bytes() const {
    return std::accumulate(
        records.begin(), records.end(), std::int64_t{0},
        [](std::int64_t sum, const data::RecordSummary& r) { return sum + r.bytes; });
}

Survey survey(Source& source, Records& records, const data::ClassTable& classes,
              const PackOptions& options, comm::Communicator& comm) {
    const auto n = static_cast<std::int64_t>(source.entries.size());
    Share share(source, records, classes, options, comm);
    {
        Progress progress("checking", (n + comm.size() - 1) / comm.size(), comm.rank() == 0);
        for (std::int64_t i = comm.rank(); i < n; i += comm.size()) {
            share.read(i);
            progress.step();
        }
    }
    return share.together();
}

}  // namespace deeplab::preprocess
