#include "deeplab/train/rank_agreement.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/base/version.h"
#include "deeplab/data/split_content.h"
#include "deeplab/io/value.h"
#include "preflight.h"

namespace deeplab::train {

namespace {

const char* const comparison = "comparison of the ranks' starts";
const char* const
    mixture = " — the ranks would work on a mixture, or wait for each other without end — ";

// What one rank says.
struct Statement {
    std::string host;
    std::vector<Fact> facts;

    const std::string& value(const std::string& name) const {
        static const std::string absent = "not known to the program";
        const auto found = std::find_if(facts.begin(), facts.end(),
                                        [&](const Fact& fact) { return fact.name == name; });
        return found == facts.end() ? absent : found->value;
    }
};

std::uint64_t hash_of(const std::vector<Fact>& facts) {
    std::uint64_t hash = fnv1a(nullptr, 0);
    for (const Fact& fact : facts)
        for (const std::string* text : {&fact.name, &fact.value})
            hash = fnv1a(text->c_str(), text->size() + 1, hash);
    return hash;
}

std::vector<Statement> exchange(comm::Communicator& control, const std::vector<Fact>& facts) {
    io::Object own;
    own["host"] = log::host();
    io::Array list;
    for (const Fact& fact : facts) list.emplace_back(io::Array{fact.name, fact.value, fact.remedy});
    own["facts"] = std::move(list);
    std::vector<Statement> statements;
    for (const std::string& text : control.all_gather(io::to_json(own), comparison)) {
        const io::Value parsed = io::parse_json(text, comparison);
        const auto* object = parsed.get_if<io::Object>();
        Statement statement{*object->find("host")->get_if<std::string>(), {}};
        for (const io::Value& entry : *object->find("facts")->get_if<io::Array>()) {
            const auto& parts = *entry.get_if<io::Array>();
            statement.facts.push_back({*parts[0].get_if<std::string>(),
                                       *parts[1].get_if<std::string>(),
                                       *parts[2].get_if<std::string>()});
        }
        statements.push_back(std::move(statement));
    }
    return statements;
}

// "rank 3 (node7)", "ranks 0-3,6 (node1, node2)".
std::string ranks_text(const std::vector<int>& ranks, const std::vector<Statement>& statements) {
    std::vector<std::string> hosts;
    for (const int rank : ranks) {
        const std::string& host = statements[static_cast<std::size_t>(rank)].host;
        if (std::find(hosts.begin(), hosts.end(), host) == hosts.end()) hosts.push_back(host);
    }
    constexpr std::size_t most_hosts = 4;
    std::string text;
    for (std::size_t i = 0; i < std::min(hosts.size(), most_hosts); ++i)
        text += cat(i == 0 ? "" : ", ", hosts[i]);
    if (hosts.size() > most_hosts) text += cat(" and ", hosts.size() - most_hosts, " more");
    return cat(ranks.size() == 1 ? "rank " : "ranks ", processor_ranges(ranks), " (", text, ")");
}

// "0.1 on rank 1 (node2) and 0.007 on ranks 0,2-7 (node1)": the rarest first, it is the one to
// mend.
std::string values_text(const std::string& name, const std::vector<Statement>& statements) {
    std::map<std::string, std::vector<int>> holders;
    for (std::size_t rank = 0; rank < statements.size(); ++rank)
        holders[statements[rank].value(name)].push_back(static_cast<int>(rank));
    std::vector<std::pair<std::string, std::vector<int>>> rows(holders.begin(), holders.end());
    std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) {
        if (a.second.size() != b.second.size()) return a.second.size() < b.second.size();
        return a.second.front() > b.second.front();  // with a tie rank 0's value is the usual one
    });
    constexpr std::size_t most_values = 3;
    if (rows.size() > most_values) rows.erase(rows.begin() + most_values - 1, rows.end() - 1);
    std::string text;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        text += cat(i == 0                 ? ""
                    : i + 1 == rows.size() ? " and "
                                           : ", ",
                    rows[i].first, " on ", ranks_text(rows[i].second, statements));
    }
    return text;
}

// In the order of rank 0's facts; those that only others know of follow.
std::vector<std::string> differing_names(const std::vector<Statement>& statements) {
    std::vector<std::string> names, differing;
    for (const Statement& statement : statements) {
        for (const Fact& fact : statement.facts)
            if (std::find(names.begin(), names.end(), fact.name) == names.end())
                names.push_back(fact.name);
    }
    for (const std::string& name : names) {
        const auto differs = [&](const Statement& other) {
            return other.value(name) != statements.front().value(name);
        };
        if (std::any_of(statements.begin(), statements.end(), differs)) differing.push_back(name);
    }
    ensures(!differing.empty(), "ranks whose facts have different hashes differ in one");
    return differing;
}

[[noreturn]] void refuse(const std::vector<Statement>& statements, ExitCode code) {
    const std::vector<std::string> differing = differing_names(statements);
    std::string more, remedy;
    constexpr std::size_t most_names = 6;
    for (std::size_t i = 1; i < std::min(differing.size(), most_names); ++i)
        more += cat(i == 1 ? "; " : ", ", differing[i]);
    if (differing.size() > most_names) more += cat(" and ", differing.size() - most_names, " more");
    if (!more.empty()) more += differing.size() == 2 ? " differs too" : " differ too";
    for (const Statement& statement : statements) {
        for (const Fact& fact : statement.facts)
            if (remedy.empty() && fact.name == differing.front()) remedy = fact.remedy;
    }
    throw_error(code, cat(differing.front(), " is ", values_text(differing.front(), statements),
                          more, mixture, remedy));
}

// Until the first step there is no watchdog: a rank that never comes would be waited for for ever.
class Patience {
public:
    Patience(const comm::Communicator& control, double limit_s) {
        if (control.size() == 1 || limit_s <= 0) return;
        thread_ = std::thread([this, limit_s, rank = control.rank()] {
            std::unique_lock lock(mutex_);
            if (wake_.wait_for(lock, std::chrono::duration<double>(limit_s), [&] { return come_; }))
                return;
            // The job ends with the first that speaks.
            if (rank != 0) std::this_thread::sleep_for(std::chrono::milliseconds(400));
            log::error(cat("not all ranks have come to the ", comparison, " within ", limit_s,
                           " s (train.watchdog_s) — a run needs all of them — look for a rank that "
                           "hangs before this (its host, its file system), or that was started "
                           "with another program or an older version"));
            comm::abort_job(static_cast<int>(ExitCode::device));
        });
    }
    ~Patience() {
        {
            const std::lock_guard lock(mutex_);
            come_ = true;
        }
        wake_.notify_all();
        if (thread_.joinable()) thread_.join();
    }
    Patience(const Patience&) = delete;
    Patience& operator=(const Patience&) = delete;

private:
    std::mutex mutex_;
    std::condition_variable wake_;
    bool come_ = false;
    std::thread thread_;
};

std::string own_version() {
    return git_hash().empty() ? version() : cat(version(), " (", git_hash(), ")");
}

std::string given(bool option) { return option ? "given" : "not given"; }

std::vector<Fact> facts_of_start(const TrainOptions& options) {
    const std::string same_options = "start every rank with the same options",
                      configuration =
                          "give every rank the same configuration: one file that all hosts see, or "
                          "the same copy on each, and the same --set";
    std::vector<Fact> facts = {
        program_fact(),
        {"--resume", given(options.resume), same_options},
        {"--dry-run", given(options.dry_run), same_options},
        {"--init", given(!options.init.empty()), same_options},
        {"--reset-classifier", given(options.reset_classifier), same_options},
        {"--keep-classifier", given(options.keep_classifier), same_options},
        {"--allow-changed-data", given(options.allow_changed_data), same_options},
        {"--trace", given(!options.trace.empty()), same_options},
    };
    for (const auto& [name, value] : config::shared_values(options.config))
        facts.push_back({name, value, configuration});
    return facts;
}

void add_split(const data::Manifest& manifest, std::vector<Fact>& facts) {
    const std::string what = cat("split ", manifest.split);
    const std::string remedy =
        "the --data of each host must hold the same pack: copy the shards and the manifest there "
        "anew (or use --stage, which does), or give a folder that all hosts see";
    std::string names;
    for (const auto& c : manifest.classes.classes) names += cat(names.empty() ? "" : ", ", c.name);
    facts.push_back({cat("the list of classes of the ", what), cat("\"", names, "\""), remedy});
    facts.push_back(
        {cat("the checksum of the ", what),
         cat(hex64(data::content_of(manifest).checksum), " (", manifest.records, " records)"),
         remedy});
}

}  // namespace

Fact program_fact() {
    return {"the program's version", own_version(), "start the same program on every host"};
}

void require_same(comm::Communicator& control, const std::vector<Fact>& facts, ExitCode code) {
    const std::string own = hex64(hash_of(facts));
    const auto hashes = control.all_gather(own, comparison);
    if (std::count(hashes.begin(), hashes.end(), own) == control.size()) return;
    // Where one differs, each rank sees one that is not its own: all of them come here.
    refuse(exchange(control, facts), code);
}

void require_same_start(comm::Communicator& control, const TrainOptions& options) {
    const Patience patience(control, options.config.train.watchdog_s);
    const std::string marker = "\nfacts of version 1", why = cat(mixture, program_fact().remedy);
    // A program from before this comparison begins with an exchange of "CODE MESSAGE" from ranks
    // that failed, and ends with the first: told in that form it ends like this one.
    const auto texts = control.all_gather(
        cat(static_cast<int>(ExitCode::usage),
            " this rank runs an older version of the program "
            "than rank ",
            control.rank(), " (", log::host(), "), which has ", own_version(), why, marker),
        comparison);
    std::vector<int> older;
    for (std::size_t rank = 0; rank < texts.size(); ++rank)
        if (!texts[rank].ends_with(marker)) older.push_back(static_cast<int>(rank));
    if (!older.empty()) {
        throw UsageError(cat(older.size() == 1 ? "rank " : "ranks ", processor_ranges(older),
                             older.size() == 1 ? " runs" : " run",
                             " an older version of the program than the others, which have ",
                             own_version(), why));
    }
    require_same(control, facts_of_start(options), ExitCode::usage);
}

void require_same_data(comm::Communicator& control,
                       const std::vector<const data::Manifest*>& splits) {
    std::vector<Fact> facts;
    for (const data::Manifest* split : splits)
        if (split != nullptr) add_split(*split, facts);
    require_same(control, facts, ExitCode::data);
}

void require_same_plan(comm::Communicator& world, std::uint64_t plan_hash) {
    const auto hashes = world.all_gather(hex64(plan_hash), "hash of the plan");
    std::map<std::string, int> votes;
    for (const auto& hash : hashes) ++votes[hash];
    if (votes.size() == 1) return;
    std::string common = hashes.front();  // with a tie: rank 0's
    for (const auto& [hash, count] : votes) {
        if (count > votes[common]) common = hash;
    }
    std::string who;
    for (std::size_t rank = 0; rank < hashes.size(); ++rank) {
        if (hashes[rank] != common) who += cat(who.empty() ? "" : ", ", rank);
    }
    throw DeviceError(
        cat("the training plan of rank ", who,
            " differs from that of the others — their collectives would not "
            "match — start the same program with the same configuration on every host"));
}

void require_same_values(comm::Communicator& control, std::uint64_t hash,
                         const std::string& origin) {
    require_same(
        control,
        {{cat("the hash of ", origin), hex64(hash),
          "make sure that every host reads the same file: copy it anew where it is a copy, "
          "and start again where a network file system shows an older one"}},
        ExitCode::data);
}

}  // namespace deeplab::train
