#include "preflight.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <map>
#include <set>
#include <system_error>
#include <utility>

#include "deeplab/base/clock.h"
#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"
#include "deeplab/comm/activity.h"
#include "deeplab/io/value.h"

namespace deeplab::train {

namespace {

std::string bytes_text(std::int64_t bytes) {
    return bytes < 0 ? "unknown" : human_bytes(static_cast<std::uint64_t>(bytes));
}

bool share(const std::vector<int>& a, const std::vector<int>& b) {
    return std::any_of(a.begin(), a.end(),
                       [&](int cpu) { return std::find(b.begin(), b.end(), cpu) != b.end(); });
}

// What is wrong, by the kind of it; the same on many hosts is one kind.
using Warnings = std::map<std::string, std::vector<std::string>>;

// Ranks of one host.
void check_host(const std::string& host, const std::vector<const RankFacts*>& ranks,
                Warnings& warnings) {
    std::vector<int> used;
    std::int64_t planned = 0;
    bool shared = false, gpu_shared = false;
    for (std::size_t i = 0; i < ranks.size(); ++i) {
        planned += ranks[i]->planned_bytes;
        used.insert(used.end(), ranks[i]->processors.begin(), ranks[i]->processors.end());
        for (std::size_t j = 0; j < i; ++j) {
            shared = shared || share(ranks[i]->processors, ranks[j]->processors);
            gpu_shared = gpu_shared ||
                         (!ranks[i]->identity.empty() && ranks[i]->identity == ranks[j]->identity);
        }
    }
    std::sort(used.begin(), used.end());
    used.erase(std::unique(used.begin(), used.end()), used.end());
    if (shared && static_cast<int>(used.size()) < ranks.front()->node_processors) {
        warnings["shared processors"].push_back(
            cat("ranks on ", host, " share processors ", processor_ranges(used), " of ",
                ranks.front()->node_processors,
                " — they wait for each other while others idle — bind each rank to "
                "processors of its own, or none (mpirun --bind-to none)"));
    }
    if (static_cast<int>(ranks.size()) > ranks.front()->node_processors) {
        warnings["more ranks than processors"].push_back(
            cat(ranks.size(), " ranks on ", host, ", which has ", ranks.front()->node_processors,
                " processors — they take turns, and each waits for all — start "
                "fewer ranks there"));
    }
    if (gpu_shared) {
        warnings["shared GPU"].push_back(
            cat("two ranks on ", host,
                " use one GPU — each takes the other's time and memory — start one "
                "rank per GPU"));
    }
    const std::int64_t available = ranks.front()->available_bytes;
    if (available >= 0 && planned > available) {
        warnings["memory"].push_back(
            cat("the ranks on ", host, " plan ", bytes_text(planned), " of memory, ",
                bytes_text(available),
                " are available — the system may end the job — use fewer ranks "
                "there, or a smaller train.global_batch"));
    }
}

// What the kernel could still give, or what the container or job may still take (cgroup version 2,
// as seen from inside), whichever is less.
std::int64_t available_memory() {
    std::int64_t available = -1;
    std::ifstream file("/proc/meminfo");
    std::string name, unit;
    for (std::int64_t kib = 0; file >> name >> kib; std::getline(file, unit))
        if (name == "MemAvailable:") available = kib * 1024;
    std::int64_t limit = 0, used = 0;
    std::ifstream("/sys/fs/cgroup/memory.max") >> limit;  // "max": none, read as 0
    std::ifstream("/sys/fs/cgroup/memory.current") >> used;
    if (limit <= 0) return available;
    const std::int64_t left = std::max<std::int64_t>(limit - used, 0);
    return available < 0 ? left : std::min(available, left);
}

// Of the start before; 0: unknown.
std::int64_t ranks_before(const std::filesystem::path& run) {
    try {
        const io::Value file = io::parse_json(read_text(run / "environment.json"), "environment");
        const auto* object = file.get_if<io::Object>();
        const io::Value* ranks = object == nullptr ? nullptr : object->find("ranks");
        const auto* count = ranks == nullptr ? nullptr : ranks->get_if<std::int64_t>();
        return count == nullptr ? 0 : *count;
    } catch (const Error&) {
        return 0;  // the table does without
    }
}

// Every rank's, in the order of ranks. Collective.
std::vector<RankFacts> gather(exec::Backend& backend, comm::Communicator& control) {
    std::string cpus;
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
            if (CPU_ISSET(static_cast<std::size_t>(cpu), &set)) cpus += cat(cpu, " ");
    }
    std::vector<RankFacts> ranks;
    for (const auto& text :
         control.all_gather(cat(log::host(), "\t", backend.description(), "\t", cpus, "\t",
                                sysconf(_SC_NPROCESSORS_ONLN), "\t", backend.host_bytes(), "\t",
                                available_memory(), "\t", backend.identity()),
                            "devices of the ranks")) {
        const auto parts = split(text, '\t');
        RankFacts r{.host = parts.at(0),
                    .device = parts.at(1),
                    .identity = parts.at(6),
                    .processors = {},
                    .node_processors = std::stoi(parts.at(3)),
                    .planned_bytes = std::stoll(parts.at(4)),
                    .available_bytes = std::stoll(parts.at(5))};
        for (const auto& cpu : split(parts.at(2), ' '))
            if (!cpu.empty()) r.processors.push_back(std::stoi(cpu));
        ranks.push_back(r);
    }
    return ranks;
}

// Of host memory, over the control communicator's network. Collective.
double measure_bandwidth(comm::Communicator& control) {
    if (control.size() == 1) return 0;
    std::vector<float> message(2 << 20);
    constexpr int repeats = 3;
    const auto round = [&] {
        control.all_reduce(message.data(), message.size(), DType::f32, comm::ReduceOp::sum,
                           "bandwidth before the first step");
    };
    round();
    const double seconds = seconds_of([&] {
        for (int i = 0; i < repeats; ++i) round();
    });
    return repeats * 4.0 * static_cast<double>(message.size()) / std::max(seconds, 1e-9);
}

std::string data_text(const data::Manifest& m) {
    std::int64_t bytes = 0;
    for (const auto& shard : m.shards) bytes += shard.bytes;
    return cat(m.split, ": ", m.records, " images, ", m.classes.classes.size(), " classes, ",
               m.shards.size(), " shards, ", bytes_text(bytes));
}

}  // namespace

std::string processor_ranges(const std::vector<int>& processors) {
    std::string text;
    for (std::size_t i = 0; i < processors.size();) {
        std::size_t last = i;
        while (last + 1 < processors.size() && processors[last + 1] == processors[last] + 1) ++last;
        text += cat(text.empty() ? "" : ",", processors[i]);
        if (last > i) text += cat("-", processors[last]);
        i = last + 1;
    }
    return text;
}

namespace {

// The devices of all ranks in a few words.
std::string devices_text(const std::vector<RankFacts>& ranks) {
    std::set<std::string> kinds;
    for (const auto& r : ranks) kinds.insert(r.device);
    if (kinds.empty()) return "";
    return cat(*kinds.begin(), kinds.size() > 1 ? cat(" and ", kinds.size() - 1, " more") : "");
}

// Of the host that has least to spare.
std::string memory_text(const std::map<std::string, std::vector<const RankFacts*>>& hosts) {
    const std::string* tightest = nullptr;
    std::int64_t least = 0, its_planned = 0, its_available = -1;
    for (const auto& [host, ranks] : hosts) {
        std::int64_t planned = 0;
        for (const auto* r : ranks) planned += r->planned_bytes;
        const std::int64_t available = ranks.front()->available_bytes;
        if (tightest != nullptr && available - planned >= least) continue;
        tightest = &host;
        least = available - planned;
        its_planned = planned;
        its_available = available;
    }
    if (tightest == nullptr) return "";
    return cat(*tightest, "  ", bytes_text(its_planned), " planned, ", bytes_text(its_available),
               " available", hosts.size() > 1 ? "; least to spare of all hosts" : "");
}

void shorten(const PreflightFacts& facts, const Warnings& warnings,
             const std::map<std::string, std::vector<const RankFacts*>>& hosts,
             const std::vector<std::string>& common, PreflightTable& table) {
    const std::size_t ranks = facts.ranks.size();
    table.lines = {
        cat("pre-flight  ", ranks, ranks == 1 ? " rank on " : " ranks on ", hosts.size(),
            hosts.size() == 1 ? " host, " : " hosts, ", devices_text(facts.ranks)),
        cat("  memory    ", memory_text(hosts)),
    };
    table.lines.insert(table.lines.end(), common.begin(), common.end());
    if (!facts.changes.empty()) {
        table.lines.push_back(
            cat("  changed   ", facts.changes.front(),
                facts.changes.size() > 1 ? cat("; and ", facts.changes.size() - 1, " more") : ""));
    }
    table.lines.emplace_back("  details   preflight.txt and plan.txt in the run's folder");
    for (const auto& [kind, texts] : warnings) {
        if (table.told.size() == PreflightTable::most_warnings) {
            table.told.back() += cat(" (and ", warnings.size() - PreflightTable::most_warnings,
                                     " other kinds of warnings in preflight.txt)");
            break;
        }
        table.told.push_back(
            cat(texts.front(),
                texts.size() > 1 ? cat(" (and so on ", texts.size() - 1, " other hosts)") : ""));
    }
}

}  // namespace

PreflightTable preflight_table(const PreflightFacts& facts) {
    PreflightTable table;
    Warnings warnings;
    std::map<std::string, std::vector<const RankFacts*>> hosts;
    for (const auto& r : facts.ranks) hosts[r.host].push_back(&r);
    std::string& text = table.text;
    text = cat("pre-flight  ", facts.ranks.size(), " ranks on ", hosts.size(),
               hosts.size() == 1 ? " host\n" : " hosts\n");
    for (std::size_t i = 0; i < facts.ranks.size(); ++i) {
        const RankFacts& r = facts.ranks[i];
        text += cat("  rank ", i, "    ", r.host, "  ", r.device, "  processors ",
                    processor_ranges(r.processors), " of ", r.node_processors, "\n");
    }
    for (const auto& [host, ranks] : hosts) {
        std::int64_t planned = 0;
        for (const auto* r : ranks) planned += r->planned_bytes;
        text += cat("  memory    ", host, "  ", bytes_text(planned), " planned, ",
                    bytes_text(ranks.front()->available_bytes), " available\n");
        check_host(host, ranks, warnings);
    }
    std::vector<std::string> common;
    if (facts.bandwidth > 0) {
        common.push_back(
            cat("  all-reduce ", fixed(facts.bandwidth / 1e9, 2), " GB/s of host memory"));
    }
    common.push_back(cat("  data      ", facts.data));
    const CheckpointRoom& room = facts.checkpoints;
    common.push_back(cat("  checkpoint ", bytes_text(room.bytes), " each, at most ", room.at_once,
                         "; ", bytes_text(room.free), " free"));
    for (const auto& line : common) text += line + "\n";
    for (const auto& change : facts.changes) text += cat("  changed   ", change, "\n");
    if (room.free >= 0 && room.free < room.to_come) {
        warnings["checkpoints"].push_back(
            cat(bytes_text(room.free), " are free where ", room.at_once, " checkpoints of ",
                bytes_text(room.bytes), " may be kept, which need ", bytes_text(room.to_come),
                " more — one may not be written — free space, or lower checkpoint.keep"));
    }
    for (const auto& [kind, texts] : warnings)
        table.warnings.insert(table.warnings.end(), texts.begin(), texts.end());
    shorten(facts, warnings, hosts, common, table);
    return table;
}

void preflight(const Setup& setup, exec::Backend& backend, comm::Communicator& control,
               const std::filesystem::path& run, std::vector<std::string> changes) {
    const comm::Phase phase("pre-flight table");
    PreflightFacts facts;
    facts.changes = std::move(changes);
    facts.ranks = gather(backend, control);
    facts.bandwidth = measure_bandwidth(control);
    if (control.rank() != 0) return;
    facts.data = data_text(setup.train);
    if (setup.val) facts.data += cat("; ", data_text(*setup.val));
    facts.checkpoints = room_for_checkpoints(setup, run);
    const std::int64_t before = run.empty() ? 0 : ranks_before(run);
    if (before > 0 && before != control.size())
        facts.changes.push_back(cat("ranks: ", before, " -> ", control.size()));
    PreflightTable table = preflight_table(facts);
    if (run.empty())
        std::cout << table.text;
    else
        for (const auto& line : table.lines) std::cout << line << "\n";
    std::cout << std::flush;
    for (const auto& warning : run.empty() ? table.warnings : table.told) log::warn(warning);
    for (const auto& warning : table.warnings) table.text += cat("warning: ", warning, "\n");
    if (!run.empty()) write_atomically(run / "preflight.txt", table.text);
}

}  // namespace deeplab::train
