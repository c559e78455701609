#pragma once
// Hangs become errors. A thread in every rank looks at what the rank is doing (comm/activity.h);
// rank 0's hears of all of them and ends the job with exit code 4 when one
//   - has made no progress outside a collective for the limit: it is late, the others wait for it;
//   - has not answered for the limit: its process is stopped, or its machine is gone;
// or when all of them wait in collectives that long (of different names, or on a dead
// interconnect). Rank 0 itself is watched by the others. Progress is a change of phase or
// collective, or comm::beat(): a long phase of many steps must beat, one without a beat must take
// less than the limit. A job that was suspended as a whole is not late: a watchdog counts the time
// in which it ran itself.

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "deeplab/comm/activity.h"
#include "deeplab/comm/communicator.h"
#include "deeplab/comm/mailbox.h"

namespace deeplab::train {

// A rank as a watchdog sees it.
struct WatchedRank {
    std::string host;
    bool heard = false;  // it has written since the watch began
    comm::Activity activity;
    double idle_s = 0;    // without progress, when it last wrote
    double silent_s = 0;  // since then; 0 for the watchdog's own rank
    bool done = false;    // has come to the run's end
};

// Who is late, where, and who waits for it; empty while there is nothing to say.
std::string late_ranks(const std::vector<WatchedRank>& ranks, double limit_s);

// Watches while an object lives. Construction and destruction are collective over `control`, but
// while an exception unwinds the destructor waits for nobody. limit_s: the largest of the ranks'
// counts; 0: does nothing.
class Watchdog {
public:
    Watchdog(comm::Communicator& control, double limit_s);
    ~Watchdog();
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;

private:
    enum class Wish { watch, close, leave };

    void watch();
    bool sleep();  // false: leave at once
    void look_at_myself();
    void read_letters();
    void write_letters(bool closing);
    bool closed() const;
    void judge();
    double since(double moment) const { return clock_s_ - moment; }

    const double limit_s_, period_s_;
    const int rank_;
    std::unique_ptr<comm::Mailbox> mailbox_;  // empty: this rank watches itself alone

    // Of the thread.
    double clock_s_ = 0;  // in which it ran
    double progress_s_ = 0;
    std::vector<WatchedRank> ranks_;  // of other ranks than 0: their own entry and rank 0's count
    std::vector<double> heard_s_;
    bool told_done_ = false;

    std::mutex mutex_;
    std::condition_variable wake_;
    Wish wish_ = Wish::watch;
    std::thread thread_;
};

}  // namespace deeplab::train
