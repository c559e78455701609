#pragma once
// Attributes a thread's CPU time to stages, without gaps: each mark takes what passed since the
// last.

#include <ctime>

#include "deeplab/data/loader.h"

namespace deeplab::data {

class StageClock {
public:
    StageClock() : last_(now()) {}

    void mark(Stage stage) {
        const double time = now();
        times_.cpu_s[static_cast<std::size_t>(stage)] += time - last_;
        last_ = time;
    }
    // What was marked since the last call.
    StageTimes take() {
        const StageTimes taken = times_;
        times_ = StageTimes{};
        return taken;
    }

private:
    // Seconds. Other work on the machine does not count, sleeping does not either; a call costs
    // some hundred nanoseconds.
    static double now() {
        timespec t{};
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
    }

    double last_;
    StageTimes times_;
};

}  // namespace deeplab::data
