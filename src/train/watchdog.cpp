#include "deeplab/train/watchdog.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <map>

#include "deeplab/base/clock.h"
#include "deeplab/base/error.h"
#include "deeplab/base/log.h"
#include "deeplab/base/text.h"

namespace deeplab::train {

namespace {
constexpr std::size_t ranks_named = 8;

std::string rank_list(const std::vector<std::size_t>& ranks) {
    std::string text = ranks.size() == 1 ? "rank" : "ranks";
    for (std::size_t i = 0; i < std::min(ranks.size(), ranks_named); ++i)
        text += cat(i == 0 ? " " : ", ", ranks[i]);
    if (ranks.size() > ranks_named) text += cat(" and ", ranks.size() - ranks_named, " more");
    return text;
}

std::string place(const comm::Activity& a) {
    const std::string phase = cat("'", a.phase.empty() ? "start-up" : a.phase, "'",
                                  a.step > 0 ? cat(" of step ", a.step) : "");
    return a.collective.empty() ? phase : cat("'", a.collective, "' (", phase, ")");
}

std::string to_letter(const WatchedRank& rank) {
    const comm::Activity& a = rank.activity;
    return cat(rank.idle_s, "\n", a.step, "\n", rank.done ? 1 : 0, "\n", rank.host, "\n", a.phase,
               "\n", a.collective);
}

WatchedRank from_letter(const std::string& text) {
    const auto fields = split(text, '\n');
    expects(fields.size() >= 6, "a watchdog's letter has six fields");
    WatchedRank rank;
    rank.idle_s = std::stod(fields[0]);
    rank.activity.step = std::stoll(fields[1]);
    rank.done = fields[2] == "1";
    rank.host = fields[3];
    rank.heard = true;
    rank.activity.phase = fields[4];
    rank.activity.collective = fields[5];
    return rank;
}

std::string name_of(std::size_t rank, const WatchedRank& state) {
    return cat("rank ", rank, " @ ", state.host);
}

// Ranks may not have been asked yet whether they have the same configuration.
double largest(comm::Communicator& control, double limit_s) {
    control.all_reduce(&limit_s, 1, DType::f64, comm::ReduceOp::max, "limit of the watchdog");
    return limit_s;
}

// Those that wait, by what they wait in.
std::string waiting(const std::vector<WatchedRank>& ranks) {
    std::map<std::string, std::vector<std::size_t>> by_place;
    for (std::size_t i = 0; i < ranks.size(); ++i) {
        if (!ranks[i].activity.collective.empty()) by_place[place(ranks[i].activity)].push_back(i);
    }
    std::string text;
    for (const auto& [where, who] : by_place)
        text += cat("; ", rank_list(who), who.size() == 1 ? " waits in " : " wait in ", where);
    return text;
}

}  // namespace

std::string late_ranks(const std::vector<WatchedRank>& ranks, double limit_s) {
    std::string late;
    bool all_wait = true;
    double shortest_wait_s = 1e30;
    std::vector<WatchedRank> others = ranks;
    for (std::size_t i = 0; i < ranks.size(); ++i) {
        const WatchedRank& rank = ranks[i];
        const bool inside = !rank.activity.collective.empty();
        const bool silent = rank.silent_s > limit_s && !rank.done;
        if (silent) {
            late += cat(late.empty() ? "" : "; ", name_of(i, rank), " has not answered for ",
                        human_seconds(rank.silent_s),
                        rank.heard ? cat(", last seen in ", place(rank.activity)) : "");
        } else if (!inside && rank.idle_s > limit_s) {
            late += cat(late.empty() ? "" : "; ", name_of(i, rank), " has been in ",
                        place(rank.activity), " for ", human_seconds(rank.idle_s));
        }
        if (silent) others[i].activity.collective.clear();
        all_wait = all_wait && inside;
        shortest_wait_s = std::min(shortest_wait_s, rank.idle_s);
    }
    if (late.empty() && all_wait && shortest_wait_s > limit_s)
        late = cat("all ranks have waited for each other for ", human_seconds(shortest_wait_s));
    return late.empty() ? "" : late + waiting(others);
}

Watchdog::Watchdog(comm::Communicator& control, double limit_s)
    : limit_s_(largest(control, limit_s)),
      period_s_(std::clamp(limit_s_ / 10, 0.05, 5.0)),
      rank_(control.rank()) {
    if (limit_s_ <= 0) return;
    mailbox_ = comm::make_mailbox(control);
    if (!mailbox_ && control.size() > 1 && rank_ == 0) {
        log::warn(
            "this MPI library allows no calls from several threads — the watchdog of a rank cannot "
            "say what the others do — use a library with MPI_THREAD_MULTIPLE");
    }
    ranks_.resize(mailbox_ ? static_cast<std::size_t>(control.size()) : 1);
    heard_s_.resize(ranks_.size(), 0);
    // A rank that stops before its first letter has a name too.
    const std::vector<std::string> hosts = control.all_gather(log::host(), "hosts of the ranks");
    for (std::size_t i = 0; i < ranks_.size(); ++i)
        ranks_[i].host = hosts[mailbox_ ? i : static_cast<std::size_t>(rank_)];
    thread_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
    if (!thread_.joinable()) return;
    const comm::Collective inside("end of the run");
    {
        const std::lock_guard lock(mutex_);
        wish_ = std::uncaught_exceptions() > 0 || !mailbox_ ? Wish::leave : Wish::close;
    }
    wake_.notify_all();
    thread_.join();
}

void Watchdog::watch() {
    try {
        while (sleep()) {
            bool closing = false;
            {
                const std::lock_guard lock(mutex_);
                closing = wish_ == Wish::close;
            }
            look_at_myself();
            if (mailbox_) {
                read_letters();
                write_letters(closing);
                if (closing && closed()) return;
            }
            judge();
        }
    } catch (const std::exception& error) {
        log::warn(cat("the watchdog of this rank ends: ", error.what()));
    }
}

bool Watchdog::sleep() {
    const Clock::time_point start = Clock::now();
    std::unique_lock lock(mutex_);
    const Wish before = wish_;
    // The end is near and the others are waiting: no long naps.
    const double nap_s = before == Wish::close ? 0.002 : period_s_;
    wake_.wait_for(lock, std::chrono::duration<double>(nap_s), [&] { return wish_ != before; });
    const double slept_s = seconds_since(start);
    // More than that, and the process was stopped: nobody else's fault.
    clock_s_ += std::min(slept_s, 3 * period_s_);
    return wish_ != Wish::leave;
}

void Watchdog::look_at_myself() {
    WatchedRank& own = ranks_[mailbox_ ? static_cast<std::size_t>(rank_) : 0];
    comm::Activity now = comm::activity();
    if (now.beats != own.activity.beats || !own.heard) progress_s_ = clock_s_;
    own.activity = std::move(now);
    own.heard = true;
    own.idle_s = since(progress_s_);
}

void Watchdog::read_letters() {
    for (const comm::Letter& letter : mailbox_->receive()) {
        const auto from = static_cast<std::size_t>(letter.from);
        ranks_[from] = from_letter(letter.text);
        heard_s_[from] = clock_s_;
    }
    for (std::size_t i = 0; i < ranks_.size(); ++i) {
        if (static_cast<int>(i) != rank_) ranks_[i].silent_s = since(heard_s_[i]);
    }
}

// Done is a rank's last letter. Rank 0's comes after all others': when they have it, nothing is
// under way any more.
void Watchdog::write_letters(bool closing) {
    WatchedRank& own = ranks_[static_cast<std::size_t>(rank_)];
    if (told_done_) return;
    if (rank_ != 0) {
        WatchedRank letter = own;
        letter.done = closing;
        told_done_ = mailbox_->send(0, to_letter(letter)) && closing;
        return;
    }
    own.done = closing && std::all_of(ranks_.begin() + 1, ranks_.end(),
                                      [](const WatchedRank& rank) { return rank.done; });
    bool all_sent = true;
    for (int to = 1; to < mailbox_->size(); ++to)
        all_sent = mailbox_->send(to, to_letter(own)) && all_sent;
    told_done_ = own.done && all_sent;
}

bool Watchdog::closed() const { return told_done_ && ranks_.front().done; }

void Watchdog::judge() {
    std::vector<WatchedRank> seen = ranks_;
    double limit_s = limit_s_;
    if (mailbox_ && rank_ != 0) {
        // Rank 0 speaks for all while it answers.
        if (ranks_.front().silent_s <= limit_s_ + 3 * period_s_) return;
        limit_s += 3 * period_s_;
        for (std::size_t i = 1; i < seen.size(); ++i) {
            if (static_cast<int>(i) == rank_) continue;
            seen[i] = {};
            seen[i].done = true;  // not heard of, and not looked at
        }
    }
    const std::string late = late_ranks(seen, limit_s);
    if (late.empty()) return;
    // One of those that see a silent rank 0 should speak: the job ends with the first.
    if (rank_ > 1) std::this_thread::sleep_for(std::chrono::milliseconds(400));
    log::error(cat(late, " — nothing has gone on for longer than train.watchdog_s = ", limit_s_,
                   " — look at the host, the device and the file system of the late rank, then "
                   "start again with --resume; a step that really takes longer needs a larger "
                   "train.watchdog_s"));
    comm::abort_job(static_cast<int>(ExitCode::device));
}

}  // namespace deeplab::train
